package oauth2login_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNavigationsOnly(t *testing.T) {
	h := oauth2login.NavigationsOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for _, c := range []struct {
		name, value string
		want        int
	}{
		{"X", "", 418}, {"Sec-Fetch-Mode", "navigate", 418}, {"Sec-Fetch-Dest", "document", 418},
		{"Sec-Fetch-Mode", "no-cors", 403}, {"Sec-Fetch-Dest", "image", 403}, {"Sec-Fetch-Dest", "iframe", 403},
		{"Sec-Purpose", "prefetch", 503}, {"X-Sec-Purpose", "prefetch", 503}, {"HX-Preloaded", "true", 503},
		{"Next-Router-Prefetch", "1", 503}, {"X-Middleware-Prefetch", "1", 503}, {"X-Moz", "prefetch", 503},
	} {
		r, w := httptest.NewRequest("GET", "/login", nil), httptest.NewRecorder()
		r.Header.Set(c.name, c.value)
		h.ServeHTTP(w, r)
		assert.Equal(t, c.want, w.Code, c.name+": "+c.value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("HEAD", "/login", nil))
	assert.Equal(t, http.StatusNoContent, w.Code)
}

func TestLoginURL(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	for _, c := range []struct {
		method, site, origin string
		ok                   bool
	}{
		{"POST", "same-origin", "", true}, {"POST", "", "https://app.example", true},
		{"GET", "same-origin", "", false}, {"HEAD", "", "", false}, {"OPTIONS", "", "", false},
		{"POST", "cross-site", "", false}, {"POST", "same-site", "", false}, {"POST", "", "https://evil.example", false},
	} {
		r, w := b.request(c.method, "https://app.example/link"), httptest.NewRecorder()
		for name, value := range map[string]string{"Sec-Fetch-Site": c.site, "Origin": c.origin} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		to, err := s.LoginURL(w, r)
		if !c.ok {
			assert.ErrorIs(t, err, oauth2login.ErrCrossSite, c)
			assert.Empty(t, w.Result().Cookies(), c)
			continue
		}
		require.NoError(t, err, c)
		b.keep(r, w)
		_, err = b.finish(s, authorize(t, to))
		assert.NoError(t, err, c)
	}
}

func TestRedirectURLs(t *testing.T) {
	const other = "https://app.example/other"
	storedAndSealed(t, func(t *testing.T, kind func(*setup)) {
		s, b := newSite(t, kind, func(c *setup) { c.row = append(c.row, oauth2login.WithRedirectURLs(other)) }), newBrowser(t)
		callbackURL := authorize(t, b.start(t, s, oauth2login.WithRedirectURL(other)))
		assert.Contains(t, callbackURL, other)
		_, err := b.finish(s, callbackURL)
		require.NoError(t, err)
		assert.Equal(t, other, s.platform.Requests("/oauth/token")[0].Form().Get("redirect_uri"))
		assert.Error(t, s.StartLogin(httptest.NewRecorder(), b.request("GET", "https://app.example/login"), oauth2login.WithRedirectURL("https://evil.example/")))
	})
}
