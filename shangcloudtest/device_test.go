package shangcloudtest_test

import (
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

// Plain golang.org/x/oauth2 logs in with a device, in a synctest bubble.
func TestDeviceLoginWithPlainOAuth2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := populate(shangcloudtest.New())
		ctx, conf := inProcess(s), publicConfig(s)
		verifier := oauth2.GenerateVerifier()
		da, err := conf.DeviceAuth(ctx, oauth2.S256ChallengeOption(verifier))
		require.NoError(t, err)
		assert.EqualValues(t, 5, da.Interval)
		assert.WithinDuration(t, time.Now().Add(15*time.Minute), da.Expiry, time.Second)
		assert.Equal(t, s.URL+"/device", da.VerificationURI)

		time.AfterFunc(time.Minute, func() { assert.NoError(t, s.ApproveDevice(da.UserCode, uid)) })
		tok, err := conf.DeviceAccessToken(ctx, da, oauth2.VerifierOption(verifier))
		require.NoError(t, err)
		u, ok := s.UserOf(tok.AccessToken, "mmo")
		assert.True(t, ok)
		assert.Equal(t, uid, u.ID)
		assert.NotEmpty(t, tok.RefreshToken)
		assert.Greater(t, len(s.Requests("/oauth/token")), 10, "number of polls")

		da, err = conf.DeviceAuth(ctx)
		require.NoError(t, err)
		time.AfterFunc(time.Minute, func() { assert.NoError(t, s.DenyDevice(da.UserCode)) })
		_, err = conf.DeviceAccessToken(ctx, da)
		assert.ErrorContains(t, err, "access_denied")
	})
}

func TestDevicePolling(t *testing.T) {
	s := platform(t)
	c := newClock(s)
	a := askDevice(t, s, "")
	device, user := a.value(t, "device_code"), a.value(t, "user_code").(string)
	assert.Regexp(t, `^[B-DF-HJ-NP-TV-XZ]{4}-[B-DF-HJ-NP-TV-XZ]{4}$`, user)
	assert.EqualValues(t, 900, a.value(t, "expires_in"))
	assert.Equal(t, s.URL+"/device?user_code="+user, a.value(t, "verification_uri_complete"))

	for _, step := range []struct {
		wait time.Duration
		want string
	}{
		{0, "authorization_pending"},
		{5 * time.Second, "authorization_pending"},
		{4900 * time.Millisecond, "authorization_pending"}, // a poll may be early by a tenth
		{time.Second, "slow_down"},
		{9 * time.Second, "authorization_pending"},
		{5 * time.Second, "slow_down"}, // the interval is now ten seconds
		{15 * time.Second, "authorization_pending"},
		{15 * time.Minute, "expired_token"},
		{time.Hour, "invalid_grant"}, // the server no longer knows the code
	} {
		c.add(step.wait)
		a := poll(t, s, device, "")
		assert.Equal(t, http.StatusBadRequest, a.status)
		assert.Equal(t, step.want, a.value(t, "error"), "after %v", step.wait)
	}
	assert.Error(t, s.ApproveDevice(user, uid), "expired")

	a = askDevice(t, s, "")
	assert.Error(t, s.ApproveDevice(a.value(t, "user_code").(string), 404), "unknown user")
	assert.Error(t, s.DenyDevice("NONE-SUCH"))
	require.NoError(t, s.ApproveDevice(a.value(t, "user_code").(string), uid))
	assert.Error(t, s.DenyDevice(a.value(t, "user_code").(string)), "already answered")
	assert.Equal(t, "invalid_grant", poll(t, s, a.value(t, "device_code").(string)+"x", "").value(t, "error"))
	assert.Equal(t, "invalid_grant", redeem(t, s, url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {a.value(t, "device_code").(string)},
	}).value(t, "error"), "another client")
	assert.Equal(t, http.StatusOK, poll(t, s, a.value(t, "device_code"), "").status)
	assert.Equal(t, "invalid_grant", poll(t, s, a.value(t, "device_code"), "").value(t, "error"), "a device code works once")

	s.Configure(func(set *shangcloudtest.Settings) { set.DeviceInterval = 1500 * time.Millisecond })
	assert.EqualValues(t, 1, askDevice(t, s, "").value(t, "interval"))
}

