package oauth2login_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// tokenSite is a provider in a synctest bubble with a fake clock. Its platform needs no
// network.
type tokenSite struct {
	*oauth2login.Provider
	platform *shangcloudtest.Server
}

func inTokenBubble(t *testing.T, f func(t *testing.T, s *tokenSite), changes ...func(*oauth2login.Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		platform := shangcloudtest.New()
		defer platform.Close()
		platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{"https://app.example/callback"}})
		platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明"})
		f(t, &tokenSite{tokenProvider(t, platform, changes...), platform})
		synctest.Wait()
	})
}

// tokenProvider returns a provider, which stands for one process of the application.
func tokenProvider(t *testing.T, platform *shangcloudtest.Server, changes ...func(*oauth2login.Options)) *oauth2login.Provider {
	t.Helper()
	options := &oauth2login.Options{
		HTTPClient: &http.Client{Transport: platform.Transport()},
		Logger:     slog.New(slog.DiscardHandler),
	}
	for _, change := range changes {
		change(options)
	}
	p, err := oauth2login.New(&oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: "https://app.example/callback",
		Endpoint: oauth2.Endpoint{AuthURL: platform.URL + "/oauth/authorize", TokenURL: platform.URL + "/oauth/token", AuthStyle: oauth2.AuthStyleInHeader},
	}, options, oauth2login.WithAssumedLifetime(time.Hour))
	require.NoError(t, err)
	return p
}

// issued returns a token that lives for an hour.
func (s *tokenSite) issued() *oauth2.Token {
	access, refresh := s.platform.Issue("demo", 10001, "user:basic")
	return &oauth2.Token{AccessToken: access, RefreshToken: refresh, TokenType: "Bearer", Expiry: time.Now().Add(time.Hour), ExpiresIn: 3600}
}

func (s *tokenSite) expired() *oauth2.Token {
	tok := s.issued()
	tok.Expiry = time.Now()
	return tok
}

func (s *tokenSite) refreshes() int { return len(s.platform.Requests("/oauth/token")) }

// fakeStore is a TokenStore that counts calls and can fail.
type fakeStore struct {
	mu               sync.Mutex
	tok              *oauth2.Token
	loads, saves     int
	loadErr, saveErr error
	failSaves        int // how many of the next saves fail
	loading, saving  time.Duration
}

func (m *fakeStore) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	if err := rest(ctx, m.loading); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loads++
	return m.tok, m.loadErr
}

func (m *fakeStore) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if err := rest(ctx, m.saving); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saves++
	if m.saveErr != nil {
		return fmt.Errorf("%w: (%s, %s)", m.saveErr, tok.AccessToken, tok.RefreshToken)
	}
	if m.failSaves--; m.failSaves >= 0 {
		return errors.New("deadlock detected: transaction rolled back")
	}
	m.tok = tok
	return nil
}

func (m *fakeStore) DeleteToken(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.saveErr == nil {
		m.tok = nil
	}
	return m.saveErr
}

// token returns the stored token.
func (m *fakeStore) token() *oauth2.Token {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tok
}

func (m *fakeStore) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// rest waits for d, or returns an error when ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lockingStore is a fakeStore with a lock.
type lockingStore struct {
	fakeStore
	lock    chan struct{} // contains an element while the lock is held
	held    time.Duration // the hold that the last caller asked for
	lockErr error
}

func newLockingStore(tok *oauth2.Token) *lockingStore {
	return &lockingStore{fakeStore: fakeStore{tok: tok}, lock: make(chan struct{}, 1)}
}

func (l *lockingStore) LockToken(ctx context.Context, hold time.Duration) (func(), error) {
	l.set(func() { l.held = hold })
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

// behind waits until a refresh in the background has ended.
func behind() { time.Sleep(time.Second); synctest.Wait() }

func TestTokenSourceRefreshesBehind(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		first := s.issued()
		store := &fakeStore{tok: first}
		src := s.StoredTokens(store)
		_, err := src.Token()
		require.NoError(t, err)
		time.Sleep(time.Hour - 61*time.Second)
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, first, tok)
		assert.Zero(t, s.refreshes())

		time.Sleep(time.Second)
		tok, err = src.Token()
		require.NoError(t, err)
		assert.Same(t, first, tok, "due, and handed out at once")
		behind()
		tok, err = src.Token()
		require.NoError(t, err)
		assert.NotEqual(t, first.AccessToken, tok.AccessToken)
		assert.NotEqual(t, first.RefreshToken, tok.RefreshToken, "the platform rotates")
		assert.Same(t, tok, store.token())
		assert.Equal(t, 1, s.refreshes())
	})
}

func TestTokenSourceEarlyRefresh(t *testing.T) {
	for early, refreshed := range map[time.Duration]time.Duration{
		10 * time.Minute: 50 * time.Minute,
		0:                59 * time.Minute,
		-1:               time.Hour, // only an expired token is refreshed
	} {
		inTokenBubble(t, func(t *testing.T, s *tokenSite) {
			src := s.TokenSource(s.issued())
			time.Sleep(refreshed - 1)
			_, err := src.Token()
			require.NoError(t, err)
			behind()
			assert.Zero(t, s.refreshes(), early)
			_, err = src.Token()
			require.NoError(t, err)
			behind()
			assert.Equal(t, 1, s.refreshes(), early)
		}, func(o *oauth2login.Options) { o.EarlyRefresh = early })
	}
}

// Tokens that live shorter than the early window are refreshed after half of their lives,
// and not at every call.
func TestTokenSourceShortLife(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		s.platform.Configure(func(c *shangcloudtest.Settings) { c.TokenLifetime = 10 * time.Second })
		src := s.TokenSource(s.expired())
		for range 30 {
			_, err := src.Token()
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		assert.Equal(t, 6, s.refreshes())
	})
}

// A stored token claims a lifetime that a time.Duration cannot hold. The token is still
// refreshed on time.
func TestTokenSourceImpossibleLife(t *testing.T) {
	for _, seconds := range []int64{math.MaxInt64, math.MaxInt64/int64(time.Second) + 1, 1 << 40, -1, math.MinInt64} {
		inTokenBubble(t, func(t *testing.T, s *tokenSite) {
			tok := s.issued()
			tok.ExpiresIn = seconds
			src := s.StoredTokens(&fakeStore{tok: tok})
			time.Sleep(time.Until(tok.Expiry) - 61*time.Second)
			got, err := src.Token()
			require.NoError(t, err)
			assert.Equal(t, tok.AccessToken, got.AccessToken, seconds)
			time.Sleep(time.Minute + time.Second)
			got, err = src.Token()
			require.NoError(t, err)
			assert.NotEqual(t, tok.AccessToken, got.AccessToken, seconds)
		})
	}
}

// A token in the platform's own JSON has expires_in but no expiry. So it is unknown when
// the token expires.
func TestTokenSourceOfUnclearAge(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		old := &oauth2.Token{AccessToken: "of last week", RefreshToken: s.issued().RefreshToken, ExpiresIn: 3600}
		for _, src := range []*oauth2login.TokenSource{s.TokenSource(old), s.StoredTokens(&fakeStore{tok: &oauth2.Token{AccessToken: "of last week", RefreshToken: s.issued().RefreshToken, ExpiresIn: 3600}})} {
			tok, err := src.Token()
			require.NoError(t, err)
			assert.NotEqual(t, "of last week", tok.AccessToken)
		}
	})
}

