package oauth2login_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// callbackOf starts a login and returns the request that the browser comes back with.
func (s *tokenSite) callbackOf(t *testing.T, denied bool) *http.Request {
	t.Helper()
	start := httptest.NewRecorder()
	require.NoError(t, s.StartLogin(start, httptest.NewRequest("GET", "/login", nil), oauth2login.WithReturnTo("/cart")))
	answer := func(to string) (string, error) { return s.platform.Approve(to, 10001) }
	if denied {
		answer = s.platform.Deny
	}
	back, err := answer(start.Header().Get("Location"))
	require.NoError(t, err)
	r := httptest.NewRequest("GET", back, nil)
	for _, c := range start.Result().Cookies() {
		r.AddCookie(c)
	}
	return r
}

func (s *tokenSite) finish(r *http.Request) (*oauth2login.Login, error) {
	return s.FinishLogin(httptest.NewRecorder(), r)
}

// The browser repeats its navigation during the exchange. The second request, whose
// answer the browser shows, gets the login.
func TestRepeatedCallback(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: time.Second})
		back := s.callbackOf(t, false)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		var first, second *oauth2login.Login
		var wg sync.WaitGroup
		wg.Go(func() {
			var err error
			first, err = s.finish(back.Clone(ctx))
			assert.NoError(t, err, "the exchange goes on")
		})
		wg.Go(func() {
			time.Sleep(600 * time.Millisecond)
			w := httptest.NewRecorder()
			var err error
			second, err = s.FinishLogin(w, back.Clone(t.Context()))
			assert.NoError(t, err)
			assert.Contains(t, w.Header().Get("Set-Cookie"), "Max-Age=0")
		})
		wg.Wait()
		assert.False(t, first.Repeated)
		assert.True(t, second.Repeated)
		assert.Equal(t, first.Token.AccessToken, second.Token.AccessToken)
		assert.NotSame(t, first.Token, second.Token)
		assert.Equal(t, "/cart", second.ReturnTo)
		assert.Equal(t, 1, s.refreshes(), "one request to the token endpoint")

		other := back.Clone(t.Context())
		other.Header.Del("Cookie")
		_, err := s.finish(other)
		assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, "nothing for any other browser")
		u := *back.URL
		q := u.Query()
		q.Set("code", "another")
		u.RawQuery = q.Encode()
		forged := back.Clone(t.Context())
		forged.URL = &u
		_, err = s.finish(forged)
		assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, "nothing for another code")
	})
}

// Changes that the application makes to the first Login do not show in the second.
func TestRepeatedCallbackCopies(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		back := s.callbackOf(t, false)
		first, err := s.finish(back)
		require.NoError(t, err)
		want := *first.Token
		first.Token.AccessToken, first.Token.RefreshToken, first.ReturnTo = "", "", "/elsewhere"
		for i := range first.Scopes {
			first.Scopes[i] = "none"
		}
		second, err := s.finish(back)
		require.NoError(t, err)
		assert.Equal(t, want.AccessToken, second.Token.AccessToken)
		assert.Equal(t, want.RefreshToken, second.Token.RefreshToken)
		assert.Equal(t, "/cart", second.ReturnTo)
		assert.NotContains(t, second.Scopes, "none")
	})
}

func TestRepeatedCallbackLimits(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		back := s.callbackOf(t, false)
		_, err := s.finish(back)
		require.NoError(t, err)
		for range 3 {
			login, err := s.finish(back)
			require.NoError(t, err)
			assert.True(t, login.Repeated)
		}
		_, err = s.finish(back)
		assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, "three times at most")

		back = s.callbackOf(t, false)
		_, err = s.finish(back)
		require.NoError(t, err)
		time.Sleep(5*time.Second + 1)
		_, err = s.finish(back)
		assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, "5 seconds at most")

		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Status: 503})
		back = s.callbackOf(t, false)
		_, first := s.finish(back)
		assert.ErrorIs(t, first, oauth2login.ErrUnavailable)
		_, second := s.finish(back)
		assert.Equal(t, first, second, "errors likewise")

		back = s.callbackOf(t, true)
		for range 2 {
			_, err = s.finish(back)
			assert.ErrorIs(t, err, oauth2login.ErrAccessDenied)
			failed, ok := errors.AsType[*oauth2login.LoginError](err)
			require.True(t, ok)
			assert.Equal(t, "/cart", failed.ReturnTo)
		}
	})
}

