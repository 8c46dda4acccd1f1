package oauth2login_test

import (
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// TestTokenAnswers covers all kinds of answers to an exchange.
func TestTokenAnswers(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	unusable := oauth2login.ErrUnavailable
	cases := map[string]struct {
		status            int
		contentType, body string
		want              error  // nil: the access token is "t"
		code              string // error code of the *oauth2.RetrieveError
	}{
		"JSON":                        {200, "application/json", `{"access_token":"t","token_type":"bearer"}`, nil, ""},
		"JSON/no token_type":          {200, "application/json", `{"access_token":"t"}`, nil, ""},
		"JSON/text/plain":             {200, "text/plain", `{"access_token":"t","token_type":"Bearer"}`, nil, ""},
		"JSON/text/html":              {200, "text/html", `{"access_token":"t"}`, nil, ""},
		"JSON/labelled as form":       {200, form, `{"access_token":"t"}`, nil, ""},
		"JSON/no content type":        {200, "", `{"access_token":"t"}`, nil, ""},
		"JSON/duplicate access_token": {200, "application/json", `{"access_token":"t","access_token":"u"}`, unusable, ""},
		"JSON/other spelling":         {200, "application/json", `{"access_token":"t","Access_Token":"u"}`, unusable, ""},
		"JSON/array":                  {200, "application/json", `[{"access_token":"t"}]`, unusable, ""},
		"JSON/token with a line end":  {200, "application/json", `{"access_token":"t\nu"}`, unusable, ""},
		"JSON/token_type mac":         {200, "application/json", `{"access_token":"t","token_type":"mac"}`, unusable, ""},
		"JSON/error":                  {200, "application/json", `{"error":"invalid_grant"}`, nil, "invalid_grant"},
		"JSON/error and token":        {200, "application/json", `{"error":"invalid_grant","access_token":"t"}`, nil, "invalid_grant"},
		"form":                        {200, form, "access_token=t&token_type=bearer", nil, ""},
		"form/charset":                {200, form + "; charset=utf-8", "access_token=t&scope=a+b\r\n", nil, ""},
		"form/text/plain":             {200, "text/plain", "access_token=t", nil, ""},
		"form/text/html":              {200, "text/html", "access_token=t", unusable, ""},
		"form/labelled as JSON":       {200, "application/json", "access_token=t", unusable, ""},
		"form/duplicate name":         {200, form, "access_token=t&scope=a&scope=b", unusable, ""},
		"form/error":                  {200, form, "error=bad_verification_code", nil, "bad_verification_code"},
		"empty":                       {200, "application/json", "", unusable, ""},
		"refusal":                     {400, "application/json", `{"error":"invalid_grant"}`, nil, "invalid_grant"},
		"out of order":                {503, "text/html", "<html>", unusable, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			server := imitateGitLab(t)
			internet := newInternet(t, server)
			internet.Transport.(*internetTransport).handlers[server.endpoint.TokenURL] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.contentType)
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			}
			p := newProvider(t, server.config("one"), internet)
			v := newVisitor(t)
			login, err := v.finishAt(p, v.startAt(p, internet))
			switch {
			case c.want != nil:
				assert.ErrorIs(t, err, c.want)
			case c.code != "":
				var refused *oauth2.RetrieveError
				require.ErrorAs(t, err, &refused)
				assert.Equal(t, c.code, refused.ErrorCode)
			default:
				require.NoError(t, err)
				assert.Equal(t, "t", login.Token.AccessToken)
				assert.Equal(t, "Bearer", login.Token.Type())
			}
		})
	}
}

func compressed(body string, by func(io.Writer) io.WriteCloser) string {
	var out strings.Builder
	w := by(&out)
	_, _ = io.WriteString(w, body)
	_ = w.Close()
	return out.String()
}

