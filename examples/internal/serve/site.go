package serve

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/demo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"golang.org/x/oauth2"
)

// defaultAddr is where a program listens behind a proxy.
const defaultAddr = "127.0.0.1:8080"

// Site is a running program of examples/routers. Without a client ID, the program uses a
// stand-in for ShangCloud that it runs itself.
type Site struct {
	Config *oauth2.Config // for shangcloud.New

	home     string // its first page, as a browser opens it
	listener net.Listener
	platform *shangcloudtest.Server // nil: the real one
}

// Start listens on the host of conf.RedirectURL. The flag -addr names another address,
// which then replaces the host in the redirect URL.
//
// An https redirect URL belongs to a proxy in front, and does not change. Start then
// listens on -addr, or on defaultAddr. If Start fails, it logs the error and exits.
func Start(conf *oauth2.Config) *Site {
	addr := flag.String("addr", "", "`host:port` to listen on; port 0 is a free one")
	flag.Parse()
	s, err := start(conf, *addr)
	if err != nil {
		log.Fatal(err)
	}
	return s
}

func start(conf *oauth2.Config, addr string) (*Site, error) {
	if conf.ClientID == "" && conf.ClientSecret != "" {
		return nil, errors.New("SHANGCLOUD_CLIENT_ID is not set, but SHANGCLOUD_CLIENT_SECRET is: set both, or neither for a platform inside this program")
	}
	redirect, err := url.Parse(conf.RedirectURL)
	if err != nil {
		return nil, err
	}
	direct := redirect.Scheme == "http"
	if addr == "" && direct {
		addr = redirect.Host
	}
	s := &Site{Config: conf}
	if s.listener, err = Listen(cmp.Or(addr, defaultAddr)); err != nil {
		return nil, err
	}
	if direct {
		redirect.Host = Reachable(s.listener.Addr())
		conf.RedirectURL = redirect.String()
	}
	s.home = redirect.ResolveReference(&url.URL{Path: "./"}).String()
	if conf.ClientID == "" {
		s.platform, err = demo.Start(conf)
	}
	return s, err
}

// Run serves routes until the program is told to stop. p and err are the results of
// shangcloud.New.
func (s *Site) Run(p *shangcloud.Provider, err error, routes func(*shangcloud.Provider) http.Handler) {
	if err == nil {
		fmt.Println("Open", s.home)
		err = On(Signal(), s.listener, routes(p), p.Shutdown)
	}
	if s.platform != nil {
		err = errors.Join(err, s.platform.Close())
	}
	if err != nil {
		log.Fatal(err)
	}
}

// Home is the first page of a router example, and the page that its login leads back to.
func Home(w http.ResponseWriter, r *http.Request) {
	text := `<a href="/login?next=/%3Fdone">Sign in with ShangCloud</a>`
	if r.URL.Query().Has("done") {
		text = `The login is done. In the callback, a session of yours would begin. <a href="/">Again</a>`
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<!DOCTYPE html>\n<html lang=\"en\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>Login</title>\n<p>%s</p>\n", text)
}
