package shangcloudtest_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

const challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" // RFC 7636, appendix B

func TestAuthorizeRefusesWithoutRedirect(t *testing.T) {
	s := platform(t)
	good := "response_type=code&client_id=demo-client&state=x&redirect_uri=" + url.QueryEscape(callback)
	for name, query := range map[string]string{
		"unknown client":      strings.Replace(good, "demo-client", "nobody", 1),
		"no client":           strings.Replace(good, "client_id", "client", 1),
		"unknown redirect":    "response_type=code&client_id=demo-client&redirect_uri=https%3A%2F%2Fevil.example%2F",
		"no redirect":         "response_type=code&client_id=demo-client",
		"longer redirect":     good + "%2Fmore",
		"redirect of another": strings.Replace(good, "demo-client", publicClient, 1),
		"repeated parameter":  good + "&scope=mmo&scope=var%3Aio",
		"repeated client":     good + "&client_id=demo-client",
		"malformed":           good + "&a=%zz",
	} {
		t.Run(name, func(t *testing.T) {
			a := send(t, "GET", s.URL+"/oauth/authorize?"+query, "")
			assert.Equal(t, http.StatusBadRequest, a.status)
			assert.Empty(t, a.header.Get("Location"))
			assert.Contains(t, a.header.Get("Content-Type"), "text/html")
		})
	}
}

func TestAuthorizeRefusesByRedirect(t *testing.T) {
	s := platform(t)
	s.AddClient(shangcloudtest.Client{ID: "narrow", Secret: "s", RedirectURIs: []string{callback}, Scopes: []string{"user:basic"}, PKCE: shangcloudtest.PKCERequired})
	for name, row := range map[string]struct{ client, query, want string }{
		"no response type":       {webClient, "", "invalid_request"},
		"implicit":               {webClient, "response_type=token", "unsupported_response_type"},
		"unknown scope":          {webClient, "response_type=code&scope=user%3Abasic+admin", "invalid_scope"},
		"scope not allowed":      {"narrow", "response_type=code&scope=mmo", "invalid_scope"},
		"PKCE plain":             {webClient, "response_type=code&code_challenge_method=plain&code_challenge=" + challenge, "invalid_request"},
		"PKCE without method":    {webClient, "response_type=code&code_challenge=" + challenge, "invalid_request"},
		"PKCE method only":       {webClient, "response_type=code&code_challenge_method=S256", "invalid_request"},
		"PKCE malformed":         {webClient, "response_type=code&code_challenge_method=S256&code_challenge=short", "invalid_request"},
		"PKCE needed":            {"narrow", "response_type=code", "invalid_request"},
		"denied before it asked": {"narrow", "response_type=code&scope=var%3Aio", "invalid_scope"},
	} {
		t.Run(name, func(t *testing.T) {
			a := send(t, "GET", s.URL+"/oauth/authorize?"+row.query+"&state=a%2Fb%2B%26&client_id="+row.client+"&redirect_uri="+url.QueryEscape(callback), "")
			assert.Equal(t, http.StatusFound, a.status)
			back, err := url.Parse(a.header.Get("Location"))
			require.NoError(t, err)
			assert.Equal(t, callback, back.Scheme+"://"+back.Host+back.Path)
			assert.Equal(t, row.want, back.Query().Get("error"))
			assert.NotEmpty(t, back.Query().Get("error_description"))
			assert.Equal(t, "a/b+&", back.Query().Get("state"))
			assert.Empty(t, back.Query().Get("code"))
		})
	}
}

