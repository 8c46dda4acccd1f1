// Package webapp is the application of examples/weblogin, which has one copy of it,
// and of examples/cluster, which has several.
package webapp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

// settings are those of the environment: see the comment of examples/weblogin.
type settings struct {
	oauth2.Config
	baseURL string
}

// Run serves the application at addr until ctx ends. The environment configures it, and
// options, which may be nil. It prints to out where it can be reached.
func Run(ctx context.Context, addr string, getenv func(string) string, out io.Writer, options *oauth2login.Options) error {
	config, err := settingsFromEnv(getenv)
	if err != nil {
		return err
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
	site, err := newApp(config, options, demo)
	if err != nil {
		return err
	}

	fmt.Fprintf(out, "Open      %s\n", site.home())
	if own := reachable(listener.Addr()); site.redirect.Host != own {
		fmt.Fprintf(out, "Listening %s (the redirect URL leads elsewhere: to a proxy in front, I hope)\n", own)
	}
	if demo {
		fmt.Fprintf(out, "Platform  a demo inside this program, %s\n", config.baseURL)
		fmt.Fprintf(out, "          (set SHANGCLOUD_CLIENT_ID and SHANGCLOUD_CLIENT_SECRET for the real one)\n")
	} else {
		fmt.Fprintf(out, "Platform  ShangCloud, %s\n", site.base)
		fmt.Fprintf(out, "Redirect  %s (has to be registered in the developer console)\n", config.RedirectURL)
	}
	fmt.Fprintf(out, "Stop      Ctrl-C\n")
	if err := serve(ctx, listener, site); err != nil {
		return err
	}
	// No request is under way any more. A token may be: what was sent is waited for.
	ctx, cancel := context.WithTimeout(context.Background(), shutdownLimit)
	defer cancel()
	return site.provider.Shutdown(ctx)
}

// shutdownLimit is longer than a request to the platform may take, and a save after it.
const shutdownLimit = 20 * time.Second

// settingsFromEnv returns an empty ClientID if nothing is set.
func settingsFromEnv(getenv func(string) string) (settings, error) {
	s := settings{oauth2.Config{
		ClientID:     getenv("SHANGCLOUD_CLIENT_ID"),
		ClientSecret: getenv("SHANGCLOUD_CLIENT_SECRET"),
		RedirectURL:  getenv("SHANGCLOUD_REDIRECT_URL"),
		Scopes:       []string{shangcloud.ScopeUserBasic, shangcloud.ScopeVariables},
	}, getenv("SHANGCLOUD_BASE_URL")}
	switch {
	case s.ClientID+s.ClientSecret+s.RedirectURL+s.baseURL == "":
	case s.ClientID == "":
		return s, errors.New("SHANGCLOUD_CLIENT_ID is not set, but other SHANGCLOUD_ variables are: set it, or none of them for the demo platform")
	case s.ClientSecret == "":
		return s, errors.New("SHANGCLOUD_CLIENT_SECRET is not set, but SHANGCLOUD_CLIENT_ID is: set both, or neither for the demo platform")
	}
	s.baseURL = cmp.Or(s.baseURL, shangcloud.DefaultBaseURL)
	return s, nil
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
