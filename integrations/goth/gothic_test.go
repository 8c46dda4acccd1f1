package gothshangcloud_test

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

var nonceField = regexp.MustCompile(`name="nonce" value="([^"]+)"`)

// TestGothicLogin follows a browser through a whole login: from the application to the
// platform's page and back.
func TestGothicLogin(t *testing.T) {
	s := newSite(t)
	b := s.newBrowser(t)
	res, err := b.Get(b.start(t, s, ""))
	require.NoError(t, err)
	page, err := io.ReadAll(res.Body)
	res.Body.Close()
	require.NoError(t, err)
	nonce := nonceField.FindSubmatch(page)
	require.NotNil(t, nonce, "a consent page")
	res, err = b.PostForm(s.platform.URL+"/oauth/consent", url.Values{"nonce": {string(nonce[1])}, "decision": {"allow"}, "user": {"10001"}})
	require.NoError(t, err)
	res.Body.Close()
	b.visit(t, res.Header.Get("Location"))

	user, err := s.outcome()
	require.NoError(t, err)
	assert.Equal(t, "shangcloud", user.Provider)
	assert.Equal(t, "10001", user.UserID)
	assert.Equal(t, "小明", user.NickName)
	assert.Equal(t, "小明", user.Name)
	assert.Equal(t, "ming@example.cn", user.Email)
	assert.Equal(t, "https://example.cn/a.png", user.AvatarURL)
	assert.Equal(t, map[string]any{"uid": int64(10001), "nickname": "小明", "mail": "ming@example.cn", "avatar": "https://example.cn/a.png"}, user.RawData)
	assert.NotEmpty(t, user.RefreshToken)
	assert.WithinDuration(t, time.Now().Add(time.Hour), user.ExpiresAt, time.Minute)
	holder, good := s.platform.UserOf(user.AccessToken, "user:basic")
	assert.True(t, good)
	assert.EqualValues(t, 10001, holder.ID)
	assert.Empty(t, b.cookies(), "gothic's session is gone")

	asked := s.platform.Requests("/oauth/authorize")[0].Query()
	redeemed := s.platform.Requests("/oauth/token")[0].Form()
	verifier := redeemed.Get("code_verifier")
	sum := sha256.Sum256([]byte(verifier))
	assert.Equal(t, "S256", asked.Get("code_challenge_method"))
	assert.Equal(t, base64.RawURLEncoding.EncodeToString(sum[:]), asked.Get("code_challenge"))

	seen := b.sessions(t)
	require.Len(t, seen, 2, "at the start, and once more after Authorize")
	random, _, _ := strings.Cut(asked.Get("state"), ".")
	for _, session := range seen {
		assert.Contains(t, session, random)
		for what, secret := range map[string]string{
			"verifier": verifier, "code": redeemed.Get("code"), "client secret": "hush-hush",
			"access token": user.AccessToken, "refresh token": user.RefreshToken,
		} {
			assert.NotEmpty(t, secret, what)
			assert.NotContains(t, session, secret, what)
		}
	}
}

func TestGothicDenied(t *testing.T) {
	s := newSite(t)
	s.platform.AutoDeny()
	b := s.newBrowser(t)
	to := b.start(t, s, "")
	cookies := b.cookies()
	callback := b.visit(t, to)
	b.visit(t, callback)
	user, err := s.outcome()
	require.ErrorIs(t, err, oauth2login.ErrAccessDenied)
	var refused *oauth2login.CallbackError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "access_denied", refused.Code)
	assert.NotEmpty(t, refused.Description)
	assert.Zero(t, user)
	assert.Empty(t, b.cookies())

	// The refusal has used up the login: a valid code no longer works.
	b.Jar.SetCookies(b.app, cookies)
	code := approve(t, s.platform, to, 10001)
	b.visit(t, s.url+callbackPath+"?"+code.Encode())
	_, err = s.outcome()
	assert.ErrorIs(t, err, oauth2login.ErrStateNotFound)
	assert.Zero(t, s.tokenRequests())
}

