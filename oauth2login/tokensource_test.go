//go:build unported

package shangcloud_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// inBubble runs f with a site whose platform needs no network and whose clock is
// that of the bubble.
func inBubble(t *testing.T, f func(t *testing.T, s *site), changes ...func(*shangcloud.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		platform := shangcloudtest.New()
		defer platform.Close()
		platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{"https://app.example/callback"}})
		platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明"})
		changes := append(slices.Clone(changes), func(c *shangcloud.Config) {
			c.HTTPClient = &http.Client{Transport: platform.Transport()}
		})
		f(t, newSiteAt(t, platform, changes...))
	})
}

// memoryStore is a TokenStore that can fail and that counts.
type memoryStore struct {
	mu           sync.Mutex
	tok          *oauth2.Token
	loads, saves int
	loadErr      error
	saveErr      error
}

func (m *memoryStore) LoadToken(context.Context) (*oauth2.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loads++
	return m.tok, m.loadErr
}

func (m *memoryStore) SaveToken(_ context.Context, tok *oauth2.Token) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saves++
	if m.saveErr != nil {
		if tok == nil {
			return m.saveErr
		}
		return fmt.Errorf("%w: (%s, %s)", m.saveErr, tok.AccessToken, tok.RefreshToken)
	}
	m.tok = tok
	return nil
}

func (m *memoryStore) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// lockedStore is a memoryStore with a lock.
type lockedStore struct {
	memoryStore
	lock    chan struct{} // holds an element while locked
	lockErr error
}

func newLockedStore() *lockedStore { return &lockedStore{lock: make(chan struct{}, 1)} }

func (l *lockedStore) LockToken(ctx context.Context) (func(), error) {
	if l.lockErr != nil {
		return nil, l.lockErr
	}
	select {
	case l.lock <- struct{}{}:
		return func() { <-l.lock }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for name, c := range map[string]struct {
			tok  *oauth2.Token
			want bool
		}{
			"none":                     {nil, true},
			"empty":                    {&oauth2.Token{Expiry: now.Add(time.Hour)}, true},
			"an hour left":             {&oauth2.Token{AccessToken: "a", Expiry: now.Add(time.Hour)}, false},
			"61 seconds left":          {&oauth2.Token{AccessToken: "a", Expiry: now.Add(61 * time.Second)}, false},
			"60 seconds left":          {&oauth2.Token{AccessToken: "a", Expiry: now.Add(60 * time.Second)}, true},
			"past":                     {&oauth2.Token{AccessToken: "a", Expiry: now.Add(-time.Hour)}, true},
			"never, as x/oauth2 means": {&oauth2.Token{AccessToken: "a"}, false},
		} {
			assert.Equal(t, c.want, shangcloud.Expired(c.tok), name)
		}
	})
}

func TestRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		store := &memoryStore{}
		first := issue(s.platform)
		src := s.TokenSource(first, store)
		time.Sleep(time.Hour - 61*time.Second)
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, first, tok)
		assert.Zero(t, s.tokenRequests())

		time.Sleep(time.Second)
		tok, err = src.Token()
		require.NoError(t, err)
		assert.NotEqual(t, first.AccessToken, tok.AccessToken)
		assert.NotEqual(t, first.RefreshToken, tok.RefreshToken, "the platform rotates")
		assert.Same(t, tok, store.tok, "saved before it was handed out")
		again, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, tok, again)
		assert.Equal(t, 1, s.tokenRequests())
	})
}

func TestEarlyRefreshIsAdjustable(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		src := s.TokenSource(issue(s.platform), nil)
		time.Sleep(time.Hour - 10*time.Minute - 1)
		_, err := src.Token()
		require.NoError(t, err)
		assert.Zero(t, s.tokenRequests())
		time.Sleep(time.Nanosecond)
		_, err = src.Token()
		require.NoError(t, err)
		assert.Equal(t, 1, s.tokenRequests())
	}, func(c *shangcloud.Config) { c.EarlyRefresh = 10 * time.Minute })

	c := valid()
	c.EarlyRefresh = -1
	_, err := shangcloud.New(c)
	assert.ErrorContains(t, err, "EarlyRefresh")
}