func TestRedirectURIs(t *testing.T) {
	s := platform(t)
	s.AddClient(shangcloudtest.Client{ID: "many", Secret: "s", RedirectURIs: []string{
		"https://app.example.com/cb?tenant=1", "http://127.0.0.1:1/cb", "http://[::1]/cb", "http://localhost:8080/cb",
	}})
	for uri, want := range map[string]bool{
		"https://app.example.com/cb?tenant=1": true,
		"https://app.example.com/cb":          false,
		"https://app.example.com:8443/cb":     false,
		"http://127.0.0.1:1/cb":               true,
		"http://127.0.0.1:54321/cb":           true,
		"http://127.0.0.1/cb":                 true,
		"http://127.0.0.1:54321/other":        false,
		"https://127.0.0.1:1/cb":              false,
		"http://127.0.0.1:80@evil.example/cb": false,
		"http://127.0.0.1.evil.example/cb":    false,
		"http://[::1]:9/cb":                   true,
		"http://localhost:8080/cb":            true,
		"http://localhost:8081/cb":            false, // RFC 8252, 8.3: a name may be anybody's
	} {
		a := send(t, "GET", s.URL+"/oauth/authorize?response_type=code&client_id=many&redirect_uri="+url.QueryEscape(uri), "")
		assert.Equal(t, want, a.status == http.StatusOK, uri)
	}
	back, err := s.Approve("/oauth/authorize?response_type=code&client_id=many&redirect_uri="+url.QueryEscape("https://app.example.com/cb?tenant=1"), uid)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(back, "https://app.example.com/cb?tenant=1&code="), "its own query is kept")
	assert.NotContains(t, back, "state=", "none was sent")
}

func TestAutomaticConsent(t *testing.T) {
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
	assert.Contains(t, back, "code=", "Approve decides for itself")

	s.AutoDeny()
	q = location()
	assert.Equal(t, "access_denied", q.Get("error"))
	assert.Equal(t, "state-1", q.Get("state"))
	code, _ := approve(t, s, authURL)
	assert.NotEmpty(t, code)

	s.AutoApprove(404)
	assert.Equal(t, http.StatusBadRequest, send(t, "GET", authURL, "").status, "a user that was never added")
	s.AutoApprove(0)
	assert.Equal(t, http.StatusOK, send(t, "GET", authURL, "").status)
}

func TestApproveAndDeny(t *testing.T) {
	s := platform(t)
	authURL := config(s).AuthCodeURL("state-1")
	back, err := s.Deny(authURL)
	require.NoError(t, err)
	assert.Contains(t, back, "error=access_denied")
	assert.Contains(t, back, "state=state-1")

	back, err = s.Approve(strings.Replace(authURL, "mmo", "admin", 1), uid)
	require.NoError(t, err)
	assert.Contains(t, back, "error=invalid_scope")

	for name, row := range map[string]struct {
		address string
		uid     int64
		want    string
	}{
		"no such user":   {authURL, 404, "no user was chosen"},
		"no such client": {strings.Replace(authURL, webClient, "nobody", 1), uid, "unknown client_id"},
		"another page":   {s.URL + "/device?state=sec-ret", uid, "not an authorization URL"},
		"no URL":         {"http://%zz/?state=sec-ret", uid, "not an authorization URL"},
		"a bad query":    {"/oauth/authorize?state=sec-ret\x7f", uid, "not an authorization URL"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Approve(row.address, row.uid)
			require.ErrorContains(t, err, row.want)
			assert.NotContains(t, err.Error(), "sec-ret")
		})
	}
}

var field = regexp.MustCompile(`name="nonce" value="([^"]+)"`)

// A person with a browser: the page, a choice, the application.
func TestConsentPage(t *testing.T) {
	s := platform(t)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar, CheckRedirect: stay}
	open := func() (page, nonce string) {
		resp, err := browser.Get(config(s).AuthCodeURL("state-1"))
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		policy := resp.Header.Get("Content-Security-Policy")
		assert.Contains(t, policy, "default-src 'none'")
		assert.Contains(t, policy, "frame-ancestors 'none'")
		assert.NotContains(t, policy, "unsafe")
		assert.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		found := field.FindSubmatch(body)
		require.NotNil(t, found)
		return string(body), string(found[1])
	}
	answer := func(form url.Values, headers ...string) (int, string) {
		req, err := http.NewRequest("POST", s.URL+"/oauth/consent", strings.NewReader(form.Encode()))
		require.NoError(t, err)
		req.Header.Set("Content-Type", formType)
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := browser.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Location")
	}

	page, nonce := open()
	for _, shown := range []string{webClient, "user:basic", "var:io", "mmo", "小云", "Ada", "127.0.0.1:8080", `action="consent"`} {
		assert.Contains(t, page, shown)
	}
	assert.NotContains(t, page, "<script")
	form := url.Values{"nonce": {nonce}, "user": {"10002"}, "decision": {"allow"}}

	status, location := answer(form, "Sec-Fetch-Site", "cross-site")
	assert.Equal(t, http.StatusBadRequest, status, "from another site")
	assert.Empty(t, location)

	status, _ = answer(form, "Origin", "https://evil.example")
	assert.Equal(t, http.StatusBadRequest, status, "from another site, by an older browser")

	status, location = answer(form, "Origin", s.URL)
	assert.Equal(t, http.StatusSeeOther, status)
	back, err := url.Parse(location)
	require.NoError(t, err)
	assert.Equal(t, "state-1", back.Query().Get("state"))
	tok, err := config(s).Exchange(t.Context(), back.Query().Get("code"))
	require.NoError(t, err)
	u, _ := s.UserOf(tok.AccessToken, "user:basic")
	assert.Equal(t, otherUID, u.ID)

	status, _ = answer(form)
	assert.Equal(t, http.StatusBadRequest, status, "a page is answered once")

	_, nonce = open()
	status, location = answer(url.Values{"nonce": {nonce}, "decision": {"deny"}})
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
		status, location := answer(form)
		assert.Equal(t, http.StatusBadRequest, status, name)
		assert.Empty(t, location, name)
	}

	c := newClock(s)
	_, nonce = open()
	c.add(10 * time.Minute)
	status, _ = answer(url.Values{"nonce": {nonce}, "user": {"10001"}, "decision": {"allow"}})
	assert.Equal(t, http.StatusBadRequest, status, "expired")
}

