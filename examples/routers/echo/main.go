// Echo logs users in with ShangCloud on github.com/labstack/echo.
package main

import (
	"errors"
	"log"
	"net/http"
	"os"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/labstack/echo/v5"
)

func main() {
	p, err := shangcloud.New(shangcloud.Config{ClientID: os.Getenv("SHANGCLOUD_CLIENT_ID"), ClientSecret: os.Getenv("SHANGCLOUD_CLIENT_SECRET"), RedirectURL: "http://127.0.0.1:8080/callback"})
	if err == nil {
		err = http.ListenAndServe("127.0.0.1:8080", routes(p))
	}
	log.Fatal(err)
}

func routes(p *shangcloud.Provider) http.Handler {
	e := echo.New()
	e.GET("/login", func(c *echo.Context) error {
		if err := p.StartLogin(c.Response(), c.Request(), shangcloud.WithReturnTo(c.QueryParam("next"))); err != nil {
			return c.String(http.StatusServiceUnavailable, "please try again in a minute")
		}
		return nil
	})
	e.GET("/callback", func(c *echo.Context) error {
		if login, err := p.FinishLogin(c.Response(), c.Request()); err == nil {
			return c.Redirect(http.StatusSeeOther, login.ReturnTo) // after the start of a session of yours
		} else if errors.Is(err, shangcloud.ErrUnavailable) || errors.Is(err, shangcloud.ErrStateStore) {
			return c.String(http.StatusServiceUnavailable, "please try again in a minute")
		}
		return c.String(http.StatusForbidden, "not logged in: please start again at /login")
	})
	return e
}
