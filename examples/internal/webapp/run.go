// Package webapp is the application of examples/weblogin, which has one copy of it,
// and of examples/cluster, which has several.
package webapp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
)

// Run serves the application at addr until ctx ends. It is configured by the
// environment, see the comment of examples/weblogin, and then by change, unless that
// is nil. It tells on out where it can be reached.
func Run(ctx context.Context, addr string, getenv func(string) string, out io.Writer, change func(*shangcloud.Config)) error {
	config, err := configFromEnv(getenv)
	if err != nil {
		return err
	}
	if change != nil {
		change(&config)
	}

	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w\nchoose another address with -addr; -addr 127.0.0.1:0 takes a free port", err)
	}
	defer listener.Close()
	if config.RedirectURL == "" {
		if tcp, ok := listener.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && !tcp.IP.IsUnspecified() {
			return fmt.Errorf("%s is not a loopback address, and a login needs https elsewhere: set SHANGCLOUD_REDIRECT_URL to the https address that a proxy in front serves, or listen on 127.0.0.1", listener.Addr())
		}
		config.RedirectURL = "http://" + reachable(listener.Addr()) + "/callback"
	}

	demo := config.ClientID == ""
	if demo {
		platform, err := startDemoPlatform(&config)
		if err != nil {
			return err
		}
		defer platform.Close()
	}
	site, err := newApp(config, demo)
	if err != nil {
		return err
	}

	fmt.Fprintf(out, "Open      %s\n", site.home())
	if own := reachable(listener.Addr()); site.redirect.Host != own {
		fmt.Fprintf(out, "Listening %s (the redirect URL leads elsewhere: to a proxy in front, I hope)\n", own)
	}
	if demo {
		fmt.Fprintf(out, "Platform  a demo inside this program, %s\n", config.BaseURL)
		fmt.Fprintf(out, "          (set SHANGCLOUD_CLIENT_ID and SHANGCLOUD_CLIENT_SECRET for the real one)\n")
	} else {
		fmt.Fprintf(out, "Platform  ShangCloud, %s\n", site.base)
		fmt.Fprintf(out, "Redirect  %s (has to be registered in the developer console)\n", config.RedirectURL)
	}
	fmt.Fprintf(out, "Stop      Ctrl-C\n")
	return serve(ctx, listener, site)
}

// configFromEnv returns an empty ClientID if nothing is set.
func configFromEnv(getenv func(string) string) (shangcloud.Config, error) {
	config := shangcloud.Config{
		ClientID:     getenv("SHANGCLOUD_CLIENT_ID"),
		ClientSecret: getenv("SHANGCLOUD_CLIENT_SECRET"),
		RedirectURL:  getenv("SHANGCLOUD_REDIRECT_URL"),
		BaseURL:      getenv("SHANGCLOUD_BASE_URL"),
		Scopes:       []string{shangcloud.ScopeUserBasic, shangcloud.ScopeVariables},
	}
	switch {
	case config.ClientID+config.ClientSecret+config.RedirectURL+config.BaseURL == "":
	case config.ClientID == "":
		return config, errors.New("SHANGCLOUD_CLIENT_ID is not set, but other SHANGCLOUD_ variables are: set it, or none of them for the demo platform")
	case config.ClientSecret == "":
		return config, errors.New("SHANGCLOUD_CLIENT_SECRET is not set, but SHANGCLOUD_CLIENT_ID is: set both, or neither for the demo platform")
	}
	return config, nil
}

// reachable is addr as a browser on this machine opens it.
func reachable(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
	}
	return addr.String()
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close()
	}
	return nil
}
