// Package main runs parts of programs in the documentation. This file declares what the
// parts need.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	gothshangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2/integrations/goth"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v5"
	"github.com/markbates/goth"
	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"
	_ "modernc.org/sqlite"
)

// The parts use these variables as if the application had defined them.
var (
	ctx              = context.Background()
	id, secret       = "app", "s3cret"
	connectKey       = "of a room"
	dsn, key, oldKey = "", make([]byte, 32), make([]byte, 32)
	mux              = http.NewServeMux()
	w                = http.ResponseWriter(httptest.NewRecorder())
	r                = httptest.NewRequest("GET", "/", nil)
	conf             = &oauth2.Config{}
	shared           = &oauth2login.Options{}
	states           state.Store
	tokens           *sqlstore.Tokens
	client           *redis.Client
	store            oauth2login.TokenStore = new(tokenstore.Memory)
	router           chi.Router
	engine           *gin.Engine
	e                *echo.Echo
	platform         = startPlatform()
	provider         = newProvider()
	user             = &shangcloud.UserInfo{ID: 10001}
	token            = issueTo(10001)
	p                = gothshangcloud.New(provider)
	gothUser         goth.User
	login            = &oauth2login.Login{Token: token, ReturnTo: "/"}
	src              = provider.TokenSource(token)
	api              = provider.API(src)
	friend           = provider.API(oauth2.StaticTokenSource(issueTo(10002)))
)

// parts are the parts of programs to run.
var parts []func() error

func startPlatform() *shangcloudtest.Server {
	s, err := shangcloudtest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	s.AddClient(shangcloudtest.Client{ID: id, Secret: secret, RedirectURIs: []string{"https://app.example/callback"}})
	s.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明"})
	s.AddUser(shangcloudtest.User{ID: 10002, Nickname: "Ada"})
	edge, err := mmotest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	s.SetEdge(edge)
	s.SetVariable(10001, "theme", "dark")
	s.Configure(func(s *shangcloudtest.Settings) { s.DeviceInterval = time.Second })
	return s
}

func newProvider() *shangcloud.Provider {
	p, err := shangcloud.New(&oauth2.Config{
		ClientID: id, ClientSecret: secret, RedirectURL: "https://app.example/callback",
		Endpoint: shangcloud.EndpointAt(platform.URL),
	}, &oauth2login.Options{HTTPClient: &http.Client{Transport: quickUser{}}})
	if err != nil {
		log.Fatal(err)
	}
	return p
}

// quickUser allows device logins as soon as they start.
type quickUser struct{}

func (quickUser) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil || req.URL.Path != "/oauth/device_authorization" {
		return res, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	var answer struct {
		UserCode string `json:"user_code"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	return res, platform.ApproveDevice(answer.UserCode, 10001)
}

func issueTo(uid int64) *oauth2.Token {
	access, refresh := platform.Issue(id, uid, "user:basic", "var:io", "mmo")
	return &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now().Add(time.Hour)}
}

func main() {
	if len(parts) == 0 {
		log.Fatal("there is nothing to run")
	}
	for _, part := range parts {
		if err := part(); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("done")
}