func TestDeviceAuthorizationErrors(t *testing.T) {
	s := platform(t)
	for name, row := range map[string]struct{ body, want string }{
		"no client":           {"scope=mmo", "invalid_client"},
		"unknown client":      {"client_id=nobody", "invalid_client"},
		"confidential client": {"client_id=" + webClient, "invalid_client"},
		"unknown scope":       {"client_id=" + publicClient + "&scope=admin", "invalid_scope"},
		"PKCE plain":          {"client_id=" + publicClient + "&code_challenge_method=plain&code_challenge=" + challenge, "invalid_request"},
		"repeated":            {"client_id=" + publicClient + "&client_id=" + publicClient, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			a := send(t, "POST", s.URL+"/oauth/device_authorization", row.body, "Content-Type", formType)
			assert.Equal(t, row.want, a.value(t, "error"))
		})
	}
}

func TestDevicePKCE(t *testing.T) {
	s := platform(t)
	verifier := oauth2.GenerateVerifier()
	a := askDevice(t, s, "&code_challenge_method=S256&code_challenge="+oauth2.S256ChallengeFromVerifier(verifier))
	require.NoError(t, s.ApproveDevice(a.value(t, "user_code").(string), uid))
	device := a.value(t, "device_code")
	assert.Equal(t, "invalid_grant", poll(t, s, device, "").value(t, "error"))
	assert.Equal(t, "invalid_grant", poll(t, s, device, "&code_verifier="+oauth2.GenerateVerifier()).value(t, "error"))
	assert.Equal(t, http.StatusOK, poll(t, s, device, "&code_verifier="+verifier).status)

	a = askDevice(t, s, "")
	assert.Equal(t, "invalid_grant", poll(t, s, a.value(t, "device_code"), "&code_verifier="+verifier).value(t, "error"))
}

func TestDevicePage(t *testing.T) {
	s := platform(t)
	page := send(t, "GET", s.URL+"/device", "")
	assert.Equal(t, http.StatusOK, page.status)
	assert.Contains(t, page.body, `name="user_code"`)
	page = send(t, "GET", s.URL+"/device?user_code=none-such", "", "Accept-Language", "en")
	assert.Equal(t, http.StatusBadRequest, page.status)
	assert.Contains(t, page.body, "wrong or has expired")

	decide := func(decision string) answer {
		a := askDevice(t, s, "&scope=openid+mmo")
		typed := "%20" + string([]byte(a.value(t, "user_code").(string))[:4]) + "%20" + a.value(t, "user_code").(string)[5:]
		page := send(t, "GET", s.URL+"/device?user_code="+typed, "")
		require.Equal(t, http.StatusOK, page.status)
		for _, shown := range []string{publicClient, "openid", "mmo", a.value(t, "user_code").(string), `action="oauth/consent"`} {
			assert.Contains(t, page.body, shown)
		}
		form := url.Values{"nonce": {nonceField.FindStringSubmatch(page.body)[1]}, "user": {"10001"}, "decision": {decision}}
		page = send(t, "POST", s.URL+"/oauth/consent", form.Encode(), "Content-Type", formType)
		assert.Equal(t, http.StatusOK, page.status)
		page = send(t, "GET", a.value(t, "verification_uri_complete").(string), "")
		assert.Equal(t, http.StatusBadRequest, page.status, "already answered")
		return poll(t, s, a.value(t, "device_code"), "")
	}
	assert.Equal(t, "openid mmo", decide("allow").value(t, "scope"))
	assert.Equal(t, "access_denied", decide("deny").value(t, "error"))

	s.AutoApprove(uid)
	a := askDevice(t, s, "")
	send(t, "GET", a.value(t, "verification_uri_complete").(string), "")
	assert.Equal(t, http.StatusOK, poll(t, s, a.value(t, "device_code"), "").status)
}

func TestDeviceRevoked(t *testing.T) {
	s := platform(t)
	a := askDevice(t, s, "")
	require.NoError(t, s.ApproveDevice(a.value(t, "user_code").(string), uid))
	s.Revoke(uid)
	assert.Equal(t, "invalid_grant", poll(t, s, a.value(t, "device_code"), "").value(t, "error"))
}