func TestTokenSourceNobodyWaitsForAValidToken(t *testing.T) {
	for name, fault := range map[string]shangcloudtest.Fault{
		"slow":   {Delay: 9 * time.Second},
		"silent": {Hang: true},
	} {
		for _, stored := range []bool{false, true} {
			inTokenBubble(t, func(t *testing.T, s *tokenSite) {
				first := s.issued()
				src := s.TokenSource(first)
				if stored {
					src = s.StoredTokens(newLockingStore(first))
				}
				time.Sleep(time.Hour - 50*time.Second)
				s.platform.Fault("/oauth/token", fault)
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						start := time.Now()
						tok, err := src.Token()
						assert.NoError(t, err, name)
						assert.Same(t, first, tok, name)
						assert.Zero(t, time.Since(start), name)
					})
				}
				wg.Wait()
				time.Sleep(30 * time.Second)
			})
		}
	}
}

func TestTokenSourceAllWaitForAnExpiredToken(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		src := s.TokenSource(s.issued())
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: 3 * time.Second})
		time.Sleep(2 * time.Hour)

		// The caller that started the refresh gives up, and so does another caller.
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
		assert.Equal(t, 1, s.refreshes())
	})
}

// A caller without a deadline waits 5 seconds longer than a request may take, and then
// gives up.
func TestTokenSourceWaitEnds(t *testing.T) {
	for _, timeout := range []time.Duration{0, 20 * time.Second, time.Minute} {
		inTokenBubble(t, func(t *testing.T, s *tokenSite) {
			store := newLockingStore(s.expired())
			store.lock <- struct{}{} // another process holds the lock, and does not run
			start := time.Now()
			_, err := s.StoredTokens(store).Token()
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			want := timeout
			if want == 0 {
				want = 10 * time.Second
			}
			assert.Equal(t, want+5*time.Second, time.Since(start))
			assert.Equal(t, want+15*time.Second, store.held)
			time.Sleep(5 * time.Minute)
		}, func(o *oauth2login.Options) { o.Timeout = timeout })
	}
}

// However long the wait for the lock was, the refresh request has the full time-out.
func TestTokenSourceTimeoutIsForTheRequest(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(s.expired())
		store.lock <- struct{}{} // another process holds it: slow, suspended or killed
		time.AfterFunc(9500*time.Millisecond, func() { <-store.lock })
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: 5 * time.Second})
		src := s.StoredTokens(store)
		for range 3 {
			_, err := src.Token()
			assert.NotErrorIs(t, err, oauth2login.ErrLoginRequired)
		}
		time.Sleep(20 * time.Second)
		_, err := src.Token()
		require.NoError(t, err)
		assert.Equal(t, 1, s.refreshes())
	})
}

func TestTokenSourceTimeoutIsAdjustable(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		src := s.TokenSource(s.expired())
		s.platform.Handle("/oauth/token", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			recorded := httptest.NewRecorder() // rotated at once; the answer takes 12 seconds
			s.platform.Handle("/oauth/token", nil)
			s.platform.ServeHTTP(recorded, r)
			time.Sleep(12 * time.Second)
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.Copy(w, recorded.Body)
		}))
		_, err := src.Token()
		assert.NoError(t, err)
	}, func(o *oauth2login.Options) { o.Timeout = 20 * time.Second })
}

// A slow store answers so late that the lock is already too old for a refresh. The source
// releases the lock and tries again.
func TestTokenSourceOldLock(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(s.expired())
		src := s.StoredTokens(store)
		looks := 0
		store.loading = 2900 * time.Millisecond
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Before: func(*http.Request) { looks = store.loads }})
		_, err := src.Token()
		require.NoError(t, err)
		assert.Equal(t, 2, looks, "once to look, once under the lock")
		assert.Empty(t, store.lock)
	})
}

func TestTokenSourcePauses(t *testing.T) {
	for name, fault := range map[string]shangcloudtest.Fault{
		"503":      {Status: 503},
		"confused": {Status: 500, Body: `{"error":"invalid_grant"}`},
		"429":      {Status: 429},
		"dropped":  {Drop: true},
		"HTML":     {Status: 200, Body: "<html>"},
		"silent":   {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			inTokenBubble(t, func(t *testing.T, s *tokenSite) {
				first := s.issued()
				src := s.TokenSource(first)
				s.platform.Fault("/oauth/token", fault)
				time.Sleep(time.Hour - 60*time.Second)
				for time.Until(first.Expiry) > 0 {
					tok, err := src.Token()
					require.NoError(t, err)
					assert.Same(t, first, tok)
					time.Sleep(100 * time.Millisecond)
				}
				assert.LessOrEqual(t, s.refreshes(), 7)
				assert.GreaterOrEqual(t, s.refreshes(), 3)

				for range 600 { // for a minute, callers ask with an expired token
					_, err := src.Token()
					assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
					assert.NotErrorIs(t, err, oauth2login.ErrLoginRequired)
					time.Sleep(100 * time.Millisecond)
				}
				assert.LessOrEqual(t, s.refreshes(), 11)
				s.platform.ClearFaults()
				time.Sleep(40 * time.Second)
				_, err := src.Token()
				assert.NoError(t, err, "no pause is longer than 30 seconds and a quarter")
			})
		})
	}
}

// Sources of the same user share the pause after a failed refresh.
func TestTokenSourcePauseIsShared(t *testing.T) {
	for name, fault := range map[string]shangcloudtest.Fault{"503": {Status: 503}, "429": {Status: 429}, "cut": {Drop: true}} {
		t.Run(name, func(t *testing.T) {
			inTokenBubble(t, func(t *testing.T, s *tokenSite) {
				store := newLockingStore(s.expired())
				s.platform.Fault("/oauth/token", fault)
				var wg sync.WaitGroup
				for range 50 {
					wg.Go(func() {
						for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
							_, err := s.StoredTokens(store).Token()
							assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
						}
					})
				}
				wg.Wait()
				behind()
				assert.LessOrEqual(t, s.refreshes(), 10)
				assert.LessOrEqual(t, store.loads, 2*s.refreshes()+70, "the store is looked at every second")
			})
		})
	}
}

func TestTokenSourceRetryAfter(t *testing.T) {
	for asked, pause := range map[string]time.Duration{"120": 2 * time.Minute, "86400": 5 * time.Minute} {
		inTokenBubble(t, func(t *testing.T, s *tokenSite) {
			s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: 503, Header: http.Header{"Retry-After": {asked}}})
			src := s.TokenSource(s.expired())
			for start := time.Now(); time.Since(start) < pause; time.Sleep(time.Second) {
				_, err := src.Token()
				assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
			}
			assert.Equal(t, 1, s.refreshes())
			_, err := src.Token()
			assert.Error(t, err)
			assert.Equal(t, 2, s.refreshes())
		})
	}
}

// During a pause another process may refresh the token.
func TestTokenSourcePauseEndsWithANewToken(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(s.expired())
		src := s.StoredTokens(store)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: 503, Header: http.Header{"Retry-After": {"300"}}})
		_, err := src.Token()
		require.Error(t, err)
		next := s.issued()
		store.set(func() { store.tok = next })
		time.Sleep(2 * time.Second)
		_, _ = src.Token() // checks the store in the background
		behind()
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, next, tok)
	})
}