func gzipped(body string) string {
	return compressed(body, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
}

// The client asks for uncompressed answers. A proxy may still compress them.
func TestCompressedAnswers(t *testing.T) {
	const good, bad = `{"access_token":"t","token_type":"Bearer"}`, `{"error":"invalid_grant"}`
	deflated := compressed(good, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
	for name, c := range map[string]struct {
		status       int
		coding, body string
		unusable     bool
	}{
		"gzip":            {200, "gzip", gzipped(good), false},
		"deflate":         {200, "deflate", deflated, false},
		"both":            {200, "deflate, gzip", gzipped(deflated), false},
		"refusal":         {400, "gzip", gzipped(bad), false},
		"a bomb":          {200, "gzip", gzipped(good + strings.Repeat(" ", 2<<20)), true},
		"not compressed":  {200, "gzip", good, true},
		"unknown":         {200, "br", good, true},
		"unknown refusal": {400, "br", bad, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, b := newSite(t), newBrowser(t)
			callbackURL := authorize(t, b.start(t, s))
			s.platform.Fault("/oauth/token", shangcloudtest.Fault{Status: c.status, Body: c.body, Header: http.Header{
				"Content-Encoding": {c.coding}, "Content-Type": {"application/json"},
			}})
			login, err := b.finish(s, callbackURL)
			refused, isRefused := errors.AsType[*oauth2.RetrieveError](err)
			switch {
			case c.unusable:
				assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
				assert.False(t, isRefused)
			case c.status == 200:
				require.NoError(t, err)
				assert.Equal(t, "t", login.Token.AccessToken)
			default:
				require.True(t, isRefused)
				assert.Equal(t, "invalid_grant", refused.ErrorCode)
			}
			require.Equal(t, 1, s.tokenRequests())
			assert.Equal(t, "identity", s.platform.Requests("/oauth/token")[0].Header.Get("Accept-Encoding"))
		})
	}
	t.Run("device login", func(t *testing.T) {
		s := newSite(t)
		s.platform.Fault("/oauth/device_authorization", shangcloudtest.Fault{Status: 200, Header: http.Header{"Content-Encoding": {"gzip"}},
			Body: gzipped(`{"device_code":"d","user_code":"ABCD","verification_uri":"https://provider.example/device"}`)})
		stop := errors.New("shown")
		_, err := s.DeviceLogin(t.Context(), func(shown *oauth2.DeviceAuthResponse) error {
			assert.Equal(t, "ABCD", shown.UserCode)
			return stop
		})
		assert.ErrorIs(t, err, stop)
		assert.Equal(t, "identity", s.platform.Requests("/oauth/device_authorization")[0].Header.Get("Accept-Encoding"))
	})
	t.Run("other requests with a token", func(t *testing.T) {
		s := newSite(t)
		for _, asked := range []string{"", "gzip"} {
			req, err := http.NewRequest(http.MethodPost, s.platform.URL+"/api/user/info", strings.NewReader("{}"))
			require.NoError(t, err)
			req.Header.Set("Accept-Encoding", asked)
			res, err := s.Client(s.TokenSource(issue(s.platform))).Do(req)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			assert.Equal(t, asked, req.Header.Get("Accept-Encoding"), "the caller's request is as it was")
		}
		sent := s.platform.Requests("/api/user/info")
		require.Len(t, sent, 2)
		assert.Equal(t, "identity", sent[0].Header.Get("Accept-Encoding"))
		assert.Equal(t, "gzip", sent[1].Header.Get("Accept-Encoding"))
	})
}

// TestLifetimes covers all forms of expires_in.
func TestLifetimes(t *testing.T) {
	const year = 365 * 24 * time.Hour
	cases := map[string]struct {
		expiresIn     string        // "": absent
		refresh       bool          // whether there is a refresh token
		want, assumed time.Duration // 0: no expiry; assumed is the lifetime with WithAssumedLifetime(time.Hour)
	}{
		"absent":                        {"", true, 0, time.Hour},
		"null":                          {"null", true, 0, time.Hour},
		"empty":                         {`""`, true, 0, time.Hour},
		"0 without a refresh token":     {"0", false, 0, time.Hour},
		`"0" without a refresh token`:   {`"0"`, false, 0, time.Hour},
		"0 with a refresh token":        {"0", true, time.Second, time.Second},
		"number":                        {"7200", true, 2 * time.Hour, 2 * time.Hour},
		"string":                        {`"7200"`, true, 2 * time.Hour, 2 * time.Hour},
		"fraction":                      {"7200.9", true, 2 * time.Hour, 2 * time.Hour},
		"negative":                      {"-5", true, time.Second, time.Second},
		"ten years":                     {"315360000", true, year, year},
		"more than a float can count":   {"1e400", true, time.Hour, time.Hour},
		"no number, an hour is assumed": {`"soon"`, true, time.Hour, time.Hour},
	}
	for name, c := range cases {
		for _, row := range [][]oauth2login.ProviderOption{nil, {oauth2login.WithAssumedLifetime(time.Hour)}} {
			want := c.want
			if row != nil {
				want = c.assumed
			}
			t.Run(fmt.Sprintf("%s/%d options", name, len(row)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tok := tokenWithLifetime(t, c.expiresIn, c.refresh, row)
					lifetime := time.Duration(0)
					if !tok.Expiry.IsZero() {
						lifetime = time.Until(tok.Expiry)
					}
					assert.Equal(t, want, lifetime)
				})
			})
		}
	}
}

// tokenWithLifetime logs in at a provider whose answer contains the given expires_in.
func tokenWithLifetime(t *testing.T, expiresIn string, refresh bool, row []oauth2login.ProviderOption) *oauth2.Token {
	t.Helper()
	server := imitateGitLab(t)
	server.token_ = func(g *grant) map[string]any {
		answer := map[string]any{"access_token": "t", "token_type": "Bearer"}
		if expiresIn != "" {
			answer["expires_in"] = json.RawMessage(expiresIn)
		}
		if refresh {
			answer["refresh_token"] = server.refreshToken(g)
		}
		return answer
	}
	internet := newInternet(t, server)
	p := newProvider(t, server.config("one"), internet, row...)
	v := newVisitor(t)
	login, err := v.finishAt(p, v.startAt(p, internet))
	require.NoError(t, err)
	return login.Token
}

