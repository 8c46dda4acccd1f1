package tokenstore

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

// Memory keeps one user's token in the memory of one process, for tests and demos.
// When the process ends, the user has to log in again. Its zero value is empty. It is
// safe for concurrent use and must not be copied after first use.
type Memory struct {
	// Package fmt does not follow an atomic.Pointer, so no verb prints the token.
	tok atomic.Pointer[oauth2.Token]

	once   sync.Once
	locked chan struct{} // holds an element while locked
}

var (
	_ oauth2login.TokenStore  = (*Memory)(nil)
	_ oauth2login.TokenLocker = (*Memory)(nil)
)

// LoadToken implements [oauth2login.TokenStore]. It returns a copy. The only possible
// error is the error of ctx.
func (m *Memory) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	tok := m.tok.Load()
	if tok == nil {
		return nil, nil
	}
	return new(*tok), nil
}

// SaveToken implements [oauth2login.TokenStore]. It keeps a copy of tok. It returns an
// error if tok is nil or ctx is done.
func (m *Memory) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if tok == nil {
		return quiet.New(where, "there is no token to save")
	}
	m.tok.Store(new(*tok))
	return nil
}

// DeleteToken implements [oauth2login.TokenStore]. The only possible error is the error of
// ctx.
func (m *Memory) DeleteToken(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.tok.Store(nil)
	return nil
}

// LockToken implements [oauth2login.TokenLocker]. The lock has no lifetime: hold is
// ignored. The only possible error is the error of ctx. A second call of unlock does
// nothing.
func (m *Memory) LockToken(ctx context.Context, _ time.Duration) (unlock func(), err error) {
	m.once.Do(func() { m.locked = make(chan struct{}, 1) })
	if err := enter(ctx, m.locked); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { <-m.locked }), nil
}

// enter puts an element into turn, which has room for one element. If turn is full, it
// waits until ctx is done. If ctx is already done, enter fails in any case.
func enter(ctx context.Context, turn chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