// A stored token may differ from ours only in the access token, or only in the refresh
// token.
func TestTokenSourceOneHalfIsNew(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		s.platform.Configure(func(c *shangcloudtest.Settings) { c.KeepRefreshTokens = true })
		store := &fakeStore{tok: s.issued()}
		src := s.StoredTokens(store)
		_, err := src.Token()
		require.NoError(t, err)
		time.Sleep(2 * time.Hour)
		next := s.issued()
		next.RefreshToken = store.tok.RefreshToken
		store.set(func() { store.tok = next })
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, next, tok)
		assert.Zero(t, s.refreshes())
	})
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := &fakeStore{tok: s.issued()}
		src := s.StoredTokens(store)
		_, err := src.Token()
		require.NoError(t, err)
		s.platform.Revoke(10001)
		time.Sleep(2 * time.Hour)
		_, err = src.Token()
		require.ErrorIs(t, err, oauth2login.ErrLoginRequired)
		next := *store.tok
		next.RefreshToken = s.issued().RefreshToken
		store.set(func() { store.tok = &next })
		_, err = src.Token()
		assert.NoError(t, err)
	})
}

func TestTokenSourceRefusal(t *testing.T) {
	for name, body := range map[string]string{
		"standard":        "",
		"GitHub's words":  `{"error":"bad_refresh_token"}`,
		"others' words":   `{"error":"invalid_request","error_description":"session not found"}`,
		"an unknown code": `{"error":"token_revoked"}`,
	} {
		for _, stored := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				inTokenBubble(t, func(t *testing.T, s *tokenSite) {
					store := newLockingStore(s.issued())
					src := func() *oauth2login.TokenSource { return s.StoredTokens(store) } // a new source for each request
					if !stored {
						alone := s.TokenSource(store.tok)
						src = func() *oauth2login.TokenSource { return alone }
					}
					time.Sleep(2 * time.Hour)
					s.platform.Revoke(10001)
					if body != "" {
						s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: 400, Body: body})
					}
					for range 30 {
						_, err := src().Token()
						assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
						var re *oauth2.RetrieveError
						require.ErrorAs(t, err, &re)
						time.Sleep(time.Second)
					}
					assert.Equal(t, 1, s.refreshes(), "it is not asked again")

					s.platform.ClearFaults()
					next := s.issued()
					require.NoError(t, src().SetToken(t.Context(), next), "the user has logged in again")
					tok, err := src().Token()
					require.NoError(t, err)
					assert.Same(t, next, tok)
					time.Sleep(time.Hour)
					_, err = src().Token()
					assert.NoError(t, err)
				})
			})
		}
	}
}

// If an answer does not come from an OAuth server, it does not mean that the refresh
// token is invalid.
func TestTokenSourceNotOAuth(t *testing.T) {
	for name, c := range map[string]struct {
		fault shangcloudtest.Fault
		lost  bool
	}{
		"firewall":                {shangcloudtest.Fault{Status: 403, Body: "<html>Blocked</html>"}, false},
		"wrong path":              {shangcloudtest.Fault{Status: 404, Body: "404 page not found"}, false},
		"wrong method":            {shangcloudtest.Fault{Status: 405}, false},
		"proxy without login":     {shangcloudtest.Fault{Status: 407}, false},
		"JSON of another program": {shangcloudtest.Fault{Status: 403, Body: `{"message":"forbidden"}`}, false},
		"a framework's answer":    {shangcloudtest.Fault{Status: 404, Body: `{"status":404,"error":"Not Found","path":"/oauth/token"}`}, false},
		"refusal without a code":  {shangcloudtest.Fault{Status: 400, Body: "expired"}, true},
		"refusal with a code":     {shangcloudtest.Fault{Status: 403, Body: `{"error":"invalid_grant"}`}, true},
	} {
		t.Run(name, func(t *testing.T) {
			inTokenBubble(t, func(t *testing.T, s *tokenSite) {
				src := s.StoredTokens(newLockingStore(s.expired()))
				s.platform.Fault("/oauth/token", c.fault)
				_, err := src.Token()
				assert.Equal(t, c.lost, errors.Is(err, oauth2login.ErrLoginRequired), "%v", err)
				assert.Equal(t, !c.lost, errors.Is(err, oauth2login.ErrUnavailable), "%v", err)
				s.platform.ClearFaults()
				time.Sleep(time.Minute)
				_, err = src.Token()
				assert.Equal(t, c.lost, err != nil)
			})
		})
	}
}

func TestTokenSourceLoggedInAgainElsewhere(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(s.issued())
		src := s.StoredTokens(store)
		_, err := src.Token()
		require.NoError(t, err)
		s.platform.Revoke(10001)
		time.Sleep(2 * time.Hour)
		_, err = src.Token()
		require.ErrorIs(t, err, oauth2login.ErrLoginRequired)

		next := s.issued()
		store.set(func() { store.tok = next })
		tok, err := src.Token()
		require.NoError(t, err, "at once")
		assert.Same(t, next, tok)
		time.Sleep(2 * time.Hour)
		_, err = src.Token()
		assert.NoError(t, err)
	})
}

// The application's credentials are wrong. No user is asked to log in again, and the
// refresh is not repeated at every call.
func TestTokenSourceWrongClientCredentials(t *testing.T) {
	var log bytes.Buffer
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		src := s.TokenSource(s.expired())
		require.NoError(t, s.SetClientSecret("wrong"))
		for range 100 {
			_, err := src.Token()
			require.ErrorIs(t, err, oauth2login.ErrClientCredentials)
			assert.NotErrorIs(t, err, oauth2login.ErrLoginRequired)
			var re *oauth2.RetrieveError
			require.ErrorAs(t, err, &re)
			assert.Equal(t, "invalid_client", re.ErrorCode)
		}
		assert.Equal(t, 1, s.refreshes())
		require.NoError(t, s.SetClientSecret("hush-hush"))
		time.Sleep(2 * time.Second)
		_, err := src.Token()
		assert.NoError(t, err)
	}, func(o *oauth2login.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	assert.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	assert.Contains(t, log.String(), "check the client ID and the client secret")
}

// No caller gets a new token before it is saved, however long the save takes.
func TestTokenSourceSavesBeforeUse(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := &fakeStore{tok: s.expired(), saving: 2 * time.Second}
		start := time.Now()
		got, err := s.StoredTokens(store).Token()
		require.NoError(t, err)
		assert.Equal(t, 2*time.Second, time.Since(start))
		assert.Same(t, got, store.token())
	})
}

// A failed save is repeated while the lock is held. Otherwise another process would use
// the old refresh token.
func TestTokenSourceSavesAgainUnderTheLock(t *testing.T) {
	for _, failures := range []int{1, 3} {
		inTokenBubble(t, func(t *testing.T, s *tokenSite) {
			store := newLockingStore(s.expired())
			store.failSaves = failures
			other := tokenProvider(t, s.platform) // another process
			var wg sync.WaitGroup
			for _, p := range []*oauth2login.Provider{s.Provider, other} {
				wg.Go(func() {
					_, err := p.StoredTokens(store).Token()
					assert.NoError(t, err, failures)
				})
			}
			wg.Wait()
			assert.Equal(t, 1, s.refreshes())
		})
	}
}

