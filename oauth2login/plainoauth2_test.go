package oauth2login_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// The tests in this file show three faults of x/oauth2's token source. Each test runs the
// same steps with this package.

// plainSource is x/oauth2's token source for tok.
func plainSource(ctx context.Context, s *site, tok *oauth2.Token) oauth2.TokenSource {
	return s.OAuth2().TokenSource(s.ClientContext(ctx), tok)
}

// TestRefreshedTokenOutlivesTheProcess refreshes a token and then restarts with the saved
// token. x/oauth2 does not report the new refresh token, which is the only valid one
// (golang/oauth2#84, golang/go#77502).
func TestRefreshedTokenOutlivesTheProcess(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		saved := issue(s.platform)
		time.Sleep(2 * time.Hour)
		_, err := plainSource(t.Context(), s, saved).Token()
		require.NoError(t, err)
		time.Sleep(2 * time.Hour)
		_, err = plainSource(t.Context(), s, saved).Token()
		assert.Error(t, err, "plain x/oauth2: the login is lost")

		store := &fakeStore{tok: issue(s.platform)}
		for range 3 {
			time.Sleep(2 * time.Hour)
			_, err = s.StoredTokens(store).Token()
			assert.NoError(t, err)
		}
	})
}

// TestTwoProcessesRefreshAtOnce: two processes find the same token due. With rotation and
// reuse detection, a second refresh would end the login.
func TestTwoProcessesRefreshAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		atOnce := func(sources ...oauth2.TokenSource) (failed int) {
			var wg sync.WaitGroup
			var mu sync.Mutex
			for _, src := range sources {
				wg.Go(func() {
					tok, err := src.Token()
					if _, known := s.platform.UserOf(accessOf(tok), "user:basic"); err != nil || !known {
						mu.Lock()
						defer mu.Unlock()
						failed++
					}
				})
			}
			wg.Wait()
			return failed
		}
		tok := issue(s.platform)
		time.Sleep(2 * time.Hour)
		assert.NotZero(t, atOnce(plainSource(t.Context(), s, tok), plainSource(t.Context(), s, tok)))
		_, err := plainSource(t.Context(), s, tok).Token()
		assert.Error(t, err, "plain x/oauth2: both are logged out")

		store := newLockingStore(issue(s.platform))
		one, two := s.StoredTokens(store), s.StoredTokens(store)
		for range 3 {
			time.Sleep(2 * time.Hour)
			assert.Zero(t, atOnce(one, two))
		}
	})
}

func accessOf(tok *oauth2.Token) string {
	if tok == nil {
		return ""
	}
	return tok.AccessToken
}

// TestSourceOutlivesTheRequest creates a source in a request, and uses it after the
// request has ended. x/oauth2's source keeps the request's context (golang/oauth2#262,
// #388).
func TestSourceOutlivesTheRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		request, end := context.WithCancel(t.Context())
		plain := plainSource(request, s, issue(s.platform))
		ours := s.TokenSource(issue(s.platform))
		for _, src := range []oauth2.TokenSource{plain, ours} {
			_, err := src.Token()
			require.NoError(t, err)
		}
		_, err := ours.TokenContext(request)
		require.NoError(t, err)
		end()
		time.Sleep(2 * time.Hour)
		_, err = plain.Token()
		assert.ErrorIs(t, err, context.Canceled, "plain x/oauth2: dead with the request")
		_, err = ours.Token()
		assert.NoError(t, err)
	})
}
