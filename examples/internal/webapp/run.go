// Package webapp is the application that two examples run: examples/weblogin runs one
// copy of it, examples/cluster several.
package webapp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/demo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

// settings come from the environment: see the comment of examples/weblogin.
type settings struct {
	oauth2.Config
	baseURL string
	dataDir string
}

// Run serves the application at addr until ctx ends. The environment and options
// configure the application. options may be nil. Run prints the application's address to
// out.
func Run(ctx context.Context, addr string, getenv func(string) string, out io.Writer, options *oauth2login.Options) error {
	config, err := settingsFromEnv(getenv)
	if err != nil {
		return err
	}
	listener, err := serve.Listen(addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	if config.RedirectURL == "" {
		if tcp, ok := listener.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && !tcp.IP.IsUnspecified() {
			return fmt.Errorf("%s is not a loopback address, and a login needs https elsewhere: set SHANGCLOUD_REDIRECT_URL to the https address that a proxy in front serves, or listen on 127.0.0.1", listener.Addr())
		}
		config.RedirectURL = "http://" + serve.Reachable(listener.Addr()) + "/callback"
	}

	inside := config.ClientID == ""
	if inside {
		config.ClientID = "weblogin"
		platform, err := demo.Start(&config.Config)
		if err != nil {
			return err
		}
		defer platform.Close()
		config.baseURL = platform.URL
	}
	site, err := newApp(config, options, inside)
	if err != nil {
		return err
	}

	fmt.Fprintf(out, "Open      %s\n", site.home())
	if own := serve.Reachable(listener.Addr()); site.redirect.Host != own {
		fmt.Fprintf(out, "Listening %s (the redirect URL leads elsewhere: to a proxy in front, I hope)\n", own)
	}
	if inside {
		fmt.Fprintf(out, "Platform  a demo inside this program, %s\n", config.baseURL)
		fmt.Fprintf(out, "          (set SHANGCLOUD_CLIENT_ID and SHANGCLOUD_CLIENT_SECRET for the real one)\n")
	} else {
		fmt.Fprintf(out, "Platform  ShangCloud, %s\n", site.base)
		fmt.Fprintf(out, "Redirect  %s (has to be registered in the developer console)\n", config.RedirectURL)
	}
	fmt.Fprintf(out, "Stop      Ctrl-C\n")
	return serve.On(ctx, listener, site, site.provider.Shutdown)
}

// RunCopies does the same as Run if there is a client ID. Otherwise it serves two copies
// of the application, with a platform in this process. It also acts as the proxy: it
// sends the start of every login to the first copy, and all other requests to the second.
// share has the options of both copies.
func RunCopies(ctx context.Context, addr string, getenv func(string) string, out io.Writer, share *oauth2login.Options) error {
	config, err := settingsFromEnv(getenv)
	if err != nil {
		return err
	}
	if config.ClientID != "" {
		return Run(ctx, addr, getenv, out, share)
	}
	listener, err := serve.Listen(addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	config.ClientID, config.RedirectURL = "cluster", "http://"+serve.Reachable(listener.Addr())+"/callback"
	platform, err := demo.Start(&config.Config)
	if err != nil {
		return err
	}
	defer platform.Close()
	config.baseURL = platform.URL
	first, err := newApp(config, share, true)
	if err != nil {
		return err
	}
	second, err := newApp(config, share, true)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /login", first)
	mux.Handle("/", second)

	fmt.Fprintf(out, "Open      %s\n", second.home())
	fmt.Fprintf(out, "Copies    2: a login begins at the first and ends at the second\n")
	fmt.Fprintf(out, "Platform  a demo inside this program, %s\n", config.baseURL)
	fmt.Fprintf(out, "Stop      Ctrl-C\n")
	return serve.On(ctx, listener, mux, func(ctx context.Context) error {
		return errors.Join(first.provider.Shutdown(ctx), second.provider.Shutdown(ctx))
	})
}

// settingsFromEnv returns an empty ClientID if nothing is set.
func settingsFromEnv(getenv func(string) string) (settings, error) {
	s := settings{oauth2.Config{
		ClientID:     getenv("SHANGCLOUD_CLIENT_ID"),
		ClientSecret: getenv("SHANGCLOUD_CLIENT_SECRET"),
		RedirectURL:  getenv("SHANGCLOUD_REDIRECT_URL"),
		Scopes:       []string{shangcloud.ScopeUserBasic, shangcloud.ScopeVariables},
	}, getenv("SHANGCLOUD_BASE_URL"), getenv("SHANGCLOUD_DATA_DIR")}
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