func TestTokenSourceLockIsNotToBeHad(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(s.expired())
		store.lock <- struct{}{}
		src := s.StoredTokens(store)
		_, err := src.Token()
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		<-store.lock
		time.Sleep(time.Minute)
		_, err = src.Token()
		assert.NoError(t, err)
		synctest.Wait()
		assert.Empty(t, store.lock, "and it is given back")
	})
}

// While the source waits for the lock, it checks the store.
func TestTokenSourceLookWhileLocked(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		good := s.issued()
		store := newLockingStore(good)
		store.lock <- struct{}{} // held by a suspended process, or on a read-only file system
		start := time.Now()
		tok, err := s.StoredTokens(store).Token()
		require.NoError(t, err, "a good stored token needs no lock")
		assert.Same(t, good, tok)
		assert.Zero(t, time.Since(start))

		store.tok = s.expired()
		time.AfterFunc(3500*time.Millisecond, func() { store.set(func() { store.tok = good }) })
		tok, err = s.StoredTokens(store).Token()
		require.NoError(t, err)
		assert.Same(t, good, tok)
		assert.Equal(t, 4*time.Second, time.Since(start))
		assert.Zero(t, s.refreshes())
		<-store.lock
		synctest.Wait()
	})
}

// A store may hang. Loading and saving have separate time limits.
func TestTokenSourceSlowStore(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: 9900 * time.Millisecond})
		store := newLockingStore(s.expired())
		store.saving = 2900 * time.Millisecond
		src := s.StoredTokens(store)
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, tok, store.token(), "what was left of other limits does not matter")

		s.platform.ClearFaults()
		store.saving = time.Hour
		time.Sleep(2 * time.Hour)
		start := time.Now()
		_, err = src.Token()
		require.NoError(t, err, "kept, though not saved")
		assert.LessOrEqual(t, time.Since(start), 8*time.Second)

		store = newLockingStore(s.expired())
		store.loading = time.Hour
		start = time.Now()
		_, err = s.StoredTokens(store).Token()
		assert.ErrorIs(t, err, oauth2login.ErrTokenStore)
		assert.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestTokenSourceNoRefreshToken(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		tok := s.issued()
		tok.RefreshToken = ""
		for _, src := range []*oauth2login.TokenSource{s.TokenSource(tok), s.StoredTokens(&fakeStore{tok: tok})} {
			time.Sleep(time.Until(tok.Expiry) - 1)
			got, err := src.Token()
			require.NoError(t, err, "good to its last moment")
			assert.Same(t, tok, got)
			time.Sleep(2 * time.Second)
			_, err = src.Token()
			assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
			tok.Expiry = time.Now().Add(time.Hour)
		}
		assert.Zero(t, s.refreshes())
	})
}

func TestTokenSourceAnswerWithoutRefreshToken(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		s.platform.Configure(func(c *shangcloudtest.Settings) { c.KeepRefreshTokens = true })
		first := s.issued()
		src := s.TokenSource(first)
		for range 3 {
			time.Sleep(time.Hour)
			tok, err := src.Token()
			require.NoError(t, err)
			assert.Equal(t, first.RefreshToken, tok.RefreshToken, "the old one stays in force")
		}
	})
}

func TestTokenSourceSavingFails(t *testing.T) {
	var log bytes.Buffer
	full := errors.New("disk full")
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		first := s.expired()
		store := newLockingStore(first)
		store.saveErr = full
		src := s.StoredTokens(store)
		tok, err := src.Token()
		require.NoError(t, err, "it is handed out all the same")
		assert.NotEqual(t, first.AccessToken, tok.AccessToken)
		assert.Contains(t, log.String(), "token store: save: it failed with *errors.errorString")
		assert.NotContains(t, log.String(), "disk full", "its own text may quote the token")
		assert.NotContains(t, log.String(), tok.AccessToken)
		assert.NotContains(t, log.String(), tok.RefreshToken)
		saves := store.saves
		for range 100 {
			again, err := s.StoredTokens(store).Token()
			require.NoError(t, err)
			assert.Same(t, tok, again, "for every source on an equal store")
		}
		synctest.Wait()
		assert.Equal(t, saves, store.saves, "after a pause only")

		store.set(func() { store.saveErr = nil })
		time.Sleep(2 * time.Second)
		_, err = s.StoredTokens(store).Token()
		require.NoError(t, err)
		behind()
		assert.Same(t, tok, store.token())
		assert.Equal(t, 1, s.refreshes())
	}, func(o *oauth2login.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
}

// An error's text is printed if it is known to contain no secrets.
func TestTokenSourceTellsTheReason(t *testing.T) {
	for want, cause := range map[string]error{
		"token store: save: rename /data/t.tmp /data/t: " + syscall.EBUSY.Error(): &os.LinkError{Op: "rename", Old: "/data/t.tmp", New: "/data/t", Err: syscall.EBUSY},
		"token store: save: open /data/t.tmp: " + syscall.EACCES.Error():          &fs.PathError{Op: "open", Path: "/data/t.tmp", Err: syscall.EACCES},
		"token store: save: the server answered NOAUTH":                           safeError("the server answered NOAUTH"),
		"token store: save: it failed with *errors.errorString":                   errors.New("hush"),
	} {
		var log bytes.Buffer
		inTokenBubble(t, func(t *testing.T, s *tokenSite) {
			err := s.StoredTokens(&fakeStore{saveErr: cause}).SetToken(t.Context(), s.issued())
			assert.ErrorIs(t, err, oauth2login.ErrTokenStore)
			assert.ErrorContains(t, err, want)
			assert.Contains(t, log.String(), want)
			assert.NotContains(t, log.String(), "hush")
		}, func(o *oauth2login.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	}
}

// safeError is a store's error with a SafeText method, which promises that its text
// contains no secrets.
type safeError string

func (e safeError) Error() string    { return "redisstore: " + string(e) }
func (e safeError) SafeText() string { return string(e) }

// A token that could not be saved becomes due. Then the source refreshes this token, and
// not the older token in the store.
func TestTokenSourceUnsavedTokenIsDue(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		first := s.expired()
		store := newLockingStore(first)
		store.saveErr = errors.New("down")
		for i := range 4 {
			_, err := s.StoredTokens(store).Token()
			require.NoError(t, err, i)
			time.Sleep(2 * time.Hour)
		}
		assert.Same(t, first, store.token())
		store.saveErr = nil
		_, err := s.StoredTokens(store).Token()
		require.NoError(t, err, "no refresh token was used twice")
		assert.NotSame(t, first, store.token())
	})
}