// TestShortLives refreshes tokens that live for less than the early window at
// half of their lives, and not at every call.
func TestShortLives(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		s.platform.Configure(func(c *shangcloudtest.Settings) { c.TokenLifetime = 10 * time.Second })
		src := s.TokenSource(&oauth2.Token{AccessToken: "old", RefreshToken: issue(s.platform).RefreshToken, Expiry: time.Unix(1, 0)}, nil)
		for range 30 {
			_, err := src.Token()
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		assert.Equal(t, 6, s.tokenRequests())
	})
}

// TestImpossibleLives has the token of a store claim to live for longer than can be
// counted: it is refreshed on time all the same.
func TestImpossibleLives(t *testing.T) {
	for _, seconds := range []int64{math.MaxInt64, math.MaxInt64/int64(time.Second) + 1, 1 << 40, -1, math.MinInt64} {
		inBubble(t, func(t *testing.T, s *site) {
			tok := issue(s.platform)
			tok.ExpiresIn = seconds
			src := s.TokenSource(nil, &memoryStore{tok: tok})
			time.Sleep(time.Until(tok.Expiry) - 61*time.Second)
			got, err := src.Token()
			require.NoError(t, err)
			assert.Equal(t, tok.AccessToken, got.AccessToken, seconds)
			time.Sleep(time.Second)
			got, err = src.Token()
			require.NoError(t, err)
			assert.NotEqual(t, tok.AccessToken, got.AccessToken, seconds)
		})
	}
}

// TestNobodyWaitsForAValidToken lets 8 callers ask in the early window, while the
// platform takes 200 ms.
func TestNobodyWaitsForAValidToken(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		src := s.TokenSource(issue(s.platform), nil)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: 200 * time.Millisecond})
		time.Sleep(time.Hour - 30*time.Second)
		var mu sync.Mutex
		waited := 0
		for range 8 {
			go func() {
				start := time.Now()
				tok, err := src.Token()
				assert.NoError(t, err)
				assert.True(t, tok.Expiry.After(time.Now()))
				if time.Since(start) > 0 {
					mu.Lock()
					defer mu.Unlock()
					waited++
				}
			}()
		}
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		assert.Equal(t, 1, waited)
		assert.Equal(t, 1, s.tokenRequests())
	})
}

func TestAllWaitForAnExpiredToken(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		src := s.TokenSource(issue(s.platform), nil)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: 3 * time.Second})
		time.Sleep(2 * time.Hour)

		// The one who triggers the refresh gives up, and so does another.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := src.TokenContext(ctx)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(start))
		gone, cancelGone := context.WithCancel(t.Context())
		cancelGone()
		_, err = src.TokenContext(gone)
		assert.ErrorIs(t, err, context.Canceled)

		for range 20 {
			go func() {
				_, err := src.Token()
				assert.NoError(t, err)
				assert.Equal(t, 3*time.Second, time.Since(start))
			}()
		}
		time.Sleep(5 * time.Second)
		assert.Equal(t, 1, s.tokenRequests())
	})
}

func TestPlatformDownWhileTheTokenIsValid(t *testing.T) {
	for name, fault := range map[string]shangcloudtest.Fault{
		"503":      {Status: 503},
		"confused": {Status: 500, Body: `{"error":"invalid_grant"}`},
		"429":      {Status: 429},
		"dropped":  {Drop: true},
		"HTML":     {Status: 200, Body: "<html>"},
		"silent":   {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *site) {
				first := issue(s.platform)
				src := s.TokenSource(first, nil)
				s.platform.Fault("/oauth/token", fault)
				time.Sleep(time.Hour - 60*time.Second)
				for time.Until(first.Expiry) > 0 {
					tok, err := src.Token()
					require.NoError(t, err)
					assert.Same(t, first, tok)
					time.Sleep(100 * time.Millisecond)
				}
				// After 0, 1, 3, 7, 15, 31 seconds, or less often where each
				// try takes ten.
				assert.LessOrEqual(t, s.tokenRequests(), 6)
				assert.GreaterOrEqual(t, s.tokenRequests(), 3)

				_, err := src.Token()
				assert.ErrorIs(t, err, shangcloud.ErrUnavailable)
				assert.NotErrorIs(t, err, shangcloud.ErrLoginRequired)
				time.Sleep(100 * time.Millisecond) // let a try that took as long as we waited end
				s.platform.ClearFaults()
				_, err = src.Token()
				assert.NoError(t, err, "no pause once the token has expired")
			})
		})
	}
}

