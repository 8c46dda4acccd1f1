// Chi logs users in with ShangCloud on github.com/go-chi/chi.
//
//	go -C examples/routers run ./chi [-addr 127.0.0.1:8080]
//
// Without SHANGCLOUD_CLIENT_ID and SHANGCLOUD_CLIENT_SECRET, the program uses a stand-in
// for ShangCloud that it runs itself. To use the real platform, register
// http://127.0.0.1:8080/callback there.
package main

import (
	"errors"
	"net/http"
	"os"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/go-chi/chi/v5"
	"golang.org/x/oauth2"
)

func main() {
	site := serve.Start(&oauth2.Config{ClientID: os.Getenv("SHANGCLOUD_CLIENT_ID"), ClientSecret: os.Getenv("SHANGCLOUD_CLIENT_SECRET"), RedirectURL: "http://127.0.0.1:8080/callback"})
	p, err := shangcloud.New(site.Config, nil)
	site.Run(p, err, routes) // until Ctrl-C, and then p.Shutdown
}

func routes(p *shangcloud.Provider) http.Handler {
	router := chi.NewRouter()
	router.Get("/", serve.Home)
	router.Get("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := p.StartLogin(w, r, oauth2login.WithReturnTo(r.FormValue("next"))); err != nil {
			http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
		}
	})
	router.Get("/callback", func(w http.ResponseWriter, r *http.Request) {
		if login, err := p.FinishLogin(w, r); err == nil {
			// Start your session. p.API(p.TokenSource(login.Token)).UserInfo says who the user is.
			http.Redirect(w, r, login.ReturnTo, http.StatusSeeOther)
		} else if errors.Is(err, oauth2login.ErrUnavailable) || errors.Is(err, oauth2login.ErrStateStore) {
			http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
		} else {
			http.Error(w, "not logged in: please start again at /login", http.StatusForbidden)
		}
	})
	return router
}