// A refreshed token could not be saved. When the store works again, this token does not
// replace a token that was stored in the meantime.
func TestTokenSourceUnsavedTokenIsOvertaken(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(s *tokenSite, store *lockingStore, unsaved *oauth2.Token) (stored *oauth2.Token)
		want      func(unsaved, stored *oauth2.Token) *oauth2.Token
	}{
		"the store is as it was": {
			func(_ *tokenSite, store *lockingStore, _ *oauth2.Token) *oauth2.Token { return store.tok },
			func(unsaved, _ *oauth2.Token) *oauth2.Token { return unsaved },
		},
		"a new login": {
			func(s *tokenSite, _ *lockingStore, _ *oauth2.Token) *oauth2.Token { return s.issued() },
			func(_, stored *oauth2.Token) *oauth2.Token { return stored },
		},
		"a save that was given up": {
			func(_ *tokenSite, _ *lockingStore, unsaved *oauth2.Token) *oauth2.Token {
				late := *unsaved
				return &late
			},
			func(unsaved, _ *oauth2.Token) *oauth2.Token { return unsaved },
		},
		"a logout": {
			func(*tokenSite, *lockingStore, *oauth2.Token) *oauth2.Token { return nil },
			func(_, _ *oauth2.Token) *oauth2.Token { return nil },
		},
	} {
		for _, shutdown := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/shutdown %v", name, shutdown), func(t *testing.T) {
				inTokenBubble(t, func(t *testing.T, s *tokenSite) {
					store := newLockingStore(s.expired())
					store.saveErr = errors.New("down")
					src := s.StoredTokens(store)
					unsaved, err := src.Token()
					require.NoError(t, err)
					behind()
					stored := c.meanwhile(s, store, unsaved)
					store.set(func() { store.tok, store.saveErr = stored, nil })
					time.Sleep(5 * time.Second)
					want := c.want(unsaved, stored)
					if shutdown {
						assert.NoError(t, s.Shutdown(t.Context()))
					}
					_, _ = src.Token() // the unsaved token is still valid; it is saved in the background
					behind()
					tok, err := src.Token()
					if want == nil {
						assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
						assert.Nil(t, store.token())
						return
					}
					require.NoError(t, err)
					assert.Equal(t, want.AccessToken, tok.AccessToken)
					assert.Equal(t, want.AccessToken, store.token().AccessToken)
				})
			})
		}
	}
}

// stalledStore is a slow disk: a save ignores its context.
type stalledStore struct {
	*lockingStore
	stall time.Duration
}

func (d stalledStore) SaveToken(_ context.Context, tok *oauth2.Token) error {
	time.Sleep(d.stall)
	return d.lockingStore.SaveToken(context.Background(), tok)
}

// A source gives up on a save that continues in the background. Another process must wait
// for the result of this save, because the refresh token in the store has been used.
func TestTokenSourceSaveComesLate(t *testing.T) {
	for _, stall := range []time.Duration{2 * time.Second, 10 * time.Second, 20 * time.Second} {
		t.Run(stall.String(), func(t *testing.T) {
			inTokenBubble(t, func(t *testing.T, s *tokenSite) {
				disk := newLockingStore(s.expired())
				here := s.StoredTokens(stalledStore{disk, stall})
				there := tokenProvider(t, s.platform).StoredTokens(disk)
				var wg sync.WaitGroup
				for i, src := range []*oauth2login.TokenSource{here, there} {
					wg.Go(func() {
						time.Sleep(time.Duration(i) * time.Millisecond)
						for {
							if _, err := src.Token(); err == nil {
								return
							} else if !assert.NotErrorIs(t, err, oauth2login.ErrLoginRequired) {
								return
							}
							time.Sleep(time.Second)
						}
					})
				}
				wg.Wait()
				assert.Equal(t, 1, s.refreshes(), "no refresh token is used twice")
				time.Sleep(time.Minute)
				_, _ = here.Token()
				behind()
				assert.Equal(t, 1, s.refreshes())
				time.Sleep(time.Hour)
				for _, src := range []*oauth2login.TokenSource{here, there} {
					_, err := src.Token()
					assert.NoError(t, err)
				}
				time.Sleep(time.Minute) // the abandoned save ends
			})
		})
	}
}

// A token is unsaved. Meanwhile another process has stored a newer token, which is due.
// So Shutdown has nothing to save.
func TestShutdownUnsavedTokenIsOvertaken(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(s.expired())
		store.saveErr = errors.New("down")
		_, err := s.StoredTokens(store).Token()
		require.NoError(t, err)
		behind()
		time.Sleep(time.Hour)
		other := s.issued()
		other.Expiry = time.Now().Add(30 * time.Second)
		store.set(func() { store.tok, store.saveErr = other, nil })
		assert.NoError(t, s.Shutdown(t.Context()))
		assert.Same(t, other, store.token())
		assert.Equal(t, 1, s.refreshes())
	})
}

// The unsaved token has expired, and another process has stored a good token. Callers get
// the stored token without waiting for the lock.
func TestTokenSourceUnsavedTokenIsOvertakenWhileLocked(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(s.expired())
		store.saveErr = errors.New("down")
		src := s.StoredTokens(store)
		_, err := src.Token()
		require.NoError(t, err)
		behind()
		time.Sleep(2 * time.Hour)
		good := s.issued()
		store.set(func() { store.tok, store.saveErr = good, nil })
		store.lock <- struct{}{} // a suspended process
		start := time.Now()
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, good, tok)
		assert.LessOrEqual(t, time.Since(start), time.Second)
		<-store.lock
	})
}

// The API rejects the first token. Its replacement can't be saved, and the provider then
// refuses to refresh it. Token must return ErrLoginRequired, and not the first token, which
// is still in the store.
func TestRejectedTokenStaysOut(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		first := s.issued()
		store := newLockingStore(first)
		src := s.StoredTokens(store)
		_, err := src.Token()
		require.NoError(t, err)
		store.set(func() { store.saveErr = errors.New("down") })
		s.platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: 401})
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Status: 200, Body: `{"access_token":"second","refresh_token":"short-lived","expires_in":60}`})
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: 400, Body: `{"error":"invalid_grant"}`})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.platform.URL+"/api/user/info", strings.NewReader("{}"))
		require.NoError(t, err)
		if res, err := s.Client(src).Do(req); err == nil {
			_ = res.Body.Close()
		}
		require.Equal(t, 1, s.refreshes())
		time.Sleep(2 * time.Minute)
		_, err = src.Token()
		assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
		assert.Equal(t, 2, s.refreshes())
	})
}

// timedStore records when its lock was granted.
type timedStore struct {
	*lockingStore
	had time.Time
}

func (d *timedStore) LockToken(ctx context.Context, hold time.Duration) (func(), error) {
	unlock, err := d.lockingStore.LockToken(ctx, hold)
	d.set(func() { d.had = time.Now() })
	return unlock, err
}

// The store grants its lock while the source reads the store. The age of the lock counts
// from the grant, not from the end of the read.
func TestTokenSourceLockDuringALook(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := &timedStore{lockingStore: newLockingStore(s.expired())}
		store.loading = 2500 * time.Millisecond
		store.lock <- struct{}{} // another process
		time.AfterFunc(3600*time.Millisecond, func() { <-store.lock })
		var age time.Duration
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Before: func(*http.Request) {
			store.set(func() { age = time.Since(store.had) })
		}})
		_, err := s.StoredTokens(store).Token()
		require.NoError(t, err)
		assert.Equal(t, store.loading, age)
	})
}

func TestTokenSourceAnotherProcessHasRefreshed(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := &fakeStore{tok: s.issued()}
		one, two := s.StoredTokens(store), tokenProvider(t, s.platform).StoredTokens(store)
		for range 5 {
			a, err := one.Token()
			require.NoError(t, err)
			b, err := two.Token()
			require.NoError(t, err)
			assert.Same(t, a, b)
			time.Sleep(time.Hour)
		}
		assert.Equal(t, 4, s.refreshes())
		assert.Equal(t, 4, store.saves)
	})
}

