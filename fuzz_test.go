package shangcloud_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// answering is a client whose server gives one answer to everything.
func answering(status int, contentType, body string) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Header: http.Header{"Content-Type": {contentType}},
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1, Request: r,
		}, nil
	})}
}

const wholeToken = `{"access_token":"at","token_type":"Bearer","refresh_token":"rt","expires_in":3600}`

func fuzzedProvider(f testing.TB, changes ...func(*shangcloud.Config)) *shangcloud.Provider {
	c := valid()
	c.HTTPClient = answering(200, "application/json", wholeToken)
	for _, change := range changes {
		change(&c)
	}
	p, err := shangcloud.New(c)
	require.NoError(f, err)
	return p
}

// started starts a login in a browser without cookies, and returns its cookie and state.
func started(t testing.TB, p *shangcloud.Provider, opts ...shangcloud.LoginOption) (*http.Cookie, string) {
	w := httptest.NewRecorder()
	require.NoError(t, p.StartLogin(w, httptest.NewRequest("GET", "https://app.example/login", nil), opts...))
	return w.Result().Cookies()[0], mustParse(w.Header().Get("Location")).Query().Get("state")
}

// callbackWith is a callback with any query and cookie at all.
func callbackWith(rawQuery, cookie string) *http.Request {
	r := httptest.NewRequest("GET", "https://app.example/callback", nil)
	r.URL.RawQuery = rawQuery
	r.Header.Set("Cookie", cookie)
	return r
}

// FuzzCallback delivers any query. STATE stands for the state in it.
func FuzzCallback(f *testing.F) {
	p := fuzzedProvider(f)
	for _, seed := range []string{
		"", "state=STATE&code=c", "code=c&state=STATE&code=d", "state=STATE&state=STATE&code=c", "state=STATE", "code=c",
		"state=STATE&error=access_denied", "state=STATE&code=c&error=access_denied", "state=STATE&code=%00", "state=STATE;code=c",
		"STATE=state&code=c", "state=STATE&code=c&iss=https://evil.example", "state=%53TATE&code=c", "state=STATE&code=%zz",
		"state=STATE&code=" + strings.Repeat("c", 5000), "state=STATE&error=%0d%0aSet-Cookie:x&error_description=%ff", "state=STATE&code[]=c",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		cookie, state := started(t, p)
		query = strings.ReplaceAll(query, "STATE", state)
		login, err := p.FinishLogin(httptest.NewRecorder(), callbackWith(query, cookie.String()))
		q, parseErr := url.ParseQuery(query)
		if err == nil {
			require.NoError(t, parseErr)
			assert.Len(t, q["code"], 1)
			assert.Equal(t, []string{state}, q["state"])
			assert.False(t, q.Has("error"))
			assert.Equal(t, "at", login.Token.AccessToken)
			return
		}
		assert.Nil(t, login)
		assert.NotContains(t, err.Error(), state)
		if code := q.Get("code"); len(code) > 20 {
			assert.NotContains(t, err.Error(), code)
		}
		if errors.Is(err, shangcloud.ErrBadCallback) || errors.Is(err, shangcloud.ErrWrongBrowser) {
			_, err = p.FinishLogin(httptest.NewRecorder(), callbackWith("code=c&state="+state, cookie.String()))
			assert.NoError(t, err, "the login is left to its owner")
		}
		var refused *shangcloud.CallbackError
		if !errors.As(err, &refused) {
			assert.False(t, errors.Is(err, shangcloud.ErrAccessDenied))
		}
	})
}

// FuzzLoginCookie sends any Cookie header. COOKIE and STATE stand for the login's.
func FuzzLoginCookie(f *testing.F) {
	p := fuzzedProvider(f)
	for _, seed := range []string{
		"", "COOKIE", "COOKIE; COOKIE", "COOKIE=", "a=b; COOKIE", "COOKIE\"", "__Host-=x", ";;;=", "COOKIE.x", "COOKIE; COOKIE.y",
		"x=" + strings.Repeat("y", 5000), "\x00", "STATE=STATE", "__Host-STATE=STATE", "NAME=STATE", "NAME=", "NAME=AAAAAAAAAAAAAAAAAAAAAAAAAA",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		cookie, state := started(t, p)
		pair := cookie.Name + "=" + cookie.Value
		header = strings.NewReplacer("COOKIE", pair, "STATE", state, "NAME", cookie.Name).Replace(header)
		_, err := p.FinishLogin(httptest.NewRecorder(), callbackWith("code=c&state="+state, header))
		if err != nil {
			assert.ErrorIs(t, err, shangcloud.ErrWrongBrowser)
			assert.NotContains(t, err.Error(), cookie.Value)
			return
		}
		assert.Contains(t, header, cookie.Value, "only the browser that holds the cookie gets in")
	})
}

