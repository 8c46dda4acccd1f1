package oauth2login

import (
	"context"
	"errors"
	"sync"
)

// sending counts the running requests whose answers must not be lost.
type sending struct {
	mu     sync.Mutex
	closed bool
	count  int
	idle   chan struct{} // closed once closed is true and count is 0; nil before Shutdown
}

// begin reports whether a one-time credential may still be sent.
func (s *sending) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.count++
	return true
}

func (s *sending) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count--
	if s.closed && s.count == 0 {
		close(s.idle)
	}
}

// close forbids new requests. It returns a channel that is closed when all requests have
// ended.
func (s *sending) close() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed, s.idle = true, make(chan struct{})
		if s.count == 0 {
			close(s.idle)
		}
	}
	return s.idle
}

// errShuttingDown is wrapped by the errors of calls that come after Shutdown.
var errShuttingDown = errors.New("oauth2login: shutting down")

func (p *Provider) shuttingDown(op string) error {
	return p.errorf(op+": the provider is shutting down", ErrUnavailable, errShuttingDown)
}

// Shutdown ends p in an orderly way. Call it after http.Server.Shutdown. From then on p
// sends no code and no refresh token, but still hands out valid tokens. Shutdown waits
// for the answers to requests that were sent. Then it saves the tokens that could not be
// saved before.
//
// The error is that of ctx, or matches [ErrTokenStore] if a token could not be saved.
// Shutdown may be called more than once.
func (p *Provider) Shutdown(ctx context.Context) error {
	select {
	case <-p.sending.close():
	case <-ctx.Done():
		return p.errorf("shutdown: requests are still under way", ctx.Err())
	}
	all := p.sessions.acquireAll()
	defer func() {
		for _, shared := range all {
			p.sessions.release(shared)
		}
	}()
	// A running flight may bring a newer token than the unsaved one, so wait for it
	// first.
	_ = p.awaitSaves(ctx, all, false)
	return p.awaitSaves(ctx, all, true)
}

// awaitSaves waits until the unsaved tokens of all sessions are saved, and returns the
// first error. Without start it waits only for running flights.
func (p *Provider) awaitSaves(ctx context.Context, all []*session, start bool) (first error) {
	var flights []*flight
	for _, shared := range all {
		if f := shared.saving(start); f != nil {
			flights = append(flights, f)
		}
	}
	for _, f := range flights {
		err := f.wait(ctx, f.done)
		if err == nil && !errors.Is(f.err, ErrLoginRequired) { // after ErrLoginRequired nothing is left to save
			err = f.err
		}
		if first == nil {
			first = err
		}
	}
	return first
}
