// This program tests the released root module alone: one login.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"golang.org/x/oauth2"
)

func main() {
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()
	platform, err := shangcloudtest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	defer platform.Close()
	platform.AddClient(shangcloudtest.Client{ID: "app", Secret: "s3cret", RedirectURIs: []string{app.URL + "/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小云"})
	platform.AutoApprove(10001)

	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "app", ClientSecret: "s3cret",
		RedirectURL: app.URL + "/callback", Endpoint: shangcloud.EndpointAt(platform.URL),
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	tokens := new(tokenstore.Memory)
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		if err := provider.StartLogin(w, r); err != nil {
			log.Fatal(err)
		}
	})
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		login, err := provider.FinishLogin(w, r)
		if err != nil {
			log.Fatal(err)
		}
		user, err := provider.API(oauth2.StaticTokenSource(login.Token)).UserInfo(r.Context())
		if err = errors.Join(err, provider.StoredTokens(tokens).SetToken(r.Context(), login.Token)); err != nil {
			log.Fatal(err)
		}
		fmt.Fprintln(w, user.ID, user.Nickname)
	})

	jar, _ := cookiejar.New(nil)
	res, err := (&http.Client{Jar: jar}).Get(app.URL + "/login")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err = errors.Join(err, provider.Shutdown(context.Background())); err != nil {
		log.Fatal(err)
	}
	if string(page) != "10001 小云\n" {
		log.Fatalf("the page says %q", page)
	}
}