// 64 callbacks arrive at once, and the first ten are cancelled. The newest three get the
// result, because the browser shows the answer to the last one. Cancelled callbacks do
// not count towards the three.
func TestRepeatedCallbackFlood(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: time.Second})
		back := s.callbackOf(t, false)
		const callbacks, cancelled = 64, 10
		var logins [callbacks]*oauth2login.Login
		var errs [callbacks]error
		var wg sync.WaitGroup
		for i := range callbacks {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i < cancelled {
				time.AfterFunc(10*time.Millisecond, cancel)
			}
			wg.Go(func() { logins[i], errs[i] = s.finish(back.Clone(ctx)) })
			synctest.Wait()
		}
		other := back.Clone(t.Context())
		other.Header.Set("Cookie", "session=1")
		_, err := s.finish(other)
		assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, "another browser meanwhile")
		wg.Wait()
		assert.NoError(t, errs[0], "the exchange goes on")
		for i := 1; i < callbacks; i++ {
			switch {
			case i < cancelled:
				assert.ErrorIs(t, errs[i], context.Canceled, i)
			case i < callbacks-3:
				assert.ErrorIs(t, errs[i], oauth2login.ErrStateNotFound, i)
			default:
				require.NoError(t, errs[i], i)
				assert.True(t, logins[i].Repeated)
				assert.Equal(t, logins[0].Token.AccessToken, logins[i].Token.AccessToken)
			}
		}
		assert.Equal(t, 1, s.refreshes())
	})
}

// 64 callbacks arrive over HTTP. The browser abandons the first ten and shows the answer
// to a later one.
func TestRepeatedCallbackOverHTTP(t *testing.T) { storedAndSealed(t, testRepeatedCallbackOverHTTP) }

func testRepeatedCallbackOverHTTP(t *testing.T, kind func(*setup)) {
	exchange := make(chan struct{})
	s, b := newSite(t, kind, func(c *setup) {
		c.Timeout = time.Minute
		c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			<-exchange
			return http.DefaultTransport.RoundTrip(r)
		})}
	}), newBrowser(t)
	arrived, left := make(chan struct{}, 65), make(chan struct{}, 65)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		if _, err := s.FinishLogin(w, r); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		left <- struct{}{}
	}))
	defer app.Close()
	back := b.request("GET", authorize(t, b.start(t, s)))
	statuses := make(chan int, 65)
	send := func(ctx context.Context, cookie string) {
		r, err := http.NewRequestWithContext(ctx, "GET", app.URL+back.URL.RequestURI(), nil)
		require.NoError(t, err)
		r.Header.Set("Cookie", cookie)
		go func() {
			answer, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				assert.ErrorIs(t, err, context.Canceled)
				return
			}
			answer.Body.Close()
			statuses <- answer.StatusCode
		}()
		<-arrived
	}

	ctx, cancel := context.WithCancel(t.Context())
	for range 10 {
		send(ctx, back.Header.Get("Cookie"))
	}
	cancel()
	for range 9 { // the tenth is in the exchange
		<-left
	}
	for range 54 {
		send(t.Context(), back.Header.Get("Cookie"))
	}
	send(t.Context(), "another=browser")
	assert.Equal(t, http.StatusBadRequest, <-statuses, "another browser")
	close(exchange)
	got := map[int]int{}
	for range 54 {
		got[<-statuses]++
	}
	assert.Equal(t, map[int]int{http.StatusOK: 3, http.StatusBadRequest: 51}, got)
	assert.Equal(t, 1, s.tokenRequests())
}