// FuzzReturnTo asks to return anywhere, and goes where a browser would.
func FuzzReturnTo(f *testing.F) {
	p := fuzzedProvider(f)
	for _, seed := range []string{
		"", "/", "/a?b=c#d", "//evil.example", `/\evil.example`, `\\evil.example`, "/\t/evil.example", "/\n/evil.example", "https://evil.example",
		"javascript:alert(1)", " //evil.example", "/%2f/evil.example", "/..//evil.example", "/.//evil.example", "/a/..//evil.example", "///evil.example",
		"/\x00/evil.example", "/林", "/\u2028", "http:evil.example", "/@evil.example", "?x", "#x", "/a\r\nSet-Cookie: x", "/\xff",
	} {
		f.Add(seed)
	}
	// What browsers do before they read a URL (https://url.spec.whatwg.org/#url-parsing).
	normal := strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/")
	app := mustParse("https://app.example/callback")
	f.Fuzz(func(t *testing.T, path string) {
		cookie, state := started(t, p, shangcloud.WithReturnTo(path))
		login, err := p.FinishLogin(httptest.NewRecorder(), callbackWith("code=c&state="+state, cookie.String()))
		require.NoError(t, err)
		seen := normal.Replace(strings.TrimLeft(login.ReturnTo, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x1b\x1f "))
		assert.True(t, strings.HasPrefix(seen, "/") && !strings.HasPrefix(seen, "//"), "%q", login.ReturnTo)
		assert.NotContains(t, login.ReturnTo, "\n")
		to, err := app.Parse(seen)
		require.NoError(t, err)
		assert.Equal(t, "https://app.example", to.Scheme+"://"+to.Host)
		w := httptest.NewRecorder()
		http.Redirect(w, httptest.NewRequest("GET", "https://app.example/callback", nil), login.ReturnTo, http.StatusSeeOther)
		location := normal.Replace(w.Header().Get("Location"))
		assert.True(t, strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "//"), "%q leads to %q", login.ReturnTo, location)
	})
}

// FuzzTokenAnswer answers an exchange with anything.
func FuzzTokenAnswer(f *testing.F) {
	for _, seed := range []string{
		wholeToken, "", "{}", "null", "[]", "<html>", wholeToken + "x", wholeToken + wholeToken, `{"error":"invalid_grant"}`, `{"error":{}}`,
		`{"access_token":"a","access_token":"b"}`, `{"Access_Token":"a"}`, `{"access_token":"a\r\nb"}`, `{"access_token":"a","token_type":"mac"}`,
		`{"access_token":"a","token_type":"Bearer\r\n"}`, `{"access_token":"a","expires_in":1e400}`, `{"access_token":"a","expires_in":"-9223372036854775808"}`,
		`{"access_token":"a","expires_in":null}`, `{"access_token":"a","expires_in":[1]}`, `{"access_token":"a","expires_in":"NaN"}`, "access_token=a&token_type=bearer",
		`{"access_token":"\u0061","\u0061ccess_token":"b"}`, "{\"access_token\":\"\xff\"}", `{"access_token":"a","expires_in":0x7fffffffffffffff}`,
	} {
		f.Add(200, "application/json", seed)
		f.Add(200, "text/plain", seed)
		f.Add(400, "", seed)
	}
	f.Fuzz(func(t *testing.T, status int, contentType, body string) {
		if status < 200 || status > 999 {
			return
		}
		p := fuzzedProvider(t, func(c *shangcloud.Config) { c.HTTPClient = answering(status, contentType, body) })
		cookie, state := started(t, p)
		login, err := p.FinishLogin(httptest.NewRecorder(), callbackWith("code=the-code&state="+state, cookie.String()))
		if err != nil {
			assert.Nil(t, login)
			assert.NotContains(t, err.Error(), "the-code")
			assert.Less(t, len(err.Error()), 1000)
			return
		}
		assert.True(t, status >= 200 && status <= 299, status)
		tok := login.Token
		assert.NotEmpty(t, tok.AccessToken)
		assert.Equal(t, "Bearer", tok.Type())
		assert.False(t, strings.ContainsFunc(tok.AccessToken, func(r rune) bool { return r <= ' ' || r > '~' }), "%q", tok.AccessToken)
		left := time.Until(tok.Expiry)
		assert.True(t, left > -time.Minute && left <= 366*24*time.Hour, left)
	})
}

// assertRefusal checks an error that an answer of the API led to.
func assertRefusal(t *testing.T, err error) {
	t.Helper()
	var refused *shangcloud.APIError
	if !errors.As(err, &refused) {
		assert.ErrorIs(t, err, shangcloud.ErrUnavailable)
	}
	assert.Less(t, len(err.Error()), 1000)
	assert.NotContains(t, err.Error(), "\n")
}

func addAnswers(f *testing.F, more ...string) {
	for _, seed := range append(more, "", "{}", "null", "[]", "<html>", `{"error":"invalid_token","error_description":"no"}`,
		`{"error":{"code":1}}`, `{"error":"`+strings.Repeat("e", 2000)+`"}`, "{\"error\":\"\x1b[2J\"}", "{", `{"a":`+strings.Repeat("[", 5000)) {
		for _, status := range []int{200, 302, 401, 500} {
			f.Add(status, seed)
		}
	}
}

func FuzzUserInfo(f *testing.F) {
	addAnswers(f, `{"user_id":1,"nickname":"n","mail":"m","avatar":"a"}`, `{"uid":10001,"nickname":"小明"}`, `{"uid":0}`, `{"uid":-1}`, `{"uid":"7"}`, `{"uid":1.5}`, `{"uid":1e30}`,
		`{"uid":1,"uid":2}`, `{"UID":1}`, `{"uid":1}x`, "{\"uid\":1,\"nickname\":\"\xff\"}", `{"uid":9223372036854775808}`, `{"code":200,"data":{"uid":1}}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 999 {
			return
		}
		user, err := shangcloud.NewAPI(answering(status, "application/json", body)).UserInfo(t.Context())
		if err != nil {
			assert.Nil(t, user)
			assertRefusal(t, err)
			return
		}
		assert.True(t, status >= 200 && status <= 299, status)
		assert.Positive(t, user.ID)
	})
}

func FuzzVariable(f *testing.F) {
	addAnswers(f, `{"value":"v"}`, `{"value":""}`, `{"value":null}`, `{"value":1}`, `{"value":"a","value":"b"}`, `{"Value":"a"}`, `{"value":"\ud800"}`, `{"status":"success","value":"x"}`,
		`{"value":"v"} `, `{"value":"v"}]`, "{\"value\":\"\xff\"}", `{"status":"error","message":"no"}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 999 {
			return
		}
		api := shangcloud.NewAPI(answering(status, "application/json", body))
		value, err := api.Variable(t.Context(), "key")
		if err != nil {
			assert.Empty(t, value)
			assertRefusal(t, err)
		} else {
			assert.True(t, status >= 200 && status <= 299, status)
		}
		for _, err := range []error{api.SetVariable(t.Context(), "key", "v"), api.DeleteVariable(t.Context(), "key")} {
			if err != nil {
				assertRefusal(t, err)
			} else {
				assert.True(t, status >= 200 && status <= 299, status)
			}
		}
	})
}