func nonceOf(open func() (string, string)) string {
	_, nonce := open()
	return nonce
}

func TestPagesSpeakTwoLanguages(t *testing.T) {
	s := platform(t)
	for accepts, want := range map[string]string{
		"":                              "zh-CN",
		"zh-CN,zh;q=0.9,en;q=0.8":       "zh-CN",
		"zh-TW":                         "zh-CN",
		"en-US,en;q=0.9,zh;q=0.8":       "en",
		"EN":                            "en",
		"fr, zh;q=0.7, en;q=0.9":        "en",
		"fr":                            "en",
		"en;q=0, zh;q=0.1":              "zh-CN",
		"zh;q=nonsense":                 "en",
		"de;q=0.9, zh-Hans-CN ; q=0.95": "zh-CN",
	} {
		a := send(t, "GET", config(s).AuthCodeURL("s"), "", "Accept-Language", accepts)
		assert.Equal(t, want, a.header.Get("Content-Language"), accepts)
		assert.Contains(t, a.body, `<html lang="`+want+`">`, accepts)
	}
}

func TestPagesEscape(t *testing.T) {
	s := shangcloudtest.NewServer(t)
	s.AddClient(shangcloudtest.Client{ID: `<script>alert(1)</script>`, Secret: "s", RedirectURIs: []string{callback}})
	conf := config(s)
	conf.ClientID = `<script>alert(1)</script>`
	a := send(t, "GET", conf.AuthCodeURL("s"), "")
	assert.Equal(t, http.StatusOK, a.status)
	assert.Contains(t, a.body, "&lt;script&gt;")
	assert.NotContains(t, a.body, "<script")
	assert.NotContains(t, a.body, `value="allow"`, "nobody is there to allow it")
	a = send(t, "GET", s.URL+"/device?user_code=%22%3E%3Cscript%3E", "")
	assert.NotContains(t, a.body, "<script")
}

// Native applications take a free port, or a scheme of their own.
func TestNativeApplication(t *testing.T) {
	s := platform(t)
	for _, redirectURL := range []string{"http://127.0.0.1:49152/callback", "com.example.game:/callback"} {
		conf := publicConfig(s)
		conf.RedirectURL = redirectURL
		verifier := oauth2.GenerateVerifier()
		code, _ := approve(t, s, conf.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)))
		tok, err := conf.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
		require.NoError(t, err)
		a := send(t, "GET", s.URL+"/oauth/userinfo", "", "Authorization", "Bearer "+tok.AccessToken)
		assert.Equal(t, "10001", a.value(t, "sub"))
		refreshed, err := conf.TokenSource(t.Context(), &oauth2.Token{RefreshToken: tok.RefreshToken}).Token()
		require.NoError(t, err)
		assert.NotEqual(t, tok.RefreshToken, refreshed.RefreshToken)
	}
	for _, r := range s.Requests("/oauth/token") {
		assert.Empty(t, r.Header.Get("Authorization"))
		assert.Equal(t, publicClient, r.Form().Get("client_id"))
	}
}
