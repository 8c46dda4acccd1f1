// Package webapp is the application that two examples run: examples/weblogin runs one
// copy of it, examples/cluster several.
package webapp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
)

// Run serves the application at addr until ctx ends. The environment and options
// configure the application. options may be nil. Run prints the application's address to
// out.
func Run(ctx context.Context, addr string, getenv func(string) string, out io.Writer, options *oauth2login.Options) error {
	config, err := settingsFromEnv(getenv)
	if err != nil {
		return err
	}
	listener, err := config.Listen(addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	inside := config.ClientID == ""
	if inside {
		platform, err := config.StartDemo("weblogin")
		if err != nil {
			return err
		}
		defer platform.Close()
	}
	site, err := newApp(config, options, inside)
	if err != nil {
		return err
	}
	config.Announce(out, listener, inside)
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
	listener, err := config.Listen(addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	platform, err := config.StartDemo("cluster")
	if err != nil {
		return err
	}
	defer platform.Close()
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
	fmt.Fprintf(out, "Platform  a demo inside this program, %s\n", config.BaseURL)
	fmt.Fprintf(out, "Stop      Ctrl-C\n")
	return serve.On(ctx, listener, mux, func(ctx context.Context) error {
		return errors.Join(first.provider.Shutdown(ctx), second.provider.Shutdown(ctx))
	})
}

func settingsFromEnv(getenv func(string) string) (serve.Settings, error) {
	return serve.FromEnv(getenv, shangcloud.ScopeUserBasic, shangcloud.ScopeVariables)
}
