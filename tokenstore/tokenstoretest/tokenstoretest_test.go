package tokenstoretest_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
	"github.com/stretchr/testify/assert"
	"golang.org/x/oauth2"
)

// Most faults show only after a long wait. So many tests wait at the same time.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// faulty is a store with a fault. Each field that is not nil replaces a correct method.
type faulty struct {
	inner  *tokenstore.Memory
	load   func(context.Context, *memory) (*oauth2.Token, error)
	save   func(context.Context, *memory, *oauth2.Token) error
	remove func(context.Context, *memory) error
	lock   func(context.Context, *memory, time.Duration) (func(), error)
}

func (f *faulty) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	if f.load != nil {
		return f.load(ctx, f.inner)
	}
	return f.inner.LoadToken(ctx)
}

func (f *faulty) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if f.save != nil {
		return f.save(ctx, f.inner, tok)
	}
	return f.inner.SaveToken(ctx, tok)
}

func (f *faulty) DeleteToken(ctx context.Context) error {
	if f.remove != nil {
		return f.remove(ctx, f.inner)
	}
	return f.inner.DeleteToken(ctx)
}

func (f *faulty) LockToken(ctx context.Context, hold time.Duration) (func(), error) {
	if f.lock != nil {
		return f.lock(ctx, f.inner, hold)
	}
	return f.inner.LockToken(ctx, hold)
}

// leased is a store whose locks expire after their hold. If early is not nil, they expire
// after early(hold). If lateUnlock is true, a late unlock also frees the lock of the next
// holder.
type leased struct {
	memory
	early      func(hold time.Duration) time.Duration
	lateUnlock bool

	turn chan struct{}
}

func newLeased() *leased { return &leased{turn: make(chan struct{}, 1)} }

func (l *leased) LockToken(ctx context.Context, hold time.Duration) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	free := func() {
		select {
		case <-l.turn:
		default:
		}
	}
	if l.early != nil {
		hold = l.early(hold)
	}
	if l.lateUnlock {
		timer := time.AfterFunc(hold, free)
		return func() { timer.Stop(); free() }, nil
	}
	free = sync.OnceFunc(free)
	timer := time.AfterFunc(hold, free)
	return func() { timer.Stop(); free() }, nil
}

type memory = tokenstore.Memory

// lossy returns a constructor of stores that change a token before they save it.
func lossy(change func(tok, old *oauth2.Token)) func() oauth2login.TokenStore {
	return func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, save: func(ctx context.Context, m *memory, tok *oauth2.Token) error {
			old, _ := m.LoadToken(context.Background())
			if tok = new(*tok); old == nil {
				old = &oauth2.Token{}
			}
			change(tok, old)
			return m.SaveToken(ctx, tok)
		}}
	}
}

