package tokenstoretest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
	"github.com/stretchr/testify/assert"
	"golang.org/x/oauth2"
)

// faulty is a store with something wrong. What is nil is right.
type faulty struct {
	inner *tokenstore.Memory
	load  func(context.Context, *tokenstore.Memory) (*oauth2.Token, error)
	save  func(context.Context, *tokenstore.Memory, *oauth2.Token) error
	lock  func(context.Context, *tokenstore.Memory) (func(), error)
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

func (f *faulty) LockToken(ctx context.Context) (func(), error) {
	if f.lock != nil {
		return f.lock(ctx, f.inner)
	}
	return f.inner.LockToken(ctx)
}

type memory = tokenstore.Memory

// lossy is a store that saves what change makes of a token.
func lossy(change func(tok, old *oauth2.Token)) func() shangcloud.TokenStore {
	return func() shangcloud.TokenStore {
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

// faults are stores with something wrong, by what finds it.
var faults = []struct {
	name, found string
	open        func() shangcloud.TokenStore
}{
	{"a miss is an error", "Miss", func() shangcloud.TokenStore {
		return &faulty{inner: &memory{}, load: func(ctx context.Context, m *memory) (*oauth2.Token, error) {
			tok, err := m.LoadToken(ctx)
			if tok == nil && err == nil {
				err = errors.New("no row")
			}
			return tok, err
		}}
	}},
	{"a miss is an empty token", "Miss", func() shangcloud.TokenStore {
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
	{"the first token stays", "Replace", lossy(func(tok, old *oauth2.Token) {
		if old.AccessToken != "" {
			*tok = *old
		}
	})},
	{"one token, overwritten", "LoadedTokensStayAsTheyAre", func() shangcloud.TokenStore {
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
	{"two steps", "Concurrent", func() shangcloud.TokenStore {
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
	{"no context", "Cancelled", func() shangcloud.TokenStore {
		return &faulty{inner: &memory{}, save: func(_ context.Context, m *memory, tok *oauth2.Token) error {
			return m.SaveToken(context.Background(), tok)
		}}
	}},
	{"prints itself", "NothingSecretIsPrinted", func() shangcloud.TokenStore { return &talkative{} }},
	{"prints bytes", "NothingSecretIsPrinted", func() shangcloud.TokenStore { return &talkative{bytes: true} }},
	{"tells in an error", "NothingSecretIsPrinted", func() shangcloud.TokenStore {
		return &faulty{inner: &memory{}, save: func(ctx context.Context, m *memory, tok *oauth2.Token) error {
			if err := m.SaveToken(ctx, tok); err != nil {
				return errors.New("UPDATE t SET token = '" + tok.RefreshToken + "': " + err.Error())
			}
			return nil
		}}
	}},
	{"no lock", "Lock/Exclusion", func() shangcloud.TokenStore {
		return &faulty{inner: &memory{}, lock: func(ctx context.Context, _ *memory) (func(), error) { return func() {}, ctx.Err() }}
	}},
	{"fails instead of waiting", "Lock/WaitObeysContext", func() shangcloud.TokenStore {
		return &faulty{inner: &memory{}, lock: func(ctx context.Context, m *memory) (func(), error) {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			return m.LockToken(ctx)
		}}
	}},
	{"gives up, keeps the lock", "Lock/WaitObeysContext", func() shangcloud.TokenStore {
		return &faulty{inner: &memory{}, lock: func(ctx context.Context, m *memory) (func(), error) {
			got := make(chan func(), 1)
			go func() {
				unlock, _ := m.LockToken(context.Background())
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
	{"waits for ever", "Lock/WaitObeysContext", func() shangcloud.TokenStore {
		return &faulty{inner: &memory{}, lock: func(_ context.Context, m *memory) (func(), error) {
			return m.LockToken(context.Background())
		}}
	}},
	{"a transaction of the context", "Lock/HeldAfterContext", func() shangcloud.TokenStore {
		return &faulty{inner: &memory{}, lock: func(ctx context.Context, m *memory) (func(), error) {
			unlock, err := m.LockToken(ctx)
			if err == nil {
				unlock = sync.OnceFunc(unlock)
				context.AfterFunc(ctx, unlock)
			}
			return unlock, err
		}}
	}},
	{"never unlocks", "Lock/UnlockWakes", func() shangcloud.TokenStore {
		return &faulty{inner: &memory{}, lock: func(ctx context.Context, m *memory) (func(), error) {
			_, err := m.LockToken(ctx)
			return func() {}, err
		}}
	}},
}

// talkative keeps the token in fields that fmt finds.
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

// TestFaultsAreFound runs the suite in a process of its own for each store with a
// fault: there it has to fail.
func TestFaultsAreFound(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			run, _, _ := strings.Cut(fault.found, "RoundTrip/") // all of them: one may need what another saved
			if run == "" {
				run = "RoundTrip"
			}
			child := exec.Command(os.Args[0], "-test.run=^TestFaulty$/^"+run+"$", "-test.v")
			child.Env = append(os.Environ(), "TOKENSTORETEST_FAULT="+fault.name)
			out, err := child.CombinedOutput()
			assert.Error(t, err, "the suite passes")
			assert.Contains(t, string(out), "--- FAIL: TestFaulty/"+fault.found)
		})
	}
}

// TestFaulty is what TestFaultsAreFound runs.
func TestFaulty(t *testing.T) {
	for _, fault := range faults {
		if fault.name == os.Getenv("TOKENSTORETEST_FAULT") {
			tokenstoretest.Run(t, func(*testing.T) (a, b shangcloud.TokenStore) {
				store := fault.open()
				return store, store
			})
		}
	}
}

// TestNoLocker lets a store pass that has no lock.
func TestNoLocker(t *testing.T) {
	tokenstoretest.Run(t, func(*testing.T) (a, b shangcloud.TokenStore) {
		store := struct{ shangcloud.TokenStore }{&tokenstore.Memory{}}
		return store, store
	})
}