// TestPausesEnd: the pauses of a platform that was down for long are not longer than 30
// seconds.
func TestPausesEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		src := s.TokenSource(issue(s.platform), nil)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: 503})
		for range 30 * 60 {
			_, err := src.Token()
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		s.platform.ClearFaults()
		before := s.tokenRequests()
		for range 30 {
			_, err := src.Token()
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		_, err := src.Token()
		require.NoError(t, err)
		synctest.Wait()
		assert.Equal(t, before+1, s.tokenRequests())
	}, func(c *shangcloud.Config) { c.EarlyRefresh = 59 * time.Minute })
}

// TestOneHalfIsNew has another process store a token that differs from ours by one of
// its two halves only.
func TestOneHalfIsNew(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		s.platform.Configure(func(c *shangcloudtest.Settings) { c.KeepRefreshTokens = true })
		store := &memoryStore{tok: issue(s.platform)}
		src := s.TokenSource(nil, store)
		_, err := src.Token()
		require.NoError(t, err)
		time.Sleep(2 * time.Hour)
		next := *issue(s.platform)
		next.RefreshToken = store.tok.RefreshToken
		store.set(func() { store.tok = &next })
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, &next, tok)
		assert.Zero(t, s.tokenRequests())
	})
	inBubble(t, func(t *testing.T, s *site) {
		store := &memoryStore{tok: issue(s.platform)}
		src := s.TokenSource(nil, store)
		_, err := src.Token()
		require.NoError(t, err)
		s.platform.Revoke(10001)
		time.Sleep(2 * time.Hour)
		_, err = src.Token()
		require.ErrorIs(t, err, shangcloud.ErrLoginRequired)
		next := *store.tok
		next.RefreshToken = issue(s.platform).RefreshToken
		store.set(func() { store.tok = &next })
		time.Sleep(time.Minute)
		_, err = src.Token()
		assert.NoError(t, err)
	})
}

func TestRefusalIsRemembered(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		src := s.TokenSource(issue(s.platform), nil)
		time.Sleep(time.Hour - 30*time.Second)
		s.platform.Revoke(10001)
		for range 3 {
			_, err := src.Token()
			assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
			var re *oauth2.RetrieveError
			require.ErrorAs(t, err, &re)
			assert.Equal(t, "invalid_grant", re.ErrorCode)
		}
		assert.Equal(t, 1, s.tokenRequests())

		require.NoError(t, src.SetToken(t.Context(), issue(s.platform)), "the user has logged in again")
		_, err := src.Token()
		assert.NoError(t, err)
	})
}

// TestLoggedInAgainElsewhere has a login refused, and another process store the
// token of a new one.
func TestLoggedInAgainElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		store := newLockedStore()
		store.tok = issue(s.platform)
		src := s.TokenSource(nil, store)
		_, err := src.Token()
		require.NoError(t, err)
		s.platform.Revoke(10001)
		time.Sleep(2 * time.Hour)
		for range 100 {
			_, err = src.Token()
			assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
			time.Sleep(time.Second)
		}
		assert.Equal(t, 1, s.tokenRequests())
		assert.Less(t, store.loads, 12, "the store is asked now and then")

		next := issue(s.platform)
		store.set(func() { store.tok = next })
		time.Sleep(30 * time.Second)
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, next, tok)
		time.Sleep(2 * time.Hour)
		_, err = src.Token()
		assert.NoError(t, err)
	})
}

// TestSetTokenAfterRefusal: with a new login all is well, at once and later.
func TestSetTokenAfterRefusal(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		for _, store := range []shangcloud.TokenStore{nil, &memoryStore{}} {
			src := s.TokenSource(issue(s.platform), store)
			s.platform.Revoke(10001)
			time.Sleep(2 * time.Hour)
			_, err := src.Token()
			require.ErrorIs(t, err, shangcloud.ErrLoginRequired)
			next := issue(s.platform)
			require.NoError(t, src.SetToken(t.Context(), next))
			tok, err := src.Token()
			require.NoError(t, err)
			assert.Same(t, next, tok)
			time.Sleep(time.Hour)
			tok, err = src.Token()
			require.NoError(t, err)
			assert.NotEqual(t, next.AccessToken, tok.AccessToken)
		}
	})
}