// A time-out of the application's HTTP client ends neither an exchange nor a refresh.
func TestTimeoutOfHTTPClient(t *testing.T) {
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{Delay: 5 * time.Second})
		login, err := s.finish(s.callbackOf(t, false))
		require.NoError(t, err)
		time.Sleep(2 * time.Hour)
		_, err = s.TokenSource(login.Token).Token()
		assert.NoError(t, err)
	}, func(o *oauth2login.Options) { o.HTTPClient.Timeout = time.Second })
}

func TestExchangeFails(t *testing.T) { storedAndSealed(t, testExchangeFails) }

func testExchangeFails(t *testing.T, kind func(*setup)) {
	for name, c := range map[string]struct {
		fault       shangcloudtest.Fault
		unavailable bool
		status      int // status of the *oauth2.RetrieveError
		code        string
	}{
		"refused":           {shangcloudtest.Fault{Status: 400, Body: `{"error":"invalid_grant","error_description":"hush"}`}, false, 400, "invalid_grant"},
		"wrong credentials": {shangcloudtest.Fault{Status: 401, Body: `{"error":"invalid_client"}`}, false, 401, "invalid_client"},
		"refused in HTML":   {shangcloudtest.Fault{Status: 403, Body: `<html>hush`}, false, 403, ""},
		"error with 200":    {shangcloudtest.Fault{Status: 200, Body: `{"error":"invalid_grant"}`}, false, 200, "invalid_grant"},
		"error labelled text": {shangcloudtest.Fault{Status: 400, Body: `{"error":"invalid_grant"}`,
			Header: http.Header{"Content-Type": {"text/plain"}}}, false, 400, "invalid_grant"},
		"too many": {shangcloudtest.Fault{Status: 429, Body: `{}`}, true, 429, ""},
		"down":     {shangcloudtest.Fault{Status: 503, Body: `hush`}, true, 503, ""},
		"redirect": {shangcloudtest.Fault{Status: 307, Redirect: "/oauth/token"}, true, 307, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, b := newSite(t, kind), newBrowser(t)
			callbackURL := authorize(t, b.start(t, s, oauth2login.WithReturnTo("/cart"), oauth2login.WithValue("order 9")))
			s.platform.Fault("/oauth/token", c.fault)
			login, err := b.finish(s, callbackURL)
			assert.Nil(t, login)
			require.Error(t, err)
			failed, ok := errors.AsType[*oauth2login.LoginError](err)
			require.True(t, ok)
			assert.Equal(t, "/cart", failed.ReturnTo, "the application knows where the user was")
			assert.Equal(t, "order 9", failed.Value)
			assert.Equal(t, c.unavailable, errors.Is(err, oauth2login.ErrUnavailable), "%v", err)
			var re *oauth2.RetrieveError
			require.ErrorAs(t, err, &re)
			assert.Equal(t, c.status, re.Response.StatusCode)
			assert.Equal(t, c.code, re.ErrorCode)
			assert.Empty(t, re.Response.Request.Header, "the request's credentials are not kept")
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s %q", err, err, err, err, err), "hush")
			assert.Equal(t, 1, s.tokenRequests(), "the code is sent once")
		})
	}
}

func TestPlatformOutOfReach(t *testing.T) {
	s, b := newSite(t), newBrowser(t)
	callbackURL := authorize(t, b.start(t, s))
	s.platform.Close()
	_, err := b.finish(s, callbackURL)
	assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
	assert.ErrorAs(t, err, new(*oauth2login.LoginError))
	assert.NotContains(t, err.Error(), queryOf(t, callbackURL).Get("code"))
}

// An authorization code is not sent after Shutdown. It is also not sent if the request
// would have neither a PKCE verifier nor a client secret.
func TestExchangeNotSent(t *testing.T) {
	t.Run("shutting down", func(t *testing.T) {
		s, b := newSite(t), newBrowser(t)
		callbackURL := authorize(t, b.start(t, s))
		require.NoError(t, s.Shutdown(t.Context()))
		_, err := b.finish(s, callbackURL)
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
		assert.ErrorAs(t, err, new(*oauth2login.LoginError))
		assert.Zero(t, s.tokenRequests())
	})
	t.Run("neither proof key nor secret", func(t *testing.T) {
		platform, store := newPlatform(t), state.NewMemory(0)
		shared := func(c *setup) { c.States = store }
		before := newSiteAt(t, platform, shared, func(c *setup) { c.row = append(c.row, oauth2login.WithoutPKCE()) })
		after := newSiteAt(t, platform, shared, func(c *setup) { c.ClientSecret = "" })
		b := newBrowser(t)
		_, err := b.finish(after, authorize(t, b.start(t, before)))
		assert.ErrorContains(t, err, "no proof key")
		assert.Zero(t, after.tokenRequests())
	})
}