// FuzzBasicCredentials sends any client ID and secret that New accepts, and reads
// them as a server does.
func FuzzBasicCredentials(f *testing.F) {
	for _, seed := range [][2]string{
		{"demo", "hush-hush"}, {"demo", "a:b:c"}, {"a:b", "c"}, {"demo", "%41+%2B &=/"}, {"a+b c", "d"}, {"应用", "密码"}, {"demo", "\xff\xfe"}, {"%", "%%"}, {"demo", " "},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, id, secret string) {
		var gotID, gotSecret string
		c := valid()
		c.ClientID, c.ClientSecret = id, secret
		c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			gotID, gotSecret, _ = r.BasicAuth()
			return answering(200, "application/json", wholeToken).Transport.RoundTrip(r)
		})}
		p, err := shangcloud.New(c)
		if err != nil {
			return
		}
		cookie, state := started(t, p)
		login, err := p.FinishLogin(httptest.NewRecorder(), callbackWith("code=c&state="+state, cookie.String()))
		require.NoError(t, err)
		if secret == "" {
			assert.Empty(t, gotID+gotSecret, "a public client has no credentials to send")
			return
		}
		assert.Equal(t, "at", login.Token.AccessToken)
		assert.Equal(t, id, gotID)
		assert.Equal(t, secret, gotSecret)
	})
}
