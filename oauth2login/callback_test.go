package oauth2login_test

import (
	"errors"
	"io"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCallbackErrors(t *testing.T) { storedAndSealed(t, testCallbackErrors) }

func testCallbackErrors(t *testing.T, kind func(*setup)) {
	s, b := newSite(t, kind), newBrowser(t)
	for code, text := range map[string]string{
		"temporarily_unavailable": ": the login came back with temporarily_unavailable",
		"server_error":            ": the login came back with server_error",
		"invalid_scope":           ": the login came back with invalid_scope",
		"Some <b>thing</b>!":      ": the login came back with an unknown error",
	} {
		state := queryOf(t, b.start(t, s)).Get("state")
		q := url.Values{"state": {state}, "error": {code}, "error_description": {"说明"}, "error_uri": {"https://e.example/"}}
		_, err := b.finish(s, s.redirect+"?"+q.Encode())
		var ce *oauth2login.CallbackError
		require.ErrorAs(t, err, &ce)
		assert.Equal(t, &oauth2login.CallbackError{Code: code, Description: "说明", URI: "https://e.example/"}, ce)
		assert.NotErrorIs(t, err, oauth2login.ErrAccessDenied)
		assert.Equal(t, code == "server_error" || code == "temporarily_unavailable", errors.Is(err, oauth2login.ErrUnavailable))
		assert.Equal(t, "oauth2login: "+mustParse(s.platform.URL).Host+text, err.Error())
	}
}

// Nothing depends on the provider's description. A description that is not plain text is
// dropped.
func TestCallbackDescription(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	for description, want := range map[string]string{
		"declined":                     "declined",
		"declined.%0D%0ATrace+ID%3A+1": "", // Azure's has several lines
		"%D3%C3%BB%A7%BE%DC%BE%F8":     "", // GBK
		"%1B%5B31mred":                 "", // a terminal would execute it
		strings.Repeat("x", 5000):      "",
		strings.Repeat("x", 4096):      strings.Repeat("x", 4096),
		strings.Repeat("%E8", 5<<10/3): "", // and not UTF-8
		"%E7%94%A8%E6%88%B7":           "用户",
		"a%00b":                        "",
		"%C2%85":                       "", // NEL, another line break
		"%EF%BB%BFa":                   "\ufeffa",
	} {
		state := queryOf(t, b.start(t, s)).Get("state")
		_, err := b.finish(s, s.redirect+"?error=access_denied&state="+state+"&error_description="+description+"&error_uri="+description)
		assert.ErrorIs(t, err, oauth2login.ErrAccessDenied, description)
		var ce *oauth2login.CallbackError
		require.ErrorAs(t, err, &ce, description)
		assert.Equal(t, want, ce.Description)
		assert.Equal(t, want, ce.URI)
		assert.Equal(t, "access_denied", ce.Code)

		authURL, err := s.StartUnbound(t.Context())
		require.NoError(t, err)
		q, err := url.ParseQuery("error=access_denied&error_description=" + description + "&state=" + queryOf(t, authURL).Get("state"))
		require.NoError(t, err)
		_, err = s.FinishUnbound(t.Context(), q)
		assert.ErrorIs(t, err, oauth2login.ErrAccessDenied, description)
		require.ErrorAs(t, err, &ce)
		assert.Equal(t, want, ce.Description)
	}
}

func TestCallbackMalformed(t *testing.T) {
	store := &countingStore{Store: state.NewMemory(0)}
	s, b := newSite(t, func(c *setup) { c.States = store }), newBrowser(t)
	good := queryOf(t, authorize(t, b.start(t, s)))
	state, code := good.Get("state"), good.Get("code")
	store.calls = 0
	for name, c := range map[string]struct {
		query string
		want  error
	}{
		"nothing":               {"", oauth2login.ErrBadCallback},
		"no state":              {"code=" + code, oauth2login.ErrBadCallback},
		"empty state":           {"state=&code=" + code, oauth2login.ErrBadCallback},
		"no code":               {"state=" + state, oauth2login.ErrBadCallback},
		"empty code":            {"code=&state=" + state, oauth2login.ErrBadCallback},
		"two states":            {"state=x&code=" + code + "&state=" + state, oauth2login.ErrBadCallback},
		"two codes":             {"code=x&code=" + code + "&state=" + state, oauth2login.ErrBadCallback},
		"two errors":            {"error=x&error=y&state=" + state, oauth2login.ErrBadCallback},
		"code and error":        {"error=x&code=" + code + "&state=" + state, oauth2login.ErrBadCallback},
		"empty error":           {"error=&state=" + state, oauth2login.ErrBadCallback},
		"state of 1 MiB":        {"code=" + code + "&state=" + strings.Repeat("a", 1<<20), oauth2login.ErrBadCallback},
		"code of 5000":          {"state=" + state + "&code=" + strings.Repeat("a", 5000), oauth2login.ErrBadCallback},
		"state with NUL":        {"code=" + code + "&state=a%00b", oauth2login.ErrBadCallback},
		"state with a newline":  {"code=" + code + "&state=a%0Ab", oauth2login.ErrBadCallback},
		"state beyond ASCII":    {"code=" + code + "&state=%E7%8A%B6", oauth2login.ErrBadCallback},
		"code with NUL":         {"state=" + state + "&code=%00", oauth2login.ErrBadCallback},
		"code with DEL":         {"state=" + state + "&code=a%7F", oauth2login.ErrBadCallback},
		"error with CR":         {"state=" + state + "&error=a%0D", oauth2login.ErrBadCallback},
		"two descriptions":      {"state=" + state + "&error=a&error_description=b&error_description=b", oauth2login.ErrBadCallback},
		"two URIs":              {"state=" + state + "&error=a&error_uri=b&error_uri=b", oauth2login.ErrBadCallback},
		"error and empty code":  {"state=" + state + "&error=a&code=", oauth2login.ErrBadCallback},
		"bad escape":            {"code=" + code + "&state=%zz" + state, oauth2login.ErrBadCallback},
		"semicolons":            {"code=" + code + ";state=" + state, oauth2login.ErrBadCallback},
		"a state of no form":    {"code=" + code + "&state=" + state[:42], oauth2login.ErrStateNotFound},
		"a state of other form": {"code=" + code + "&state=" + state[:42] + "!", oauth2login.ErrStateNotFound},
	} {
		r := b.request("GET", s.redirect)
		r.URL.RawQuery = c.query
		w := httptest.NewRecorder()
		login, err := s.FinishLogin(w, r)
		assert.Nil(t, login, name)
		assert.ErrorIs(t, err, c.want, name)
		assert.Equal(t, "no-store", w.Header().Get("Cache-Control"), name)
		assert.NotContains(t, err.Error(), state[:20], name)
		assert.NotContains(t, err.Error(), code, name)
	}
	for _, method := range []string{"POST", "HEAD", "PUT"} {
		_, err := s.FinishLogin(httptest.NewRecorder(), b.request(method, s.redirect+"?"+good.Encode()))
		assert.ErrorIs(t, err, oauth2login.ErrBadCallback, method)
	}
	assert.Zero(t, store.calls, "the store is not asked")
	assert.Zero(t, s.tokenRequests())

	_, err := b.finish(s, s.redirect+"?"+good.Encode())
	assert.NoError(t, err, "none of this has burned the state")
}

// TestCallbackPosted delivers the answer as a form (response_mode=form_post, which this
// package does not offer). The browser sends the form with and without the cookies.
// Browsers omit the cookies from such requests.
func TestCallbackPosted(t *testing.T) { storedAndSealed(t, testCallbackPosted) }

func testCallbackPosted(t *testing.T, kind func(*setup)) {
	s, b := newSite(t, kind), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s))
	form := queryOf(t, callbackURL).Encode()
	for name, address := range map[string]string{"in the body": s.redirect, "in the query": callbackURL, "in both": callbackURL} {
		for _, from := range []*browser{b, newBrowser(t)} {
			r := from.request("POST", address)
			if name != "in the query" {
				r.Body = io.NopCloser(strings.NewReader(form))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			w := httptest.NewRecorder()
			login, err := s.FinishLogin(w, r)
			assert.Nil(t, login, name)
			assert.ErrorIs(t, err, oauth2login.ErrBadCallback, name)
			assert.Empty(t, w.Result().Cookies(), name)
		}
	}
	assert.Zero(t, s.tokenRequests())
	_, err := b.finish(s, callbackURL)
	assert.NoError(t, err, "the state has not been redeemed")
}