// faults lists faulty stores, and the subtest that detects each fault.
var faults = []struct {
	name, found string
	open        func() oauth2login.TokenStore
}{
	{"a miss is an error", "Miss", func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, load: func(ctx context.Context, m *memory) (*oauth2.Token, error) {
			tok, err := m.LoadToken(ctx)
			if tok == nil && err == nil {
				err = errors.New("no row")
			}
			return tok, err
		}}
	}},
	{"a miss is an empty token", "Miss", func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, load: func(ctx context.Context, m *memory) (*oauth2.Token, error) {
			tok, err := m.LoadToken(ctx)
			if tok == nil {
				tok = &oauth2.Token{}
			}
			return tok, err
		}}
	}},
	{"no ExpiresIn", "RoundTrip/all_fields", lossy(func(tok, _ *oauth2.Token) { tok.ExpiresIn = 0 })},
	{"whole seconds", "RoundTrip/all_fields", lossy(func(tok, _ *oauth2.Token) { tok.Expiry = tok.Expiry.Truncate(time.Second) })},
	{"milliseconds", "RoundTrip/all_fields", lossy(func(tok, _ *oauth2.Token) { tok.Expiry = tok.Expiry.Truncate(time.Millisecond) })},
	{"no time zone", "RoundTrip/another_time_zone", lossy(func(tok, _ *oauth2.Token) {
		e := tok.Expiry
		if !e.IsZero() {
			tok.Expiry = time.Date(e.Year(), e.Month(), e.Day(), e.Hour(), e.Minute(), e.Second(), e.Nanosecond(), time.UTC)
		}
	})},
	{"zero is 1970", "RoundTrip/no_expiry", lossy(func(tok, _ *oauth2.Token) {
		if tok.Expiry.IsZero() {
			tok.Expiry = time.Unix(0, 0)
		}
	})},
	{"32 bits", "RoundTrip/after_2038", lossy(func(tok, _ *oauth2.Token) {
		if tok.Expiry.Unix() > 1<<31 {
			tok.Expiry = time.Unix(1<<31-1, 0)
		}
	})},
	{"the old refresh token is kept", "RoundTrip/no_refresh_token", lossy(func(tok, old *oauth2.Token) {
		if tok.RefreshToken == "" {
			tok.RefreshToken = old.RefreshToken
		}
	})},
	{"varchar(4096)", "RoundTrip/16_KiB_each", lossy(func(tok, _ *oauth2.Token) { tok.AccessToken = tok.AccessToken[:min(4096, len(tok.AccessToken))] })},
	{"encoding/json", "Extra", lossy(func(tok, _ *oauth2.Token) { *tok = *tok.WithExtra(nil) })},
	{"scope only", "Extra", lossy(func(tok, _ *oauth2.Token) {
		*tok = *tok.WithExtra(map[string]any{"scope": tok.Extra("scope")})
	})},
	{"the old extras are kept", "Extra", lossy(func(tok, old *oauth2.Token) {
		if old.Extra("id_token") != nil {
			*tok = *tok.WithExtra(map[string]any{"scope": old.Extra("scope"), "id_token": old.Extra("id_token")})
		}
	})},
	{"the first token stays", "Replace", lossy(func(tok, old *oauth2.Token) {
		if old.AccessToken != "" {
			*tok = *old
		}
	})},
	{"delete does nothing", "Delete", removing(func(context.Context, *memory) error { return nil })},
	{"delete saves an empty token", "Delete", removing(func(ctx context.Context, m *memory) error {
		return m.SaveToken(ctx, &oauth2.Token{})
	})},
	{"delete of nothing is an error", "Delete", removing(func(ctx context.Context, m *memory) error {
		if tok, _ := m.LoadToken(ctx); tok == nil {
			return errors.New("no row")
		}
		return m.DeleteToken(ctx)
	})},
	{"one token, overwritten", "LoadedTokensStayAsTheyAre", func() oauth2login.TokenStore {
		var mu sync.Mutex
		var tok oauth2.Token
		return &faulty{
			inner: &memory{},
			load: func(ctx context.Context, m *memory) (*oauth2.Token, error) {
				mu.Lock()
				defer mu.Unlock()
				if tok.AccessToken == "" {
					return nil, ctx.Err()
				}
				return &tok, ctx.Err()
			},
			save: func(ctx context.Context, _ *memory, t *oauth2.Token) error {
				mu.Lock()
				defer mu.Unlock()
				tok = *t
				return ctx.Err()
			},
		}
	}},
	{"two steps", "Concurrent", func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, save: func(ctx context.Context, m *memory, tok *oauth2.Token) error {
			half, _ := m.LoadToken(context.Background())
			if half == nil {
				half = &oauth2.Token{}
			}
			half.AccessToken = tok.AccessToken
			m.SaveToken(ctx, half)
			time.Sleep(time.Millisecond)
			return m.SaveToken(ctx, tok)
		}}
	}},
	{"no context", "Cancelled", func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, save: func(_ context.Context, m *memory, tok *oauth2.Token) error {
			return m.SaveToken(context.Background(), tok)
		}}
	}},
	{"delete without context", "Cancelled", removing(func(_ context.Context, m *memory) error {
		return m.DeleteToken(context.Background())
	})},
	{"a cancelled load deletes", "Cancelled", func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, load: func(ctx context.Context, m *memory) (*oauth2.Token, error) {
			if ctx.Err() != nil {
				_ = m.DeleteToken(context.Background())
			}
			return m.LoadToken(ctx)
		}}
	}},
	{"prints itself", "NothingSecretIsPrinted", func() oauth2login.TokenStore { return &talkative{} }},
	{"prints bytes", "NothingSecretIsPrinted", func() oauth2login.TokenStore { return &talkative{bytes: true} }},
	{"tells in an error", "NothingSecretIsPrinted", func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, save: func(ctx context.Context, m *memory, tok *oauth2.Token) error {
			if err := m.SaveToken(ctx, tok); err != nil {
				return errors.New("UPDATE t SET token = '" + tok.RefreshToken + "': " + err.Error())
			}
			return nil
		}}
	}},
	{"no lock", "Lock/Exclusion", func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, lock: func(ctx context.Context, _ *memory, _ time.Duration) (func(), error) { return func() {}, ctx.Err() }}
	}},
	{"fails instead of waiting", "Lock/WaitObeysContext", func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, lock: func(ctx context.Context, m *memory, _ time.Duration) (func(), error) {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			return m.LockToken(ctx, 0)
		}}
	}},
	{"gives up, keeps the lock", "Lock/WaitObeysContext", func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, lock: func(ctx context.Context, m *memory, _ time.Duration) (func(), error) {
			got := make(chan func(), 1)
			go func() {
				unlock, _ := m.LockToken(context.Background(), 0)
				got <- unlock
			}()
			select {
			case unlock := <-got:
				return unlock, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}}
	}},
	{"waits for ever", "Lock/WaitObeysContext", func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, lock: func(_ context.Context, m *memory, _ time.Duration) (func(), error) {
			return m.LockToken(context.Background(), 0)
		}}
	}},
	{"a transaction of the context", "Lock/HeldAfterContext", func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, lock: func(ctx context.Context, m *memory, _ time.Duration) (func(), error) {
			unlock, err := m.LockToken(ctx, 0)
			if err == nil {
				unlock = sync.OnceFunc(unlock)
				context.AfterFunc(ctx, unlock)
			}
			return unlock, err
		}}
	}},
	{"never unlocks", "Lock/UnlockWakes", func() oauth2login.TokenStore {
		return &faulty{inner: &memory{}, lock: func(ctx context.Context, m *memory, _ time.Duration) (func(), error) {
			_, err := m.LockToken(ctx, 0)
			return func() {}, err
		}}
	}},
	{"hold in milliseconds", "Lock/HeldForHold", func() oauth2login.TokenStore {
		l := newLeased()
		l.early = func(hold time.Duration) time.Duration { return hold / 1000 }
		return l
	}},
	{"a lock for ever", "Lock/HoldEnds", func() oauth2login.TokenStore { return &memory{} }},
	{"a late unlock", "Lock/HoldEnds", func() oauth2login.TokenStore {
		l := newLeased()
		l.lateUnlock = true
		return l
	}},
}