// TestSavedBeforeUse: nobody has a new token before it is saved, however long that takes.
func TestSavedBeforeUse(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		tok := issue(s.platform)
		tok.Expiry = time.Now()
		store := &slowStore{memoryStore{tok: tok}, 3 * time.Second}
		start := time.Now()
		got, err := s.TokenSource(nil, store).Token()
		require.NoError(t, err)
		assert.Equal(t, 3*time.Second, time.Since(start))
		assert.Same(t, got, store.tok)
	})
}

// TestLockThatIsNotToBeHad: a refresh that waits for a lock ends, and the next one is
// another try.
func TestLockThatIsNotToBeHad(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		store := newLockedStore()
		store.tok = issue(s.platform)
		store.tok.Expiry = time.Now()
		store.lock <- struct{}{}
		src := s.TokenSource(nil, store)
		_, err := src.Token()
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		<-store.lock
		time.Sleep(time.Minute)
		_, err = src.Token()
		assert.NoError(t, err)
		assert.Len(t, store.lock, 0, "and it is given back")
	})
	inBubble(t, func(t *testing.T, s *site) {
		store := newLockedStore()
		store.lock <- struct{}{} // for good: whoever waited on would be found in the bubble
		_, err := s.TokenSource(&oauth2.Token{RefreshToken: "rt"}, store).Token()
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(time.Minute)
	})
}

// TestSavingHasItsOwnTime takes nearly all of the refresh's time before there is
// something to save, and then has a store that hangs.
func TestSavingHasItsOwnTime(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: 9900 * time.Millisecond})
		store := &slowStore{memoryStore: memoryStore{tok: issue(s.platform)}, saving: 4 * time.Second}
		src := s.TokenSource(nil, store)
		time.Sleep(2 * time.Hour)
		_, err := src.Token()
		assert.ErrorIs(t, err, context.DeadlineExceeded, "this caller has waited for 10 seconds")
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, tok, store.tok)

		s.platform.ClearFaults()
		store.saving = time.Hour
		time.Sleep(2 * time.Hour)
		start := time.Now()
		_, err = src.Token()
		require.NoError(t, err, "kept, though not saved")
		assert.Equal(t, 5*time.Second, time.Since(start))
	}, func(c *shangcloud.Config) { c.Logger = slog.New(slog.DiscardHandler) })
}

// slowStore takes its time to save, as long as it is let.
type slowStore struct {
	memoryStore
	saving time.Duration
}

func (s *slowStore) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	select {
	case <-time.After(s.saving):
		return s.memoryStore.SaveToken(ctx, tok)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestOtherRefusals are the application's fault or the platform's: no reason to
// send the user to log in, and asked again.
func TestOtherRefusals(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		src := s.TokenSource(issue(s.platform), nil)
		time.Sleep(2 * time.Hour)
		s.SetClientSecret("wrong")
		_, err := src.Token()
		assert.NotErrorIs(t, err, shangcloud.ErrLoginRequired)
		var re *oauth2.RetrieveError
		require.ErrorAs(t, err, &re)
		assert.Equal(t, "invalid_client", re.ErrorCode)
		s.SetClientSecret("hush-hush")
		_, err = src.Token()
		assert.NoError(t, err)
	})
}

func TestNoRefreshToken(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		tok := issue(s.platform)
		tok.RefreshToken = ""
		src := s.TokenSource(tok, nil)
		time.Sleep(time.Hour - 1)
		got, err := src.Token()
		require.NoError(t, err, "good to its last moment")
		assert.Same(t, tok, got)
		time.Sleep(time.Nanosecond)
		_, err = src.Token()
		assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
		assert.Zero(t, s.tokenRequests())
	})
}

func TestAnswerWithoutRefreshTokenKeepsTheOld(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		s.platform.Configure(func(c *shangcloudtest.Settings) { c.KeepRefreshTokens = true })
		first := issue(s.platform)
		src := s.TokenSource(first, nil)
		for range 3 {
			time.Sleep(time.Hour)
			tok, err := src.Token()
			require.NoError(t, err)
			assert.Equal(t, first.RefreshToken, tok.RefreshToken)
		}
	})
}

