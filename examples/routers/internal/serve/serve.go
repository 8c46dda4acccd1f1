// Package serve runs the servers of the router examples and ends them in good order.
package serve

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
)

// limit is how long the end of a program may take: longer than a request to ShangCloud,
// and a save after it.
const limit = 20 * time.Second

// Main runs a program with a provider and the error of making it, at 127.0.0.1:8080. It
// ends with p.Shutdown.
func Main(p *shangcloud.Provider, err error, routes func(*shangcloud.Provider) http.Handler) {
	if err == nil {
		err = ListenAndServe("127.0.0.1:8080", routes(p), p.Shutdown)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// ListenAndServe serves handler at addr until the program is told to stop (SIGINT or
// SIGTERM). Then it lets the requests under way end, and calls shutdown, which is
// Provider.Shutdown: what was sent to ShangCloud is waited for.
func ListenAndServe(addr string, handler http.Handler, shutdown func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: addr, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return errors.Join(server.Shutdown(ctx), shutdown(ctx))
}