func removing(remove func(context.Context, *memory) error) func() oauth2login.TokenStore {
	return func() oauth2login.TokenStore { return &faulty{inner: &memory{}, remove: remove} }
}

// talkative keeps the token in fields that package fmt prints.
type talkative struct {
	bytes   bool
	access  string
	refresh []byte
	memory
}

func (s *talkative) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if s.bytes {
		s.refresh = []byte(tok.RefreshToken)
	} else {
		s.access = tok.AccessToken
	}
	return s.memory.SaveToken(ctx, tok)
}

// open returns a Backend with stores in one process.
func open(newStore func() oauth2login.TokenStore) tokenstoretest.Backend {
	return tokenstoretest.Backend{
		Open: func(*testing.T) (a, b oauth2login.TokenStore) {
			store := newStore()
			return store, store
		},
		Extra:    true,
		HoldEnds: true,
	}
}

// TestRun_faulty_stores runs the suite on each faulty store, in a separate process. The
// suite has to fail there.
func TestRun_faulty_stores(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			run := fault.found
			if strings.HasPrefix(run, "RoundTrip/") { // a case may depend on a token that another case has saved
				run = "RoundTrip"
			}
			child := exec.Command(os.Args[0], "-test.run=^TestFaulty$/^"+strings.ReplaceAll(run, "/", "$/^")+"$", "-test.v")
			child.Env = append(os.Environ(), "TOKENSTORETEST_FAULT="+fault.name)
			out, err := child.CombinedOutput()
			assert.Error(t, err, "the suite passes")
			assert.Contains(t, string(out), "--- FAIL: TestFaulty/"+fault.found)
		})
	}
}

// TestFaulty runs in the processes of TestRun_faulty_stores.
func TestFaulty(t *testing.T) {
	for _, fault := range faults {
		if fault.name == os.Getenv("TOKENSTORETEST_FAULT") {
			tokenstoretest.Run(t, open(fault.open))
		}
	}
}

func TestRun_example(t *testing.T) { testRow(t) }

// TestRun_right_stores shows that the suite passes for correct stores. So the faults cause
// the failures in TestRun_faulty_stores.
func TestRun_right_stores(t *testing.T) {
	t.Run("locks end", func(t *testing.T) {
		tokenstoretest.Run(t, open(func() oauth2login.TokenStore { return newLeased() }))
	})
	t.Run("no lock, no extra", func(t *testing.T) {
		b := open(func() oauth2login.TokenStore {
			return struct{ oauth2login.TokenStore }{lossy(func(tok, _ *oauth2.Token) { *tok = *tok.WithExtra(nil) })()}
		})
		b.Extra, b.HoldEnds = false, false
		tokenstoretest.Run(t, b)
	})
}
