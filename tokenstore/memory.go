package tokenstore

import (
	"context"
	"sync"
	"sync/atomic"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"golang.org/x/oauth2"
)

// Memory keeps a token in the memory of one process, for tests and demos: when the
// process ends, the user has to log in again. Its zero value is empty. It is safe
// for concurrent use, also as a [shangcloud.TokenLocker], and must not be copied
// after first use.
type Memory struct {
	// Package fmt does not follow an atomic.Pointer, whatever the verb.
	tok atomic.Pointer[oauth2.Token]

	once   sync.Once
	locked chan struct{} // holds an element while locked
}

var (
	_ shangcloud.TokenStore  = (*Memory)(nil)
	_ shangcloud.TokenLocker = (*Memory)(nil)
)

// LoadToken implements [shangcloud.TokenStore]. The token is a copy. The only
// error is that of ctx.
func (m *Memory) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return clone(m.tok.Load()), nil
}

// SaveToken implements [shangcloud.TokenStore]. It keeps a copy of tok; if tok is
// nil, it forgets the token. The only error is that of ctx.
func (m *Memory) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.tok.Store(clone(tok))
	return nil
}

// LockToken implements [shangcloud.TokenLocker]. The only error is that of ctx.
// A second call of unlock does nothing.
func (m *Memory) LockToken(ctx context.Context) (unlock func(), err error) {
	m.once.Do(func() { m.locked = make(chan struct{}, 1) })
	if err := enter(ctx, m.locked); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { <-m.locked }), nil
}

func clone(tok *oauth2.Token) *oauth2.Token {
	if tok == nil {
		return nil
	}
	c := *tok
	return &c
}

// enter puts an element into turn, which has room for one, and waits for that
// until ctx is done. A ctx that is done already never gets in.
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
