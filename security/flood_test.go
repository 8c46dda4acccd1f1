package security_test

import (
	"crypto/rand"
	"encoding/base64"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// TestFloodOfCallbacks sends callbacks with invented states, from browsers with and without
// cookies. The callbacks cause no requests to the store or the platform, and set no cookie.
func TestFloodOfCallbacks(t *testing.T) {
	store := &countingStore{Store: state.NewMemory(0)}
	s := newSite(t, func(c *setup) { c.States = store })
	owner := newBrowser(t)
	callbackURL := authorize(t, owner.start(t, s))
	calls := store.calls
	var buf [32]byte
	for i := range 10_000 {
		_, _ = rand.Read(buf[:])
		b := &browser{jar: owner.jar}
		if i%2 == 0 {
			b = newBrowser(t)
		}
		r := b.request("GET", "https://app.example/callback?code=c&state="+base64.RawURLEncoding.EncodeToString(buf[:]))
		w := httptest.NewRecorder()
		_, err := s.FinishLogin(w, r)
		require.ErrorIs(t, err, oauth2login.ErrWrongBrowser)
		require.Empty(t, w.Result().Cookies())
	}
	assert.Equal(t, calls, store.calls, "the store is not asked")
	assert.Zero(t, s.tokenRequests())
	_, err := owner.finish(s, callbackURL)
	assert.NoError(t, err, "the owner of a login has not noticed")
}

// TestFloodOfStarts starts logins that nobody finishes. Memory is bounded. An honest user's
// login still succeeds, if fewer logins start in the meantime than the store can hold.
func TestFloodOfStarts(t *testing.T) {
	const capacity = 1000
	s := newSite(t, func(c *setup) { c.States = state.NewMemory(capacity) })
	flood := func(n int) {
		for range n {
			require.NoError(t, s.StartLogin(httptest.NewRecorder(), httptest.NewRequest("GET", "https://app.example/login", nil)))
		}
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	flood(2 * capacity)
	before := heap()
	for range 5 {
		flood(capacity)
		b := newBrowser(t)
		authURL := b.start(t, s)
		flood(capacity / 2)
		_, err := b.finish(s, authorize(t, authURL))
		require.NoError(t, err, "an honest user")
	}
	assert.Less(t, heap(), before+1<<20, "memory does not grow")

	b := newBrowser(t)
	authURL := b.start(t, s)
	flood(3 * capacity)
	_, err := b.finish(s, authorize(t, authURL))
	assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, "beyond that, the oldest go")

	// The attacker chooses long return paths. The store keeps them.
	for _, path := range []string{"/" + strings.Repeat("&", 2047), "/?" + strings.Repeat(`"`, 2046), "/?" + strings.Repeat("\u2028", 682)} {
		for range 2 * capacity {
			require.NoError(t, s.StartLogin(httptest.NewRecorder(), httptest.NewRequest("GET", "https://app.example/login", nil), oauth2login.WithReturnTo(path)))
		}
		assert.Less(t, heap(), before+capacity*1200, "%.6q", path)
	}
}

// TestFloodOfRefreshes: one user has many token sources, and each source has many callers.
// All of them find the token expired at the same time. Only one refresh is sent.
func TestFloodOfRefreshes(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		s.platform.Configure(func(c *shangcloudtest.Settings) { c.TokenLifetime = time.Hour })
		store := new(tokenstore.Memory)
		require.NoError(t, store.SaveToken(t.Context(), issue(s.platform)))
		sources := []oauth2.TokenSource{}
		for range 50 {
			sources = append(sources, s.StoredTokens(store))
		}
		time.Sleep(2 * time.Hour)
		var wg sync.WaitGroup
		for i := range 2000 {
			wg.Go(func() {
				_, err := sources[i%len(sources)].Token()
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		assert.Equal(t, 1, s.tokenRequests())
		// The bubble checks that no goroutine is left.
	})
}