// Five callbacks arrive. The newest three are cancelled before the exchange ends, and the
// other two get its result.
func TestRepeatedCallbackCancelled(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: time.Second})
		back := s.callbackOf(t, false)
		var errs [5]error
		var wg sync.WaitGroup
		for i := range errs {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i >= 2 {
				time.AfterFunc(10*time.Millisecond, cancel)
			}
			wg.Go(func() { _, errs[i] = s.finish(back.Clone(ctx)) })
			synctest.Wait()
		}
		wg.Wait()
		assert.NoError(t, errs[0])
		assert.NoError(t, errs[1])
		for _, err := range errs[2:] {
			assert.ErrorIs(t, err, context.Canceled)
		}
		login, err := s.finish(back)
		require.NoError(t, err, "they have used up nothing")
		assert.True(t, login.Repeated)
	})
}

// 64 parallel callbacks: the state is redeemed once, and exactly one login is not marked
// as repeated.
func TestConcurrentCallbacks(t *testing.T) { storedAndSealed(t, testConcurrentCallbacks) }

func testConcurrentCallbacks(t *testing.T, kind func(*setup)) {
	s, b := newSite(t, kind), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s))
	logins := make(chan *oauth2login.Login, 64)
	var wg sync.WaitGroup
	for range cap(logins) {
		wg.Go(func() {
			login, err := s.FinishLogin(httptest.NewRecorder(), b.request("GET", callbackURL))
			if err == nil {
				logins <- login
				return
			}
			assert.ErrorIs(t, err, oauth2login.ErrStateNotFound)
			assert.Nil(t, login)
		})
	}
	wg.Wait()
	close(logins)
	first := 0
	for login := range logins {
		if !login.Repeated {
			first++
		}
	}
	assert.Equal(t, 1, first)
	assert.Equal(t, 1, s.tokenRequests())
}

// There are more results than the provider keeps. Logins still work; only a repeated
// callback fails.
func TestRepeatedCallbackManyLogins(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		denied := s.callbackOf(t, true)
		query := denied.URL.Query()
		for i := range 4200 { // anyone can make them: two requests each, and none to the platform
			start := httptest.NewRecorder()
			require.NoError(t, s.StartLogin(start, httptest.NewRequest("GET", "/login", nil)))
			to, err := url.Parse(start.Header().Get("Location"))
			require.NoError(t, err)
			query.Set("state", to.Query().Get("state"))
			r := httptest.NewRequest("GET", "/callback?"+query.Encode(), nil)
			r.AddCookie(start.Result().Cookies()[0])
			_, err = s.finish(r)
			require.ErrorIs(t, err, oauth2login.ErrAccessDenied, fmt.Sprint(i))
		}
		back := s.callbackOf(t, false)
		_, err := s.finish(back)
		require.NoError(t, err)
		_, err = s.finish(back)
		assert.ErrorIs(t, err, oauth2login.ErrStateNotFound)
	})
}

// lostStore accepts states, but Take never answers.
type lostStore struct{ *state.Memory }

func (s lostStore) Take(ctx context.Context, _ string) ([]byte, bool, error) {
	return hangingStore{}.Take(ctx, "")
}

// The store fails. The answers to the callback and to a repeated callback keep the
// cookie, so that the user can try again.
func TestRepeatedCallbackStoreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := valid("https://provider.example")
		c.States = lostStore{state.NewMemory(0)}
		p := c.provider(t)
		cookie, stateParam := started(t, p)
		back := httptest.NewRequest("GET", "/callback?code=c&state="+stateParam, nil)
		back.AddCookie(cookie)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				w := httptest.NewRecorder()
				_, err := p.FinishLogin(w, back.Clone(t.Context()))
				assert.ErrorIs(t, err, oauth2login.ErrStateStore)
				assert.Empty(t, w.Result().Cookies())
			})
		}
		wg.Wait()
	})
}
