// Multiprovider is a small web application with a table of x/oauth2 providers. Users sign
// in with GitHub, Google or ShangCloud, and link the other providers to the same account.
//
//	go run ./examples/multiprovider [-addr 127.0.0.1:8080] [-url https://app.example]
//
// It needs no account and no network: for a provider without settings, the program runs a
// stand-in itself. These settings select the real provider:
//
//	GITHUB_CLIENT_ID      GITHUB_CLIENT_SECRET
//	GOOGLE_CLIENT_ID      GOOGLE_CLIENT_SECRET
//	SHANGCLOUD_CLIENT_ID  SHANGCLOUD_CLIENT_SECRET
//	SHANGCLOUD_BASE_URL   another deployment of ShangCloud; if unset, the public one
//
// The redirect URLs to register are http://127.0.0.1:8080/callback/github and so on.
// Behind a proxy that speaks https, -url is the address that browsers open.
//
// The table is in providers.go. Each row has an oauth2.Config and a function that asks
// who the user is. The login in login.go is the same for all rows, because package
// oauth2login does it. accounts.go stores which identity belongs to which account.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on; port 0 is a free one")
	home := flag.String("url", "", "the `address` that browsers reach, if there is a proxy in front")
	flag.Parse()
	if err := run(serve.Signal(), *addr, *home, os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "multiprovider:", err)
		os.Exit(1)
	}
}

// run serves the application until ctx ends.
func run(ctx context.Context, addr, home string, getenv func(string) string, out io.Writer) error {
	listener, err := serve.Listen(addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	if home == "" {
		home = "http://" + serve.Reachable(listener.Addr())
	}
	if home, err = checkHome(home); err != nil {
		return err
	}

	rows := table()
	if err := configure(rows, home, getenv); err != nil {
		return err
	}
	stop, err := startStandIns(rows)
	if err != nil {
		return err
	}
	defer stop()

	site, err := newApp(home, rows)
	if err != nil {
		return err
	}

	fmt.Fprintf(out, "Open        %s/\n", home)
	for _, p := range rows {
		if p.StandIn {
			fmt.Fprintf(out, "%-11s a stand-in inside this program, %s (%s_CLIENT_ID is not set)\n", p.Name, origin(p.API), strings.ToUpper(p.ID))
		} else {
			fmt.Fprintf(out, "%-11s %s; redirect URL: %s\n", p.Name, origin(p.Config.Endpoint.AuthURL), p.Config.RedirectURL)
		}
	}
	fmt.Fprintln(out, "Stop        Ctrl-C")
	return serve.On(ctx, listener, site, site.shutdown)
}

// checkHome checks the application's address, and removes a slash at its end.
func checkHome(home string) (string, error) {
	if !secure(home) {
		return "", fmt.Errorf("%s is not a loopback address, and a login needs https elsewhere: say with -url which https address a proxy in front serves, or listen on 127.0.0.1", home)
	}
	u, err := url.Parse(home)
	if err != nil || strings.Trim(u.Path, "/") != "" || strings.ContainsAny(home, "?#") {
		return "", errors.New("-url has to be a scheme and a host, as in https://app.example")
	}
	host := strings.ToLower(u.Host)
	if u.Scheme == "http" {
		host = strings.TrimSuffix(host, ":80") // browsers omit the default port
	}
	return u.Scheme + "://" + host, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}
