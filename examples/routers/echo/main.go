// Echo logs users in with ShangCloud on github.com/labstack/echo.
//
//	go -C examples/routers run ./echo [-addr 127.0.0.1:8080]
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
	"github.com/labstack/echo/v5"
	"golang.org/x/oauth2"
)

func main() {
	site := serve.Start(&oauth2.Config{ClientID: os.Getenv("SHANGCLOUD_CLIENT_ID"), ClientSecret: os.Getenv("SHANGCLOUD_CLIENT_SECRET"), RedirectURL: "http://127.0.0.1:8080/callback"})
	p, err := shangcloud.New(site.Config, nil)
	site.Run(p, err, routes) // until Ctrl-C, and then p.Shutdown
}

func routes(p *shangcloud.Provider) http.Handler {
	e := echo.New()
	e.GET("/", echo.WrapHandler(http.HandlerFunc(serve.Home)))
	e.GET("/login", func(c *echo.Context) error {
		if err := p.StartLogin(c.Response(), c.Request(), oauth2login.WithReturnTo(c.QueryParam("next"))); err != nil {
			return c.String(http.StatusServiceUnavailable, "please try again in a minute")
		}
		return nil
	})
	e.GET("/callback", func(c *echo.Context) error {
		if login, err := p.FinishLogin(c.Response(), c.Request()); err == nil {
			return c.Redirect(http.StatusSeeOther, login.ReturnTo) // start your session before this
		} else if errors.Is(err, oauth2login.ErrUnavailable) || errors.Is(err, oauth2login.ErrStateStore) {
			return c.String(http.StatusServiceUnavailable, "please try again in a minute")
		}
		return c.String(http.StatusForbidden, "not logged in: please start again at /login")
	})
	return e
}