func TestGothicOtherErrorsOfTheCallback(t *testing.T) {
	s := newSite(t)
	b := s.newBrowser(t)
	for code, target := range map[string]error{"temporarily_unavailable": oauth2login.ErrUnavailable, "invalid_scope": nil} {
		state := query(t, b.start(t, s, "")).Get("state")
		b.visit(t, s.url+callbackPath+"?"+url.Values{"state": {state}, "error": {code}, "error_uri": {"https://example.cn/why"}}.Encode())
		_, err := s.outcome()
		var refused *oauth2login.CallbackError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, &oauth2login.CallbackError{Code: code, URI: "https://example.cn/why"}, refused)
		if target != nil {
			assert.ErrorIs(t, err, target)
		}
	}
}

// TestGothicRequestsOfNobody: link previews and prefetches neither use up the pending
// login nor replace it with a new one.
func TestGothicRequestsOfNobody(t *testing.T) {
	s := newSite(t)
	s.platform.AutoApprove(10001)
	b := s.newBrowser(t)
	callback := b.visit(t, b.start(t, s, ""))
	for _, address := range []string{s.url + "/auth/shangcloud", callback} {
		for purpose, method := range map[string]string{"": "HEAD", "prefetch": "GET", "prefetch;prerender": "GET"} {
			r, err := http.NewRequest(method, address, nil)
			require.NoError(t, err)
			r.Header.Set("Sec-Purpose", purpose)
			res, err := b.Do(r)
			require.NoError(t, err)
			res.Body.Close()
			assert.Empty(t, res.Cookies())
			assert.Contains(t, []int{204, 503}, res.StatusCode)
		}
	}
	assert.Zero(t, s.tokenRequests())
	b.visit(t, callback)
	_, err := s.outcome()
	assert.NoError(t, err)
}

func TestGothicReplay(t *testing.T) {
	s := newSite(t)
	s.platform.AutoApprove(10001)
	b := s.newBrowser(t)
	to := b.start(t, s, "")
	cookies := b.cookies()
	callback := b.visit(t, to)
	b.visit(t, callback)
	_, err := s.outcome()
	require.NoError(t, err)
	afterAuthorize := b.answers[len(b.answers)-1].Cookies()[0]

	b.visit(t, callback)
	_, err = s.outcome()
	require.Error(t, err, "gothic has no session any more")

	// A repeated callback gets the same login, three times at most.
	for range 3 {
		b.Jar.SetCookies(b.app, cookies)
		b.visit(t, callback)
		_, err = s.outcome()
		require.NoError(t, err)
	}
	assert.Len(t, s.platform.Requests("/oauth/token"), 1)

	// After these repeats, the cookie is worthless, whether it was copied before or after
	// Authorize.
	for _, kept := range [][]*http.Cookie{cookies, {afterAuthorize}} {
		b.Jar.SetCookies(b.app, kept)
		b.visit(t, callback)
		user, err := s.outcome()
		assert.ErrorIs(t, err, oauth2login.ErrStateNotFound)
		assert.Zero(t, user)

		b.Jar.SetCookies(b.app, kept)
		fresh := approve(t, s.platform, to, 10001)
		b.visit(t, s.url+callbackPath+"?"+fresh.Encode())
		_, err = s.outcome()
		assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, "a new code does not help")
	}
	assert.Equal(t, 1, s.tokenRequests())
}

func TestGothicOtherBrowser(t *testing.T) {
	s := newSite(t)
	s.platform.AutoApprove(10001)
	mine, other := s.newBrowser(t), s.newBrowser(t)
	callback := mine.visit(t, mine.start(t, s, ""))

	other.visit(t, callback)
	_, err := s.outcome()
	require.Error(t, err, "no login under way")
	other.start(t, s, "")
	other.visit(t, callback)
	_, err = s.outcome()
	require.Error(t, err, "another login under way")
	assert.Zero(t, s.tokenRequests())

	mine.visit(t, callback)
	_, err = s.outcome()
	assert.NoError(t, err, "the login was left for its owner")
}

