package shangcloudtest_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAutoApproveAndAutoDeny(t *testing.T) {
	s := platform(t)
	authURL := config(s).AuthCodeURL("state-1")
	location := func() url.Values {
		a := send(t, "GET", authURL, "")
		require.Equal(t, http.StatusFound, a.status)
		assert.Equal(t, "no-store", a.header.Get("Cache-Control"))
		u, err := url.Parse(a.header.Get("Location"))
		require.NoError(t, err)
		return u.Query()
	}
	s.AutoApprove(otherUID)
	q := location()
	assert.Equal(t, "state-1", q.Get("state"))
	a := redeem(t, s, url.Values{"grant_type": {"authorization_code"}, "code": {q.Get("code")}, "redirect_uri": {callback}})
	u, ok := s.UserOf(a.value(t, "access_token").(string), "mmo")
	assert.True(t, ok)
	assert.Equal(t, otherUID, u.ID)

	back, err := s.Approve(authURL, uid)
	require.NoError(t, err)
	assert.Contains(t, back, "code=", "Approve ignores AutoApprove")

	s.AutoDeny()
	q = location()
	assert.Equal(t, "access_denied", q.Get("error"))
	assert.Equal(t, "state-1", q.Get("state"))
	code, _ := approve(t, s, authURL)
	assert.NotEmpty(t, code)

	s.AutoApprove(404)
	assert.Equal(t, http.StatusBadRequest, send(t, "GET", authURL, "").status, "unknown user")
	s.AutoApprove(0)
	assert.Equal(t, http.StatusOK, send(t, "GET", authURL, "").status)
}

// A user opens the page, answers it and returns to the application.
func TestConsentPage(t *testing.T) {
	s := platform(t)
	open := func() (page, nonce string) {
		a := send(t, "GET", config(s).AuthCodeURL("state-1"), "")
		require.Equal(t, http.StatusOK, a.status)
		policy := a.header.Get("Content-Security-Policy")
		assert.Contains(t, policy, "default-src 'none'")
		assert.Contains(t, policy, "frame-ancestors 'none'")
		assert.NotContains(t, policy, "unsafe")
		assert.Equal(t, "no-store", a.header.Get("Cache-Control"))
		found := nonceField.FindStringSubmatch(a.body)
		require.NotNil(t, found)
		return a.body, found[1]
	}
	submit := func(form url.Values, headers ...string) (int, string) {
		headers = append(headers, "Content-Type", formType)
		a := send(t, "POST", s.URL+"/oauth/consent", form.Encode(), headers...)
		return a.status, a.header.Get("Location")
	}

	page, nonce := open()
	for _, shown := range []string{webClient, "user:basic", "var:io", "mmo", "小云", "Ada", "127.0.0.1:8080", `action="consent"`} {
		assert.Contains(t, page, shown)
	}
	assert.NotContains(t, page, "<script")
	form := url.Values{"nonce": {nonce}, "user": {"10002"}, "decision": {"allow"}}

	status, location := submit(form, "Sec-Fetch-Site", "cross-site")
	assert.Equal(t, http.StatusBadRequest, status, "from another site")
	assert.Empty(t, location)

	status, _ = submit(form, "Origin", "https://evil.example")
	assert.Equal(t, http.StatusBadRequest, status, "from another site, without Sec-Fetch-Site")

	status, location = submit(form, "Origin", s.URL)
	assert.Equal(t, http.StatusSeeOther, status)
	back, err := url.Parse(location)
	require.NoError(t, err)
	assert.Equal(t, "state-1", back.Query().Get("state"))
	tok, err := config(s).Exchange(t.Context(), back.Query().Get("code"))
	require.NoError(t, err)
	u, _ := s.UserOf(tok.AccessToken, "user:basic")
	assert.Equal(t, otherUID, u.ID)

	status, _ = submit(form)
	assert.Equal(t, http.StatusBadRequest, status, "a page works once")

	_, nonce = open()
	status, location = submit(url.Values{"nonce": {nonce}, "decision": {"deny"}})
	assert.Equal(t, http.StatusSeeOther, status)
	assert.Contains(t, location, "error=access_denied")

	for name, form := range map[string]url.Values{
		"no nonce":    {"user": {"10001"}, "decision": {"allow"}},
		"wrong nonce": {"nonce": {"x"}, "user": {"10001"}, "decision": {"allow"}},
		"no user":     {"nonce": {nonceOf(open)}, "decision": {"allow"}},
		"wrong user":  {"nonce": {nonceOf(open)}, "user": {"5"}, "decision": {"allow"}},
		"no decision": {"nonce": {nonceOf(open)}, "user": {"10001"}},
		"repeated":    {"nonce": {nonceOf(open)}, "user": {"10001", "10002"}, "decision": {"allow"}},
	} {
		status, location := submit(form)
		assert.Equal(t, http.StatusBadRequest, status, name)
		assert.Empty(t, location, name)
	}

	c := newClock(s)
	_, nonce = open()
	c.add(10 * time.Minute)
	status, _ = submit(url.Values{"nonce": {nonce}, "user": {"10001"}, "decision": {"allow"}})
	assert.Equal(t, http.StatusBadRequest, status, "expired")
}

func nonceOf(open func() (string, string)) string {
	_, nonce := open()
	return nonce
}