// TestIssuer sends callbacks with a right, wrong, missing or repeated parameter iss (RFC
// 9207).
func TestIssuer(t *testing.T) {
	const issuer = "https://api.example"
	s, b := newSite(t, func(c *setup) { c.row = append(c.row, oauth2login.WithIssuer(issuer)) }), newBrowser(t)
	for query, ok := range map[string]bool{
		"":                                       false, // the parameter is required
		"&iss=" + url.QueryEscape(issuer):        true,
		"&iss=" + url.QueryEscape(issuer+"/"):    false, // compared as a plain string
		"&iss=https%3A%2F%2Fevil.example":        false,
		"&iss=":                                  false,
		"&iss=https://api.example&iss=https://x": false,
	} {
		callbackURL := authorize(t, b.start(t, s))
		before := s.tokenRequests()
		_, err := b.finish(s, callbackURL+query)
		if ok {
			assert.NoError(t, err, query)
			continue
		}
		assert.ErrorIs(t, err, oauth2login.ErrBadCallback, query)
		assert.Equal(t, before, s.tokenRequests())
		_, err = b.finish(s, callbackURL+"&iss="+url.QueryEscape(issuer))
		assert.NoError(t, err, "the state has not been redeemed")
	}
	denied := s.redirect + "?error=access_denied&state=" + queryOf(t, b.start(t, s)).Get("state")
	_, err := b.finish(s, denied)
	assert.ErrorIs(t, err, oauth2login.ErrBadCallback, "a denial has to bring it, too")
	_, err = b.finish(s, denied+"&iss="+url.QueryEscape(issuer))
	assert.ErrorIs(t, err, oauth2login.ErrAccessDenied)
	authURL, err := s.StartUnbound(t.Context())
	require.NoError(t, err)
	q := queryOf(t, authorize(t, authURL))
	_, err = s.FinishUnbound(t.Context(), q)
	assert.ErrorIs(t, err, oauth2login.ErrBadCallback)
	q.Set("iss", issuer)
	_, err = s.FinishUnbound(t.Context(), q)
	assert.NoError(t, err)

	s = newSite(t)
	_, err = b.finish(s, authorize(t, b.start(t, s))+"&iss=whatever")
	assert.NoError(t, err, "not configured, not looked at")
}