func TestGothicWrongState(t *testing.T) {
	s := newSite(t)
	s.platform.AutoApprove(10001)
	for name, change := range map[string]func(url.Values){
		"none":    func(q url.Values) { q.Del("state") },
		"empty":   func(q url.Values) { q.Set("state", "") },
		"other":   func(q url.Values) { q.Set("state", strings.Repeat("A", 43)) },
		"added":   func(q url.Values) { q.Set("state", q.Get("state")+".more") },
		"changed": func(q url.Values) { q.Set("state", strings.TrimSuffix(q.Get("state"), "x")+"y") },
	} {
		b := s.newBrowser(t)
		callback := b.visit(t, b.start(t, s, "?state=x"))
		q := query(t, callback)
		change(q)
		b.visit(t, s.url+callbackPath+"?"+q.Encode())
		_, err := s.outcome()
		assert.Error(t, err, name)
	}
	assert.Zero(t, s.tokenRequests())
}

// In gothic, whoever creates the login link can choose the state. On a platform without
// PKCE only the state keeps an attacker from logging a victim in to the attacker's
// account.
func TestGothicStateChosenByAStranger(t *testing.T) {
	s := newSite(t)
	s.platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{s.url + callbackPath}, PKCE: shangcloudtest.PKCEIgnored})
	attacker, victim := s.newBrowser(t), s.newBrowser(t)
	code := approve(t, s.platform, attacker.start(t, s, "?state=evil"), 666).Get("code")
	victim.start(t, s, "?state=evil")
	victim.visit(t, s.url+callbackPath+"?"+url.Values{"state": {"evil"}, "code": {code}}.Encode())
	_, err := s.outcome()
	assert.Error(t, err)
	assert.Zero(t, s.tokenRequests())
}

// Applications can append their own data to the state.
func TestGothicStateOfTheApplication(t *testing.T) {
	s := newSite(t)
	s.platform.AutoApprove(10001)
	b := s.newBrowser(t)
	mine := "/album?page=2&a=b.c ü"
	callback := b.visit(t, b.start(t, s, "?state="+url.QueryEscape(mine)))
	random, rest, _ := strings.Cut(query(t, callback).Get("state"), ".")
	assert.Len(t, random, 43)
	assert.Equal(t, mine, rest)
	b.visit(t, callback)
	_, err := s.outcome()
	assert.NoError(t, err)
}

// A victim's browser gets an attacker's code. The application sends the victim's PKCE
// verifier with the code, so the platform refuses the code.
func TestGothicForeignCode(t *testing.T) {
	s := newSite(t)
	attacker, victim := s.newBrowser(t), s.newBrowser(t)
	q := approve(t, s.platform, attacker.start(t, s, ""), 666)
	q.Set("state", query(t, victim.start(t, s, "")).Get("state"))
	victim.visit(t, s.url+callbackPath+"?"+q.Encode())
	user, err := s.outcome()
	var refused *oauth2.RetrieveError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "invalid_grant", refused.ErrorCode)
	assert.Zero(t, user)
	assert.Equal(t, 1, s.tokenRequests())
}

// In goth's example, the handler of the login link calls CompleteUserAuth before
// BeginAuth. The failed call must not prevent the login.
func TestGothicCompleteBeforeBegin(t *testing.T) {
	s := newSite(t)
	s.platform.AutoApprove(10001)
	b := s.newBrowser(t)
	for range 2 { // in the second round, a login is pending
		b.visit(t, s.url+callbackPath)
		_, err := s.outcome()
		require.Error(t, err)
		b.start(t, s, "")
	}
	b.visit(t, b.visit(t, b.start(t, s, "")))
	_, err := s.outcome()
	assert.NoError(t, err)
}

func TestGothicUserUnavailable(t *testing.T) {
	s := newSite(t)
	s.platform.AutoApprove(10001)
	s.platform.Fault("/api/user/info", shangcloudtest.Fault{Status: http.StatusServiceUnavailable, Body: "token of yours"})
	b := s.newBrowser(t)
	b.visit(t, b.visit(t, b.start(t, s, "")))
	user, err := s.outcome()
	assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
	assert.Zero(t, user)
	assert.NotContains(t, err.Error(), "token of yours")
}

func TestGothicStateStoreFails(t *testing.T) {
	s := newSite(t)
	broken := newProvider(t, s.platform, func(c *setup) { c.States = brokenStates{} })
	broken.SetName("broken")
	gothUse(t, broken)
	b := s.newBrowser(t)
	to := b.visit(t, s.url+"/auth/broken")
	assert.Empty(t, to)
	assert.Equal(t, http.StatusBadRequest, b.answers[0].StatusCode)
	assert.Empty(t, b.cookies())
}
