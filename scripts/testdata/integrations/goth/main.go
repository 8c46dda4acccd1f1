// This program tests the released module integrations/goth alone: one login with gothic's
// handlers.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	gothshangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2/integrations/goth"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/gorilla/sessions"
	"github.com/markbates/goth"
	"github.com/markbates/goth/gothic"
	"golang.org/x/oauth2"
)

func main() {
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()
	callback := app.URL + "/auth/shangcloud/callback"
	platform, err := shangcloudtest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	defer platform.Close()
	platform.AddClient(shangcloudtest.Client{ID: "app", Secret: "s3cret", RedirectURIs: []string{callback}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小云"})
	platform.AutoApprove(10001)

	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "app", ClientSecret: "s3cret",
		RedirectURL: callback, Endpoint: shangcloud.EndpointAt(platform.URL),
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	goth.UseProviders(gothshangcloud.New(provider))
	store := sessions.NewCookieStore([]byte("32 random bytes from your settings"))
	store.Options = &sessions.Options{Path: "/", MaxAge: 300, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	gothic.Store = store
	handle := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, oauth2login.NavigationsOnly(h)) }
	handle("GET /auth/{provider}", gothic.BeginAuthHandler)
	handle("GET /auth/{provider}/callback", func(w http.ResponseWriter, r *http.Request) {
		user, err := gothic.CompleteUserAuth(w, r)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprintln(w, user.UserID, user.NickName)
	})

	jar, _ := cookiejar.New(nil)
	res, err := (&http.Client{Jar: jar}).Get(app.URL + "/auth/shangcloud")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	if page, err := io.ReadAll(res.Body); err != nil || string(page) != "10001 小云\n" {
		log.Fatalf("the page says %q: %v", page, err)
	}
}