// TestLifetimes sends every shape of expires_in.
func TestLifetimes(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for shape, want := range map[string]time.Duration{
		`"expires_in":3600`:                   time.Hour,
		`"expires_in":1`:                      time.Second,
		`"expires_in":"7200"`:                 2 * time.Hour,
		`"expires_in":" 7200 "`:               2 * time.Hour,
		`"expires_in":59.9`:                   59 * time.Second,
		`"expires_in":3.6e3`:                  time.Hour,
		`"expires_in":0`:                      time.Second,
		`"expires_in":-1`:                     time.Second,
		`"expires_in":"-86400"`:               time.Second,
		`"expires_in":-9223372036854775809`:   time.Second,
		`"expires_in":0.5`:                    time.Second,
		`"expires_in":31536001`:               year,
		`"expires_in":4294967297`:             year,
		`"expires_in":9223372036854775807`:    year,
		`"expires_in":99999999999999999999`:   year,
		`"expires_in":1e300`:                  year,
		`"expires_in":1e999`:                  time.Hour,
		`"expires_in":null`:                   time.Hour,
		`"expires_in":"soon"`:                 time.Hour,
		`"expires_in":""`:                     time.Hour,
		`"expires_in":"NaN"`:                  time.Hour,
		`"expires_in":"Inf"`:                  time.Hour,
		`"expires_in":true`:                   time.Hour,
		`"expires_in":{}`:                     time.Hour,
		`"expires_in":[3600]`:                 time.Hour,
		`"expiry":"2036-01-01T00:00:00Z"`:     time.Hour,
		`"scope":"user:basic","id_token":"x"`: time.Hour,
	} {
		inBubble(t, func(t *testing.T, s *site) {
			s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: 200, Body: `{"access_token":"at","token_type":"bEaReR",` + shape + `}`})
			tok, err := s.TokenSource(&oauth2.Token{RefreshToken: "rt"}, nil).Token()
			require.NoError(t, err, shape)
			assert.Equal(t, want, time.Until(tok.Expiry), shape)
			assert.Equal(t, "rt", tok.RefreshToken, shape)
			if shape == `"scope":"user:basic","id_token":"x"` {
				assert.Equal(t, "user:basic", tok.Extra("scope"), "what else the answer says is kept")
			}
		})
	}
}

func TestSavingFails(t *testing.T) {
	var log bytes.Buffer
	full := errors.New("disk full")
	inBubble(t, func(t *testing.T, s *site) {
		store := &memoryStore{saveErr: full}
		first := issue(s.platform)
		src := s.TokenSource(first, store)
		time.Sleep(2 * time.Hour)
		tok, err := src.Token()
		require.NoError(t, err, "it is handed out all the same")
		assert.NotEqual(t, first.AccessToken, tok.AccessToken)
		assert.Equal(t, 1, store.saves)
		assert.Contains(t, log.String(), "token store: save: it failed with *errors.errorString")
		assert.NotContains(t, log.String(), "disk full", "its own text may quote the token, in some form")
		assert.NotContains(t, log.String(), tok.AccessToken)
		assert.NotContains(t, log.String(), tok.RefreshToken)

		again, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, tok, again)
		assert.Equal(t, 2, store.saves, "saved again at the next call")
		for range 100 {
			_, err := src.Token()
			require.NoError(t, err)
		}
		assert.Equal(t, 2, store.saves, "and then after a pause")

		store.set(func() { store.saveErr = nil })
		time.Sleep(time.Second)
		_, err = src.Token()
		require.NoError(t, err)
		assert.Equal(t, 3, store.saves)
		assert.Same(t, tok, store.tok)
		for range 100 {
			_, err := src.Token()
			require.NoError(t, err)
		}
		assert.Equal(t, 3, store.saves)
		assert.Equal(t, 1, s.tokenRequests())
	}, func(c *shangcloud.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
}

// TestUnsavedTokenIsDue has a token expire that could not be saved: it is
// refreshed, not the older one in the store.
func TestUnsavedTokenIsDue(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		first := issue(s.platform)
		store := &memoryStore{tok: first, saveErr: errors.New("read-only")}
		src := s.TokenSource(nil, store)
		for range 4 {
			time.Sleep(2 * time.Hour)
			_, err := src.Token()
			require.NoError(t, err)
		}
		assert.Equal(t, 4, s.tokenRequests())
		assert.Same(t, first, store.tok)
	}, func(c *shangcloud.Config) { c.Logger = slog.New(slog.DiscardHandler) })
}