// crowd runs 10 processes with 10 callers each. All callers use the token of one store
// for a while.
func crowd(t *testing.T, s *tokenSite, store oauth2login.TokenStore) {
	var wg sync.WaitGroup
	for range 10 {
		p := tokenProvider(t, s.platform)
		src := p.StoredTokens(store)
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
}

// With rotation and reuse detection, each token that is due is refreshed once.
func TestTokenSourceManyProcesses(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		s.platform.Configure(func(c *shangcloudtest.Settings) { c.TokenLifetime = 10 * time.Second })
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: 50 * time.Millisecond})
		store := newLockingStore(s.expired())
		begin := time.Now()
		crowd(t, s, store)
		// A token lives for 10 seconds and is due after half of that.
		assert.InDelta(t, time.Since(begin).Seconds()/5, s.refreshes(), 2)
		assert.Equal(t, store.saves, s.refreshes())
	})
}

// There is no lock, and the platform refuses a used refresh token without ending the
// login. The first process to refresh succeeds. The others are refused, and then find its
// new token in the store.
func TestTokenSourceManyProcessesWithoutALock(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		var mu sync.Mutex
		refused := 0
		first := s.issued()
		first.Expiry = time.Now().Add(time.Second)
		current := first.RefreshToken
		s.platform.Handle("/oauth/token", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(50 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			if r.FormValue("refresh_token") != current {
				refused++
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"error":"invalid_grant"}`)
				return
			}
			var access string
			access, current = s.platform.Issue("demo", 10001, "user:basic")
			_, _ = fmt.Fprintf(w, `{"access_token":%q,"refresh_token":%q,"token_type":"Bearer","expires_in":10}`, access, current)
		}))
		crowd(t, s, &fakeStore{tok: first})
		assert.NotZero(t, refused, "they did meet")
	})
}

// Another process may have used the refresh token already, and save the new token a
// moment later.
func TestTokenSourceRefusedWithoutALock(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		old := &oauth2.Token{AccessToken: "old", RefreshToken: "used", Expiry: time.Now().Add(-time.Hour)}
		store := &fakeStore{tok: old}
		newer := s.issued()
		time.AfterFunc(500*time.Millisecond, func() { store.set(func() { store.tok = newer }) })
		tok, err := s.StoredTokens(store).Token()
		require.NoError(t, err)
		assert.Same(t, newer, tok)
		assert.Equal(t, 1, s.refreshes())

		store.set(func() { store.tok = old })
		start := time.Now()
		_, err = s.StoredTokens(store).Token()
		assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
		assert.Equal(t, 1500*time.Millisecond, time.Since(start), "it is over, and that is known soon")
	})
}

func TestTokenSourceLoggedOutElsewhere(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := &fakeStore{tok: s.issued()}
		src := s.StoredTokens(store)
		_, err := src.Token()
		require.NoError(t, err)
		store.set(func() { store.tok = nil })
		time.Sleep(2 * time.Hour)
		_, err = src.Token()
		assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
		assert.Zero(t, s.refreshes(), "a login that was ended is not revived")
		assert.Nil(t, store.token())

		store.set(func() { store.tok = s.issued() })
		_, err = src.Token()
		assert.NoError(t, err, "the user has logged in again, elsewhere")
	})
}

func TestTokenSourceStoreDown(t *testing.T) {
	for name, down := range map[string]func(*lockingStore){
		"load": func(l *lockingStore) { l.loadErr = errors.New("down: hush") },
		"lock": func(l *lockingStore) { l.lockErr = errors.New("down: hush") },
	} {
		t.Run(name, func(t *testing.T) {
			inTokenBubble(t, func(t *testing.T, s *tokenSite) {
				store := newLockingStore(s.issued())
				src := s.StoredTokens(store)
				first, err := src.Token()
				require.NoError(t, err)
				down(store)
				time.Sleep(time.Hour - 30*time.Second)
				tok, err := src.Token()
				require.NoError(t, err, "the old one is still good")
				assert.Same(t, first, tok)
				time.Sleep(time.Hour)
				_, err = src.Token()
				assert.ErrorIs(t, err, oauth2login.ErrTokenStore)
				assert.NotErrorIs(t, err, oauth2login.ErrLoginRequired)
				assert.NotContains(t, fmt.Sprintf("%v %#v", err, err), "hush")
				assert.Zero(t, s.refreshes(), "what may be in the store already is not refreshed blindly")
			})
		})
	}
}

func TestTokenSourceLaggingReplica(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		first := s.issued()
		store := &fakeStore{tok: first}
		src := s.StoredTokens(store)
		for range 2 {
			_, err := src.Token()
			require.NoError(t, err, "the used refresh token is not sent again")
			time.Sleep(time.Hour)
		}
		store.set(func() { store.tok = first }) // the replica does not have the new token yet
		_, err := src.Token()
		assert.NoError(t, err, "the used refresh token is not sent again")
	})
}

func TestSetToken(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(nil)
		src := s.StoredTokens(store)
		_, err := src.Token()
		assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
		first := s.issued()
		require.NoError(t, src.SetToken(t.Context(), first))
		assert.Same(t, first, store.token())
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, first, tok)

		// The user logs in again while the old token is being refreshed.
		time.Sleep(2 * time.Hour)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: time.Second})
		go src.Token()
		synctest.Wait()
		second := s.issued()
		require.NoError(t, src.SetToken(t.Context(), second))
		tok, err = src.Token()
		require.NoError(t, err)
		assert.Same(t, second, tok)
		assert.Same(t, second, store.token())

		store.saveErr = errors.New("full")
		third := s.issued()
		err = src.SetToken(t.Context(), third)
		assert.ErrorIs(t, err, oauth2login.ErrTokenStore)
		assert.ErrorIs(t, err, store.saveErr)
		assert.NotContains(t, err.Error(), third.AccessToken)
		store.set(func() { store.saveErr = nil })
		time.Sleep(2 * time.Second)
		tok, err = src.Token()
		require.NoError(t, err)
		behind()
		assert.Same(t, third, tok)
		assert.Same(t, third, store.token(), "saved later")

		assert.Error(t, src.SetToken(t.Context(), nil))
		assert.Error(t, src.SetToken(t.Context(), &oauth2.Token{RefreshToken: "rt"}))
	})
}

func TestSetTokenInMemoryDuringARefresh(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		src := s.TokenSource(s.expired())
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: time.Second})
		go src.Token()
		synctest.Wait()
		next := s.issued()
		require.NoError(t, src.SetToken(t.Context(), next))
		time.Sleep(5 * time.Second)
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, next, tok, "the older login's answer does not replace it")
	})
}

// A caller that has just found the old token expired does not restore the old token.
func TestSetTokenInMemoryDuringManyCalls(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		for range 2000 {
			src, next := s.TokenSource(s.expired()), s.issued()
			for range 3 {
				go src.Token()
			}
			require.NoError(t, src.SetToken(t.Context(), next))
			synctest.Wait()
			tok, err := src.Token()
			require.NoError(t, err)
			require.Same(t, next, tok)
		}
	})
}

// Two sources on one store have an unsaved token. Once the first source has deleted or
// replaced this token, the second source no longer saves it.
func TestUnsavedTokenOfTwoSources(t *testing.T) {
	for name, change := range map[string]func(ctx context.Context, src *oauth2login.TokenSource, next *oauth2.Token) error{
		"logged out": func(ctx context.Context, src *oauth2login.TokenSource, _ *oauth2.Token) error { return src.Delete(ctx) },
		"logged in": func(ctx context.Context, src *oauth2login.TokenSource, next *oauth2.Token) error {
			return src.SetToken(ctx, next)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTokenBubble(t, func(t *testing.T, s *tokenSite) {
				store := newLockingStore(s.expired())
				store.saveErr = errors.New("down")
				one, two := s.StoredTokens(store), s.StoredTokens(store)
				for _, src := range []*oauth2login.TokenSource{one, two} {
					_, err := src.Token()
					require.NoError(t, err)
				}
				store.set(func() { store.saveErr = nil })
				require.NoError(t, change(t.Context(), one, s.issued()))
				stored := store.token()
				_, err := two.Token()
				require.NoError(t, err)
				behind()
				assert.Same(t, stored, store.token())
			})
		})
	}
}

func TestDelete(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(nil)
		src := s.StoredTokens(store)
		require.NoError(t, src.SetToken(t.Context(), s.issued()))
		require.NoError(t, src.Delete(t.Context()))
		assert.Nil(t, store.token())
		for range 2 {
			tok, err := src.Token()
			assert.Nil(t, tok)
			assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
		}

		require.NoError(t, src.SetToken(t.Context(), s.issued()))
		store.saveErr = errors.New("down")
		assert.ErrorIs(t, src.Delete(t.Context()), oauth2login.ErrTokenStore)
		for range 3 {
			tok, err := s.StoredTokens(store).Token()
			assert.Nil(t, tok, "logged out in this process all the same")
			assert.Error(t, err)
		}
		store.set(func() { store.saveErr = nil })
		time.Sleep(time.Minute)
		tok, err := src.Token()
		assert.Nil(t, tok)
		assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
		assert.Nil(t, store.token(), "it is removed later")
		assert.Zero(t, s.refreshes())

		src = s.TokenSource(s.issued())
		require.NoError(t, src.Delete(t.Context()))
		_, err = src.Token()
		assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
	})
}

func TestSetTokenObeysItsContext(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(s.expired())
		src := s.StoredTokens(store)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Hang: true})
		go src.Token()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		next := s.issued()
		assert.ErrorIs(t, src.SetToken(ctx, next), context.DeadlineExceeded)
		time.Sleep(time.Minute)
		assert.Same(t, next, store.token(), "it is saved all the same")
	})
}

// An API path that always answers 401 must not cause a refresh for every request.
func TestRejectedTokens(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		s.platform.Handle("/api/always401", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
		store := newLockingStore(s.issued())
		get := func(path string) int {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.platform.URL+path, strings.NewReader("{}"))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			res, err := s.Client(s.StoredTokens(store)).Do(req)
			require.NoError(t, err)
			defer res.Body.Close()
			return res.StatusCode
		}
		for range 300 { // for 5 minutes
			assert.Equal(t, http.StatusUnauthorized, get("/api/always401"))
			assert.Equal(t, http.StatusOK, get("/api/user/info"))
			time.Sleep(time.Second)
		}
		assert.LessOrEqual(t, s.refreshes(), 11)
		assert.GreaterOrEqual(t, s.refreshes(), 1)

		s.platform.ExpireTokens()
		time.Sleep(time.Minute)
		assert.Equal(t, http.StatusOK, get("/api/user/info"), "a token that was revoked is replaced")
	})
}

// A token could not be saved, and the API rejects it. The client refreshes this token.
func TestRejectedTokenIsUnsaved(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(s.expired())
		store.saveErr = errors.New("down")
		src := s.StoredTokens(store)
		_, err := src.Token()
		require.NoError(t, err)
		store.set(func() { store.saveErr = nil })
		s.platform.ExpireTokens()
		time.Sleep(time.Minute)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.platform.URL+"/api/user/info", strings.NewReader("{}"))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		res, err := s.Client(src).Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Equal(t, 2, s.refreshes())
		tok, err := src.Token()
		require.NoError(t, err)
		assert.Same(t, tok, store.token())
	})
}

// The application's code may hang, panic, or end its goroutine with runtime.Goexit.
func TestTokenSourceForeignCode(t *testing.T) {
	for name, misbehave := range map[string]func(){
		"panics":             func() { panic("hush") },
		"ends its goroutine": runtime.Goexit,
	} {
		for method, store := range map[string]func(*oauth2.Token) oauth2login.TokenStore{
			"load": func(tok *oauth2.Token) oauth2login.TokenStore {
				return &foreignStore{fakeStore{tok: tok}, misbehave, nil, nil}
			},
			"save": func(tok *oauth2.Token) oauth2login.TokenStore {
				return &foreignStore{fakeStore{tok: tok}, nil, misbehave, nil}
			},
			"lock": func(tok *oauth2.Token) oauth2login.TokenStore {
				return &foreignStore{fakeStore{tok: tok}, nil, nil, misbehave}
			},
		} {
			t.Run(method+" "+name, func(t *testing.T) {
				inTokenBubble(t, func(t *testing.T, s *tokenSite) {
					src := s.StoredTokens(store(s.expired()))
					_, err := src.Token()
					if method == "save" {
						assert.NoError(t, err, "the token is there, though not saved")
						return
					}
					assert.ErrorIs(t, err, oauth2login.ErrTokenStore)
					assert.NotContains(t, err.Error(), "hush")
					time.Sleep(time.Minute)
					_, err = src.Token()
					assert.ErrorIs(t, err, oauth2login.ErrTokenStore, "and it is not wedged")
				})
			})
		}
		t.Run("transport "+name, func(t *testing.T) {
			inTokenBubble(t, func(t *testing.T, s *tokenSite) {
				src := s.TokenSource(s.expired())
				for range 2 {
					_, err := src.Token()
					assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
					time.Sleep(time.Minute)
				}
			}, func(o *oauth2login.Options) {
				o.HTTPClient = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
					misbehave()
					return nil, nil
				})}
			})
		})
	}
}

// The methods of foreignStore call functions of the test, which may misbehave.
type foreignStore struct {
	fakeStore
	load, save, lock func()
}

func (f *foreignStore) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	if f.load != nil {
		f.load()
	}
	return f.fakeStore.LoadToken(ctx)
}

func (f *foreignStore) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if f.save != nil {
		f.save()
	}
	return f.fakeStore.SaveToken(ctx, tok)
}

func (f *foreignStore) LockToken(context.Context, time.Duration) (func(), error) {
	if f.lock != nil {
		f.lock()
	}
	return func() {}, nil
}

// releaseStore grants its lock after a while. Its release function is set by the test.
type releaseStore struct {
	fakeStore
	locking time.Duration
	release func()
}

func (l *releaseStore) LockToken(context.Context, time.Duration) (func(), error) {
	time.Sleep(l.locking)
	return l.release, nil
}

func TestTokenSourceForeignRelease(t *testing.T) {
	for name, release := range map[string]func(){
		"panics":             func() { panic("hush") },
		"ends its goroutine": runtime.Goexit,
		"hangs":              func() { time.Sleep(time.Hour) },
		"is nil":             nil,
	} {
		t.Run(name, func(t *testing.T) {
			inTokenBubble(t, func(t *testing.T, s *tokenSite) {
				store := &releaseStore{fakeStore{tok: s.expired()}, 0, release}
				tok, err := s.StoredTokens(store).Token()
				require.NoError(t, err)
				assert.Same(t, store.token(), tok)

				_, err = s.StoredTokens(&releaseStore{fakeStore{tok: s.expired()}, time.Minute, release}).Token()
				assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
				time.Sleep(2 * time.Hour) // the lock is granted when no caller waits for it any more
			})
		})
	}
}

// The application's token source hangs. This leaves one goroutine, not one for each call.
func TestClientOfAHangingSource(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		var calls atomic.Int32
		hc := s.Client(sourceFunc(func() (*oauth2.Token, error) {
			calls.Add(1)
			time.Sleep(time.Hour)
			return s.issued(), nil
		}))
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.platform.URL, nil)
			require.NoError(t, err)
			_, err = hc.Do(req)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			cancel()
		}
		assert.Equal(t, int32(1), calls.Load())
		time.Sleep(time.Hour)
	})
}

type sourceFunc func() (*oauth2.Token, error)

func (f sourceFunc) Token() (*oauth2.Token, error) { return f() }

func TestShutdownWaitsForARefresh(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(s.issued())
		src := s.StoredTokens(store)
		time.Sleep(time.Hour - 30*time.Second)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: 5 * time.Second})
		old, err := src.Token() // while the refresh continues in the background
		require.NoError(t, err)
		synctest.Wait()
		start := time.Now()
		require.NoError(t, s.Shutdown(t.Context()))
		assert.Equal(t, 5*time.Second, time.Since(start))
		assert.NotEqual(t, old.AccessToken, store.token().AccessToken, "what was sent is saved")

		time.Sleep(2 * time.Hour)
		_, err = src.Token()
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
		assert.ErrorContains(t, err, "shutting down")
		assert.Equal(t, 1, s.refreshes(), "nothing is sent any more")
		assert.NoError(t, s.Shutdown(t.Context()), "again")
	})
}

func TestShutdownSavesWhatIsUnsaved(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := newLockingStore(s.expired())
		store.saveErr = errors.New("down")
		tok, err := s.StoredTokens(store).Token()
		require.NoError(t, err)
		assert.ErrorIs(t, s.Shutdown(t.Context()), oauth2login.ErrTokenStore)
		store.set(func() { store.saveErr = nil })
		require.NoError(t, s.Shutdown(t.Context()))
		assert.Same(t, tok, store.token())
	})
}

// Shutdown begins while an unsaved token is being refreshed. The older token must not
// overwrite the newer one.
func TestShutdownDuringARefreshOfAnUnsavedToken(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		var releasing time.Duration
		store := &releaseStore{fakeStore{tok: s.expired(), saveErr: errors.New("down")}, 0, func() { time.Sleep(releasing) }}
		unsaved, err := s.StoredTokens(store).Token()
		require.NoError(t, err)
		time.Sleep(2 * time.Hour)
		store.set(func() { store.saveErr = nil })
		releasing = time.Second
		go s.StoredTokens(store).Token()
		synctest.Wait()
		newer := store.token()
		require.NotEqual(t, unsaved.RefreshToken, newer.RefreshToken)
		require.NoError(t, s.Shutdown(t.Context()))
		assert.Same(t, newer, store.token())
	})
}

func TestShutdownDuringManyCalls(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := &fakeStore{saveErr: errors.New("down")}
		assert.Error(t, s.StoredTokens(store).SetToken(t.Context(), s.issued()))
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 1000 {
					_, err := s.StoredTokens(store).Token()
					assert.NoError(t, err)
				}
			})
		}
		wg.Go(func() {
			for range 1000 {
				assert.Error(t, s.Shutdown(canceled))
			}
		})
		wg.Wait()
		time.Sleep(time.Minute) // the save ends
	})
}

func TestShutdownObeysItsContext(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		src := s.TokenSource(s.expired())
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: 5 * time.Second})
		go src.Token()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
		require.NoError(t, s.Shutdown(t.Context()))
	})
}

func TestObserve(t *testing.T) {
	var events []oauth2login.Event
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		src := s.TokenSource(s.expired())
		_, err := src.Token()
		require.NoError(t, err)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Status: 503, Delay: 2 * time.Second})
		time.Sleep(2 * time.Hour)
		_, err = src.Token()
		require.Error(t, err)
		s.platform.Revoke(10001)
		time.Sleep(time.Minute)
		_, err = src.Token()
		require.Error(t, err)
		require.Len(t, events, 3)
		for i, outcome := range []string{"ok", "unavailable", "refused"} {
			assert.Equal(t, outcome, events[i].Outcome)
			assert.Equal(t, "refresh", events[i].Kind)
			assert.Equal(t, "shangcloud.test", events[i].Host)
			assert.Equal(t, "demo", events[i].ClientID)
			assert.Equal(t, outcome == "ok", events[i].Err == nil)
		}
		assert.Equal(t, 2*time.Second, events[1].Duration)
	}, func(o *oauth2login.Options) {
		o.Observe = func(_ context.Context, e oauth2login.Event) {
			events = append(events, e)
			panic("a metrics library that fails")
		}
	})
}

type panickingHandler struct{ slog.Handler }

func (panickingHandler) Handle(context.Context, slog.Record) error { panic("a log that fails") }

type endingHandler struct{ slog.Handler }

func (endingHandler) Handle(context.Context, slog.Record) error { runtime.Goexit(); return nil }

// A log handler may end its goroutine, as t.FailNow does in a test. Callers still get
// their answers.
func TestLoggerEndsItsGoroutine(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Status: 503})
		src := s.TokenSource(s.expired())
		begin := time.Now()
		_, err := src.Token()
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
		assert.Zero(t, time.Since(begin))
		time.Sleep(time.Minute)
		_, err = src.Token()
		assert.NoError(t, err)
	}, func(o *oauth2login.Options) {
		o.Logger = slog.New(endingHandler{slog.NewTextHandler(io.Discard, nil)})
	})
}

func TestLoggerPanics(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		store := &fakeStore{tok: s.expired(), saveErr: errors.New("down")}
		_, err := s.StoredTokens(store).Token()
		assert.NoError(t, err)
		assert.NotZero(t, store.saves)
	}, func(o *oauth2login.Options) {
		o.Logger = slog.New(panickingHandler{slog.NewTextHandler(io.Discard, nil)})
	})
}

// A token that lives for a second may have expired before its caller gets it. That does
// not require a new login.
func TestTokenSourceExpiredOnArrival(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		s.platform.Configure(func(c *shangcloudtest.Settings) { c.TokenLifetime = time.Second })
		store := newLockingStore(s.expired())
		store.saving = 1500 * time.Millisecond // longer than the token lives
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := s.StoredTokens(store).TokenContext(ctx)
		assert.NotErrorIs(t, err, oauth2login.ErrLoginRequired)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(time.Minute)
	})
}
