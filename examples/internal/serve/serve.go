// Package serve runs the servers of the examples and shuts them down gracefully.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// requestLimit is how long a shutdown waits for browsers' requests.
	requestLimit = 5 * time.Second

	// shutdownLimit is how long a shutdown waits for a pending refresh. A request to a
	// provider and the save after the request take less time.
	shutdownLimit = 20 * time.Second
)

// Signal returns a context that ends when the program is told to stop: by Ctrl-C, or with
// SIGTERM.
func Signal() context.Context {
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	return ctx
}

// Listen listens at addr. The error says what to do.
func Listen(addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w\nchoose another address with -addr; -addr 127.0.0.1:0 takes a free port", err)
	}
	return listener, nil
}

// Reachable returns addr as a browser on this machine can open it.
func Reachable(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
	}
	return addr.String()
}

// On serves handler until ctx ends. It then waits for the requests that are pending, and
// calls shutdown, for example Provider.Shutdown. A token refresh may still be running in
// the background: shutdown waits for its answer.
func On(ctx context.Context, listener net.Listener, handler http.Handler, shutdown func(context.Context) error) error {
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
	requests, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	var ended error
	if server.Shutdown(requests) != nil {
		ended = server.Close()
	}
	tokens, cancelTokens := context.WithTimeout(context.Background(), shutdownLimit)
	defer cancelTokens()
	return errors.Join(ended, shutdown(tokens))
}