func TestAnotherProcessHasRefreshed(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		store := &memoryStore{tok: issue(s.platform)}
		one, two := s.TokenSource(nil, store), s.TokenSource(nil, store)
		for _, src := range []*shangcloud.TokenSource{one, two} {
			tok, err := src.Token()
			require.NoError(t, err)
			assert.Same(t, store.tok, tok)
		}
		for range 5 {
			time.Sleep(time.Hour)
			a, err := one.Token()
			require.NoError(t, err)
			b, err := two.Token()
			require.NoError(t, err)
			assert.Same(t, a, b)
		}
		assert.Equal(t, 5, s.tokenRequests())
		assert.Equal(t, 5, store.saves)
	})
}

// TestManySourcesUnderALock has 10 processes with 10 callers each on one token,
// with rotation and reuse detection: one refresh for each token that is due.
func TestManySourcesUnderALock(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		s.platform.Configure(func(c *shangcloudtest.Settings) { c.TokenLifetime = 10 * time.Second })
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: 50 * time.Millisecond})
		store := newLockedStore()
		store.tok = issue(s.platform)
		store.tok.Expiry = time.Now().Add(time.Second)
		begin := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			src := s.TokenSource(nil, store)
			for range 10 {
				wg.Go(func() {
					for range 1000 {
						tok, err := src.Token()
						if !assert.NoError(t, err) {
							return
						}
						assert.True(t, tok.Expiry.After(time.Now()))
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
		}
		wg.Wait()
		// A token is due at half of its 10 seconds.
		assert.InDelta(t, time.Since(begin).Seconds()/5, s.tokenRequests(), 2)
		assert.Equal(t, store.saves, s.tokenRequests())
	})
}

// TestManySourcesWithoutALock has 10 processes with 10 callers each refresh the
// same token at once, on a platform that refuses a used refresh token and does no
// more: those who are refused find the token of the one who was not.
func TestManySourcesWithoutALock(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		var mu sync.Mutex
		var current string
		refused := 0
		s.platform.Handle("/oauth/token", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(50 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			if r.FormValue("refresh_token") != current {
				refused++
				w.WriteHeader(http.StatusBadRequest)
				io.WriteString(w, `{"error":"invalid_grant"}`)
				return
			}
			var access string
			access, current = s.platform.Issue("demo", 10001, "user:basic")
			fmt.Fprintf(w, `{"access_token":%q,"refresh_token":%q,"token_type":"Bearer","expires_in":10}`, access, current)
		}))
		first := issue(s.platform)
		first.Expiry, current = time.Now().Add(time.Second), first.RefreshToken
		store := &memoryStore{tok: first}
		var wg sync.WaitGroup
		for range 10 {
			src := s.TokenSource(nil, store)
			for range 10 {
				wg.Go(func() {
					for range 1000 {
						tok, err := src.Token()
						if !assert.NoError(t, err) {
							return
						}
						assert.True(t, tok.Expiry.After(time.Now()))
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
		}
		wg.Wait()
		assert.NotZero(t, refused, "they did meet")
	})
}

// TestRefusedWithoutALock has another process use the refresh token and save its
// new token a moment later.
func TestRefusedWithoutALock(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		old := &oauth2.Token{AccessToken: "old", RefreshToken: "used", Expiry: time.Now().Add(-time.Hour)}
		store := &memoryStore{tok: old}
		newer := issue(s.platform)
		time.AfterFunc(500*time.Millisecond, func() { store.set(func() { store.tok = newer }) })
		tok, err := s.TokenSource(nil, store).Token()
		require.NoError(t, err)
		assert.Same(t, newer, tok)
		assert.Equal(t, 1, s.tokenRequests())

		// Nobody else has: then the login is over, and this is known soon.
		store.set(func() { store.tok = old })
		start := time.Now()
		_, err = s.TokenSource(nil, store).Token()
		assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
		assert.Equal(t, 1500*time.Millisecond, time.Since(start))
	})
}

func TestLoggedOutElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		store := &memoryStore{tok: issue(s.platform)}
		src := s.TokenSource(nil, store)
		_, err := src.Token()
		require.NoError(t, err)
		store.set(func() { store.tok = nil })
		time.Sleep(2 * time.Hour)
		_, err = src.Token()
		assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
		assert.Zero(t, s.tokenRequests(), "a login that was ended is not revived")
		assert.Nil(t, store.tok)

		store.set(func() { store.tok = issue(s.platform) })
		_, err = src.Token()
		assert.NoError(t, err, "the user has logged in again, elsewhere")
	})
}

