// Gin logs users in with ShangCloud on github.com/gin-gonic/gin.
//
//	go -C examples/routers run ./gin [-addr 127.0.0.1:8080]
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
	"github.com/gin-gonic/gin"
	"golang.org/x/oauth2"
)

func main() {
	site := serve.Start(&oauth2.Config{ClientID: os.Getenv("SHANGCLOUD_CLIENT_ID"), ClientSecret: os.Getenv("SHANGCLOUD_CLIENT_SECRET"), RedirectURL: "http://127.0.0.1:8080/callback"})
	p, err := shangcloud.New(site.Config, nil)
	site.Run(p, err, routes) // until Ctrl-C, and then p.Shutdown
}

func routes(p *shangcloud.Provider) http.Handler {
	router := gin.New() // gin.Default would log the callback's query: a code and a state
	router.GET("/", gin.WrapF(serve.Home))
	router.GET("/login", func(c *gin.Context) {
		if err := p.StartLogin(c.Writer, c.Request, oauth2login.WithReturnTo(c.Query("next"))); err != nil {
			c.String(http.StatusServiceUnavailable, "please try again in a minute")
		}
	})
	router.GET("/callback", func(c *gin.Context) {
		if login, err := p.FinishLogin(c.Writer, c.Request); err == nil {
			// Start your session. p.API(p.TokenSource(login.Token)).UserInfo says who the user is.
			c.Redirect(http.StatusSeeOther, login.ReturnTo)
		} else if errors.Is(err, oauth2login.ErrUnavailable) || errors.Is(err, oauth2login.ErrStateStore) {
			c.String(http.StatusServiceUnavailable, "please try again in a minute")
		} else {
			c.String(http.StatusForbidden, "not logged in: please start again at /login")
		}
	})
	return router
}