func TestTokenStoreDown(t *testing.T) {
	for name, down := range map[string]func(*lockedStore){
		"load": func(l *lockedStore) { l.loadErr = errors.New("down: hush") },
		"lock": func(l *lockedStore) { l.lockErr = errors.New("down: hush") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *site) {
				store := newLockedStore()
				store.tok = issue(s.platform)
				src := s.TokenSource(nil, store)
				first, err := src.Token()
				require.NoError(t, err)
				down(store)
				time.Sleep(time.Hour - 30*time.Second)
				tok, err := src.Token()
				require.NoError(t, err, "the old one is still good")
				assert.Same(t, first, tok)
				time.Sleep(time.Hour)
				_, err = src.Token()
				assert.ErrorIs(t, err, shangcloud.ErrTokenStore)
				assert.NotErrorIs(t, err, shangcloud.ErrLoginRequired)
				assert.NotContains(t, fmt.Sprintf("%v %#v", err, err), "hush")
				assert.Zero(t, s.tokenRequests(), "what may be in the store already is not refreshed blindly")
			})
		})
	}
}

func TestLaggingReplica(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		first := issue(s.platform)
		store := &memoryStore{tok: first}
		src := s.TokenSource(nil, store)
		time.Sleep(time.Hour)
		_, err := src.Token()
		require.NoError(t, err)
		store.set(func() { store.tok = first }) // the replica has not heard yet
		time.Sleep(time.Hour)
		_, err = src.Token()
		assert.NoError(t, err, "the used refresh token is not sent again")
	})
}

func TestSetToken(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		store := &memoryStore{}
		src := s.TokenSource(nil, store)
		_, err := src.Token()
		assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
		first := issue(s.platform)
		require.NoError(t, src.SetToken(t.Context(), first))
		assert.Same(t, first, store.tok)
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, first, tok)

		// During a refresh of the old login.
		time.Sleep(2 * time.Hour)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: time.Second})
		go src.Token()
		synctest.Wait()
		second := issue(s.platform)
		require.NoError(t, src.SetToken(t.Context(), second))
		tok, err = src.Token()
		require.NoError(t, err)
		assert.Same(t, second, tok)
		assert.Same(t, second, store.tok)

		store.saveErr = errors.New("full")
		third := issue(s.platform)
		err = src.SetToken(t.Context(), third)
		assert.ErrorIs(t, err, shangcloud.ErrTokenStore)
		assert.ErrorIs(t, err, store.saveErr)
		assert.NotContains(t, err.Error(), third.AccessToken)
		store.set(func() { store.saveErr = nil })
		time.Sleep(time.Second)
		tok, err = src.Token()
		require.NoError(t, err)
		assert.Same(t, third, tok)
		assert.Same(t, third, store.tok)
	}, func(c *shangcloud.Config) { c.Logger = slog.New(slog.DiscardHandler) })
}

// TestSetNoToken logs the user out, here and in the store.
func TestSetNoToken(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		store := &memoryStore{}
		src := s.TokenSource(nil, store)
		require.NoError(t, src.SetToken(t.Context(), issue(s.platform)))
		require.NoError(t, src.SetToken(t.Context(), nil))
		assert.Nil(t, store.tok)
		for range 2 {
			tok, err := src.Token()
			assert.Nil(t, tok)
			assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
		}

		require.NoError(t, src.SetToken(t.Context(), issue(s.platform)))
		store.saveErr = errors.New("full")
		store.tok = issue(s.platform)
		assert.ErrorIs(t, src.SetToken(t.Context(), nil), shangcloud.ErrTokenStore)
		store.set(func() { store.saveErr = nil })
		time.Sleep(time.Second)
		tok, err := src.Token()
		assert.Nil(t, tok)
		assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
		assert.Nil(t, store.tok, "it is saved later")
		assert.Zero(t, s.tokenRequests())

		src = s.TokenSource(issue(s.platform), nil)
		require.NoError(t, src.SetToken(t.Context(), nil))
		_, err = src.Token()
		assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
	}, func(c *shangcloud.Config) { c.Logger = slog.New(slog.DiscardHandler) })
}

func TestSetTokenObeysItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		src := s.TokenSource(issue(s.platform), nil)
		require.NoError(t, src.SetToken(t.Context(), issue(s.platform)))
		time.Sleep(2 * time.Hour)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Hang: true})
		go src.Token()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorIs(t, src.SetToken(ctx, issue(s.platform)), context.DeadlineExceeded)
		time.Sleep(time.Minute)
	})
}
