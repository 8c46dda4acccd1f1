package security_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// answering returns a client whose server gives the same answer to every request. The
// headers are pairs of name and value.
func answering(status int, body string, header ...string) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		h := make(http.Header)
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1, Request: r}, nil
	})}
}

// isStatus reports whether net/http can return an answer with this status.
func isStatus(status int) bool { return status >= 200 && status <= 999 }

const wholeToken = `{"access_token":"at","token_type":"Bearer","refresh_token":"rt","expires_in":3600}`

func fuzzedProvider(t testing.TB, changes ...func(*setup)) *shangcloud.Provider {
	c := valid()
	c.HTTPClient = answering(200, wholeToken)
	for _, change := range changes {
		change(c)
	}
	return c.provider(t)
}

// bothKinds returns a provider with stored logins and one with sealed logins.
func bothKinds(f *testing.F) []*shangcloud.Provider {
	return []*shangcloud.Provider{fuzzedProvider(f), fuzzedProvider(f, sealedWith("1"))}
}

// started starts a login in a browser without cookies. It returns the cookie and the state
// of the login.
func started(t testing.TB, p *shangcloud.Provider, opts ...oauth2login.LoginOption) (*http.Cookie, string) {
	w := httptest.NewRecorder()
	require.NoError(t, p.StartLogin(w, requestWith("", ""), opts...))
	return w.Result().Cookies()[0], mustParse(w.Header().Get("Location")).Query().Get("state")
}

// requestWith returns a request with an arbitrary query and Cookie header.
func requestWith(rawQuery, cookie string) *http.Request {
	return &http.Request{
		Method: "GET", URL: &url.URL{Scheme: "https", Host: "app.example", Path: "/callback", RawQuery: rawQuery},
		Header: http.Header{"Cookie": {cookie}},
	}
}

// finishWith sends the correct callback of a login.
func finishWith(p *shangcloud.Provider, cookie *http.Cookie, state string) (*oauth2login.Login, error) {
	return p.FinishLogin(httptest.NewRecorder(), requestWith("code=c&state="+state, cookie.Name+"="+cookie.Value))
}

// ownWords matches the error texts of this library. The only words from outside are the
// error codes of standards and known providers.
var ownWords = regexp.MustCompile(strings.ReplaceAll(`^(?:shangcloud|oauth2login: [a-z0-9.:-]+): (?:`+strings.Join([]string{
	`callback: [A-Za-z_ ,;:=-]{1,120}`,
	`callback: too late: the login has expired \(after [0-9hms]+\), [a-z ]+`,
	`callback: (?:too late: )?the login (?:expired|began) [0-9hms]{1,20} [a-z ]+ this machine's clock`,
	`callback: the browser sent no cookie(?:; [a-z ]+ \(seen "[a-z.]*", expected "app\.example"\))?; [a-z ,]+ [0-9hms]+`,
	`the login came back with (?:an unknown error|CODE)`,
	`[a-z ]+: status \d{3}(?: CODE)?`,
	`[a-z ]+: the token endpoint refused: status \d{3}(?: CODE)?`,
	`[a-z ]+: the client credentials were refused(?: \(CODE\))?; check the client ID(?: and the client secret|: no client secret is set)`,
	`[a-z ]+: unusable answer: [A-Za-z0-9_ ,;-]{1,90}`,
	`[a-z ]+: the request failed`,
}, "|")+`)$`, "CODE", `(?:invalid_(?:request|client|grant|scope|token)|unauthorized_client|insufficient_scope|unsupported_(?:grant|response)_type|`+
	`access_denied|server_error|temporarily_unavailable|authorization_pending|slow_down|expired_token|bad_(?:refresh_token|verification_code)|`+
	`incorrect_client_credentials|redirect_uri_mismatch|user_cancelled_(?:login|authorize)|(?:interaction|login|consent)_required|account_selection_required)`))

func assertOwnWords(t *testing.T, err error) {
	t.Helper()
	assert.Regexp(t, ownWords, err.Error())
	assert.Equal(t, err.Error(), fmt.Sprintf("%+v", err))
}

// assertRefusal checks an error that was caused by an answer of the platform.
func assertRefusal(t *testing.T, err error) {
	t.Helper()
	assertOwnWords(t, err)
	assert.Equal(t, err.Error(), fmt.Sprintf("%#v", err))
	var api *shangcloud.APIError
	var token *oauth2.RetrieveError
	switch {
	case errors.As(err, &api):
		assert.Regexp(t, `^[a-z_]{0,64}$`, api.Code)
	case !errors.As(err, &token):
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
	}
}

// members decodes a JSON object in the simplest way. Each name in names may occur at most
// once, and only in this spelling. Numbers keep their literal form.
func members(body string, names ...string) (map[string]any, error) {
	dec := json.NewDecoder(strings.NewReader(body))
	dec.UseNumber()
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	found := make(map[string]any)
	for dec.More() {
		var value any
		name, err := dec.Token()
		if err != nil || dec.Decode(&value) != nil {
			return nil, errors.New("not JSON")
		}
		key := name.(string)
		for _, name := range names {
			if _, again := found[name]; strings.EqualFold(key, name) && (again || key != name) {
				return nil, fmt.Errorf("%s is ambiguous", name)
			}
		}
		found[key] = value
	}
	return found, nil
}

// formMembers decodes a form in which no name is repeated.
func formMembers(body string) (map[string]any, error) {
	form, err := url.ParseQuery(strings.TrimSpace(body))
	found := make(map[string]any)
	for name, values := range form {
		if len(values) != 1 {
			return nil, fmt.Errorf("%s is ambiguous", name)
		}
		found[name] = values[0]
	}
	return found, err
}

// FuzzCallback sends callbacks with arbitrary queries. In a query, STATE stands for the
// login's state.
func FuzzCallback(f *testing.F) {
	for _, seed := range []string{
		"", "state=STATE&code=c", "code=c&state=STATE&code=d", "state=STATE&state=STATE&code=c", "state=STATE", "code=c",
		"state=STATE&error=access_denied", "state=STATE&code=c&error=access_denied", "state=STATE&code=%00", "state=STATE;code=c",
		"STATE=state&code=c", "state=STATE&code=c&iss=https://evil.example", "state=%53TATE&code=c", "state=STATE&code=%zz",
		"state=STATE&code=" + strings.Repeat("c", 5000), "state=STATE&error=%0d%0aSet-Cookie:x&error_description=%ff", "state=STATE&code[]=c",
		"state=STATE&code=c&error=", "state=STATEx&code=c", "state=STATE&error=server_error&error_description=%e5%b0%8f&error_uri=https://e.example/",
		"state=STATE+&code=c", "State=STATE&state=STATE&Code=c&code=c", "state=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA&code=c",
		"state=STATE&error=hush_hush&error_description=hush", "state=STATE&error=",
	} {
		f.Add("GET", seed)
	}
	f.Add("POST", "state=STATE&code=c")
	f.Add("HEAD", "state=STATE&code=c")
	f.Add("get", "state=STATE&code=c")
	providers := bothKinds(f)
	f.Fuzz(func(t *testing.T, method, query string) {
		for _, p := range providers {
			fuzzCallback(t, p, method, query)
		}
	})
}

func fuzzCallback(t *testing.T, p *shangcloud.Provider, method, query string) {
	cookie, state := started(t, p)
	query = strings.ReplaceAll(query, "STATE", state)
	r := requestWith(query, cookie.Name+"="+cookie.Value)
	r.Method = method
	login, err := p.FinishLogin(httptest.NewRecorder(), r)

	q, malformed := url.ParseQuery(query)
	ours := method == "GET" && malformed == nil && slices.Equal(q["state"], []string{state})
	if err == nil {
		assert.True(t, ours && len(q["code"]) == 1 && q.Get("code") != "" && !q.Has("error"), "%s %q", method, query)
		assert.Equal(t, "at", login.Token.AccessToken)
	} else {
		assert.Nil(t, login)
		assertOwnWords(t, err)
		assert.False(t, ours && len(q) == 2 && slices.Equal(q["code"], []string{"c"}), "a callback like the platform's is refused: %v", err)
	}
	var refused *oauth2login.CallbackError
	if errors.As(err, &refused) {
		assert.True(t, ours && !q.Has("code") && q.Get("error") == refused.Code)
		assert.False(t, strings.ContainsFunc(refused.Code+refused.Description+refused.URI, unicode.IsControl))
	}

	repeated, again := finishWith(p, cookie, state)
	switch {
	case err == nil && q.Get("code") == "c":
		require.NoError(t, again)
		assert.True(t, repeated.Repeated, "a repeated callback gets the same login")
	case err == nil, refused != nil:
		assert.ErrorIs(t, again, oauth2login.ErrStateNotFound, "a state works once")
	default:
		assert.NoError(t, again, "the login is left to its owner after %v", err)
	}
}

// FuzzLoginCookie sends arbitrary Cookie headers at the start and at the end of a login. In
// a header, NAME and VALUE stand for the name and the value of the login's cookie. HEAD and
// SECRET stand for parts of that value. STATE stands for the login's state.
func FuzzLoginCookie(f *testing.F) {
	for _, seed := range []string{
		"", "NAME=VALUE", "NAME=VALUE; NAME=VALUE", "NAME=x; NAME=VALUE", "a=b; NAME=VALUE", `NAME="VALUE"`, "NAME=VALUE.x", "name=VALUE", "NAME=SECRET",
		"__Host-=x", ";;;=", "x=" + strings.Repeat("y", 5000), "\x00", "STATE=STATE", "__Host-STATE=STATE", "NAME=HEAD.STATE", "NAME=", "NAME", "NAME=VALUE\r\nX: y",
		"NAME=HEAD.AAAAAAAAAAAAAAAAAAAAAAAAAA", "NAMEx=VALUE", " NAME = VALUE ", strings.Repeat("NAME=y; NAME2=z;", 30), "NAME=" + strings.Repeat("y", 4097) + "; NAME3=z",
		"NAME=HEAD.; NAME=HEAD..SECRET; NAME=.HEAD.SECRET", "NAME=HEAD.SECRET.; NAME=HEAD.SECRET.y.z", "NAME=HEAD0.SECRET", "NAME=00000000.0000000000000.SECRET",
		"__Host-oauth2login-00=VALUE; __Host-oauth2login-20=VALUE; __Host-oauth2login--1=VALUE; __Host-oauth2login-+1=VALUE", "oauth2login-1=VALUE",
		"__Host-oauth2login-19=HEAD.x; __Host-oauth2login-0=HEAD.y; __Host-oauth2login-7=00000000.9999999999999.z; __Host-oauth2login-7=VALUE",
		strings.Repeat("__Host-oauth2login-3=HEAD.y; __Host-oauth2login-4=00000000.1795600000000."+strings.Repeat("z", 60)+"; ", 100),
	} {
		f.Add(seed)
	}
	p := fuzzedProvider(f)
	f.Fuzz(func(t *testing.T, header string) {
		cookie, state := started(t, p)
		head, secret, _ := partsOf(cookie.Value)
		header = strings.NewReplacer("NAME", cookie.Name, "VALUE", cookie.Value, "HEAD", head, "SECRET", secret, "STATE", state).Replace(header)
		assertStartsBeside(t, p, header)

		_, err := p.FinishLogin(httptest.NewRecorder(), requestWith("code=c&state="+state, header))
		if err != nil {
			assert.ErrorIs(t, err, oauth2login.ErrWrongBrowser)
			assertOwnWords(t, err)
			_, err = finishWith(p, cookie, state)
			assert.NoError(t, err, "the login is left to its owner")
			return
		}
		assert.True(t, slices.ContainsFunc(strings.Split(header, ";"), func(pair string) bool {
			name, value, _ := strings.Cut(pair, "=")
			parts := strings.Split(strings.Trim(value, "\" \t"), ".")
			return ownName.MatchString(strings.TrimSpace(name)) && len(parts) > 2 && parts[0] == head[:8] && parts[2] == secret
		}), "only the browser that holds the cookie gets in: %q", header)
	})
}

// ownName matches the names of login cookies.
var ownName = regexp.MustCompile(`^__Host-oauth2login-(?:1?[0-9])$`)

// assertStartsBeside starts and finishes a login in a browser that already has the cookies
// in header. At the end, the login's own cookie stands behind these cookies.
func assertStartsBeside(t *testing.T, p *shangcloud.Provider, header string) {
	w := httptest.NewRecorder()
	require.NoError(t, p.StartLogin(w, requestWith("", header)))
	var set []*http.Cookie
	for _, line := range w.Header()["Set-Cookie"] {
		c, err := http.ParseSetCookie(line)
		require.NoError(t, err)
		assert.Regexp(t, ownName, c.Name, "another's cookie is touched: %q", line)
		assert.True(t, c.Secure && c.HttpOnly && c.Path == "/" && c.Domain == "", "%q", line)
		if c.MaxAge > 0 {
			set = append(set, c)
		}
	}
	assert.LessOrEqual(t, len(w.Header()["Set-Cookie"]), 20, "an answer has short headers")
	require.Len(t, set, 1)
	if strings.Count(header, ";") > 180 {
		return // more cookies than browsers keep
	}
	state := mustParse(w.Header().Get("Location")).Query().Get("state")
	_, err := p.FinishLogin(httptest.NewRecorder(), requestWith("code=c&state="+state, header+"; "+set[0].Name+"="+set[0].Value))
	assert.NoError(t, err, "behind %q", header)
}

var (
	c0AndSpace = strings.Map(func(r rune) rune { return r - 1 }, "\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f !")
	dropped    = strings.NewReplacer("\t", "", "\n", "", "\r", "")
	scheme     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)
)

// staysHere reports whether a redirect to location keeps a browser on the same site. The
// site uses https. (https://url.spec.whatwg.org/#url-parsing)
func staysHere(location string) bool {
	location = dropped.Replace(strings.Trim(location, c0AndSpace))
	end := len(location)
	if i := strings.IndexAny(location, "?#"); i >= 0 {
		end = i
	}
	location = strings.ReplaceAll(location[:end], `\`, "/")
	return !scheme.MatchString(location) && !strings.HasPrefix(location, "//")
}

// FuzzReturnTo passes arbitrary return paths, and follows the redirect as a browser would.
func FuzzReturnTo(f *testing.F) {
	for _, seed := range []string{
		"", "/", "/a?b=c#d", "//evil.example", `/\evil.example`, `\\evil.example`, "/\t/evil.example", "/\n/evil.example", "https://evil.example",
		"javascript:alert(1)", " //evil.example", "/%2f/evil.example", "/..//evil.example", "/.//evil.example", "/a/..//evil.example", "///evil.example",
		"/\x00/evil.example", "/林", "/\u2028", "http:evil.example", "/@evil.example", "?x", "#x", "/a\r\nSet-Cookie: x", "/\xff",
		`/#/../\evil.example`, `/?/../\evil.example`, `/a#?/../\evil.example`, "/#/..//evil.example", `/a/%2e%2e/\evil.example`, "/%5c../x", "/;/..//x",
		"/?<&>\u2028\"\\", "/%25%32%66/x", "/\u0085/x", "/a b", "/?" + strings.Repeat(`"`, 2000), "/" + strings.Repeat("p", 2048), "//evil.example/x", "//u@/x",
	} {
		f.Add(seed)
	}
	providers := bothKinds(f)
	app := mustParse("https://app.example/callback?code=c")
	f.Fuzz(func(t *testing.T, asked string) {
		for _, p := range providers {
			cookie, state := started(t, p, oauth2login.WithReturnTo(asked))
			login, err := finishWith(p, cookie, state)
			require.NoError(t, err)
			to := login.ReturnTo
			assert.True(t, to == "/" || to == asked, "%q became %q", asked, to)
			assert.LessOrEqual(t, len(to), 2048)
			assert.False(t, strings.ContainsFunc(to, unicode.IsControl), "%q", to)

			u, err := url.Parse(to)
			require.NoError(t, err)
			at := app.ResolveReference(u)
			assert.Equal(t, "https://app.example/", at.Scheme+"://"+at.Host+at.Path[:1])
			w := httptest.NewRecorder()
			http.Redirect(w, requestWith("", ""), to, http.StatusSeeOther)
			for who, location := range map[string]string{
				"as it is": to, "http.Redirect": w.Header().Get("Location"), "resolved": at.RequestURI(),
				"decoded": u.Path, "decoded and cleaned": path.Clean(u.Path),
			} {
				assert.True(t, strings.HasPrefix(location, "/") && staysHere(location), "%q, %s, leads to %q", to, who, location)
			}
		}
	})
}

// FuzzTokenAnswer answers an exchange with arbitrary data.
func FuzzTokenAnswer(f *testing.F) {
	for _, seed := range []string{
		wholeToken, "", "{}", "null", "[]", "<html>", wholeToken + "x", wholeToken + wholeToken, `{"error":"invalid_grant"}`, `{"error":{}}`,
		`{"access_token":"a","access_token":"b"}`, `{"Access_Token":"a"}`, `{"access_token":"a\r\nb"}`, `{"access_token":"a","token_type":"mac"}`,
		`{"access_token":"a","token_type":"Bearer\r\n"}`, `{"access_token":"a","expires_in":1e400}`, `{"access_token":"a","expires_in":"-9223372036854775808"}`,
		`{"access_token":"a","expires_in":null}`, `{"access_token":"a","expires_in":[1]}`, `{"access_token":"a","expires_in":"NaN"}`, "access_token=a&token_type=bearer",
		`{"access_token":"\u0061","\u0061ccess_token":"b"}`, "{\"access_token\":\"\xff\"}", `{"access_token":"a","expires_in":0x7fffffffffffffff}`,
		`{"acce\u017f\u017f_token":"b","access_token":"a"}`, `{"access_token":"a","expires_in":-0,"Error":"x"}`, `{"access_token":"a","error":"","error_uri":1}`,
		`{"x":{"access_token":"a"},"access_token":["{"]}`, `{"error":"hush_hush"}`, "error=invalid_grant&error_description=hush", `{"access_token":"a","expires_in":7200.9,"refresh_token":null}`,
	} {
		f.Add(200, "application/json", seed)
		f.Add(200, "text/plain", seed)
		f.Add(400, "", seed)
	}
	f.Fuzz(func(t *testing.T, status int, contentType, body string) {
		if !isStatus(status) {
			return
		}
		p := fuzzedProvider(t, func(c *setup) { c.HTTPClient = answering(status, body, "Content-Type", contentType) })
		cookie, state := started(t, p)
		login, err := finishWith(p, cookie, state)
		if err != nil {
			assert.Nil(t, login)
			assertRefusal(t, err)
			return
		}
		assert.True(t, status <= 299, status)
		whole, err := members(body, "access_token", "token_type", "refresh_token", "expires_in", "error")
		if err != nil && !strings.HasPrefix(strings.TrimLeft(body, " \t\r\n"), "{") {
			whole, err = formMembers(body)
		}
		require.NoError(t, err)
		tok := login.Token
		assert.Regexp(t, `^[!-~]+$`, tok.AccessToken)
		assert.Equal(t, "Bearer", tok.Type())
		assert.Equal(t, whole["access_token"], tok.AccessToken)
		refresh, _ := whole["refresh_token"].(string)
		assert.Equal(t, refresh, tok.RefreshToken)
		assert.Contains(t, []any{nil, ""}, whole["error"])

		left := time.Until(tok.Expiry)
		assert.True(t, left > -time.Minute && left <= 365*24*time.Hour, left)
		number, _ := whole["expires_in"].(json.Number)
		if seconds, err := number.Int64(); err == nil && seconds > 0 && seconds < 365*24*3600 {
			assert.InDelta(t, seconds, left.Seconds(), 60)
		}
	})
}

func addAnswers(f *testing.F, more ...string) {
	for _, seed := range append(more, "", "{}", "null", "[]", "<html>", `{"error":"invalid_token","error_description":"no"}`,
		`{"error":{"code":1}}`, `{"error":"hush_hush","message":"hush"}`, `{"error":"`+strings.Repeat("e", 2000)+`"}`, "{\"error\":\"\x1b[2J\"}", "{", `{"a":`+strings.Repeat("[", 5000)) {
		for _, status := range []int{200, 302, 401, 500} {
			f.Add(status, seed)
		}
	}
}

func FuzzUserInfo(f *testing.F) {
	addAnswers(f, `{"user_id":1,"nickname":"n","mail":"m","avatar":"a"}`, `{"uid":10001,"nickname":"小明"}`, `{"uid":0}`, `{"uid":-1}`, `{"uid":"7"}`, `{"uid":1.5}`, `{"uid":1e30}`,
		`{"uid":1,"uid":2}`, `{"UID":1}`, `{"uid":1}x`, "{\"uid\":1,\"nickname\":\"\xff\"}", `{"uid":9223372036854775808}`, `{"code":200,"data":{"uid":1}}`,
		`{"ID":5,"uid":1,"Nickname":"n"}`, `{"uid":1,"mail":"a","mai\u006c":"b"}`, `{"uid":1,"error":"no"}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if !isStatus(status) {
			return
		}
		user, err := shangcloud.NewAPI(answering(status, body)).UserInfo(t.Context())
		if err != nil {
			assert.Nil(t, user)
			assertRefusal(t, err)
			return
		}
		assert.True(t, status <= 299, status)
		assert.Positive(t, user.ID)
		whole, err := members(body, "uid", "nickname", "mail", "avatar", "error")
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprint(user.ID), fmt.Sprint(whole["uid"]), "a number, or a text of digits")
		for name, text := range map[string]string{"nickname": user.Nickname, "mail": user.Email, "avatar": user.AvatarURL, "error": ""} {
			value, _ := whole[name].(string)
			assert.Equal(t, value, text, name)
		}
	})
}

func FuzzVariable(f *testing.F) {
	addAnswers(f, `{"value":"v"}`, `{"value":""}`, `{"value":null}`, `{"value":1}`, `{"value":"a","value":"b"}`, `{"Value":"a"}`, `{"value":"\ud800"}`, `{"status":"success","value":"x"}`,
		`{"value":"v"} `, `{"value":"v"}]`, "{\"value\":\"\xff\"}", `{"status":"error","message":"no"}`, `{"value":"v","error":"no"}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if !isStatus(status) {
			return
		}
		api := shangcloud.NewAPI(answering(status, body))
		value, err := api.Variable(t.Context(), "key")
		if err != nil {
			assert.Empty(t, value)
			assertRefusal(t, err)
		} else {
			assert.True(t, status <= 299, status)
			whole, err := members(body, "value", "error")
			require.NoError(t, err)
			assert.Equal(t, whole["value"], value)
			assert.Contains(t, []any{nil, ""}, whole["error"])
		}
		for _, err := range []error{api.SetVariable(t.Context(), "key", "v"), api.DeleteVariable(t.Context(), "key")} {
			if err != nil {
				assertRefusal(t, err)
				continue
			}
			assert.True(t, status <= 299, status)
			if strings.TrimSpace(body) != "" {
				_, err := members(body, "value", "error")
				assert.NoError(t, err)
			}
		}
	})
}

// FuzzRetryAfter answers a call with status 429 and an arbitrary Retry-After header.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{
		"", "0", "120", "-1", "+1", "1.5", "1e3", "0x10", "1_000", "2147483647", "2147483648", "99999999999999999999", " 1", "1 ", "soon",
		"Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Friday, 31-Dec-99 23:59:59 GMT", "Fri Dec 31 23:59:59 2100", "Fri, 31 Dec 2100 23:59:59 CST",
	} {
		f.Add(seed)
	}
	digits := regexp.MustCompile(`^[0-9]+$`)
	f.Fuzz(func(t *testing.T, value string) {
		_, err := shangcloud.NewAPI(answering(429, "", "Retry-After", value)).UserInfo(t.Context())
		var refused *shangcloud.APIError
		require.ErrorAs(t, err, &refused)
		assert.GreaterOrEqual(t, refused.RetryAfter, time.Duration(0))
		assert.LessOrEqual(t, refused.RetryAfter, 24*time.Hour)
		_, notDate := http.ParseTime(value)
		switch {
		case digits.MatchString(value):
			seconds, _ := strconv.ParseFloat(value, 64) // may be infinite
			assert.Equal(t, min(seconds, 86400), refused.RetryAfter.Seconds())
		case notDate != nil:
			assert.Zero(t, refused.RetryAfter)
		}
	})
}

// FuzzDeviceAnswer answers a device authorization request with arbitrary data. Everything
// that the user is shown must be safe to display.
func FuzzDeviceAnswer(f *testing.F) {
	addAnswers(f, `{"device_code":"d","user_code":"ABCD-EFGH","verification_uri":"https://e.example/device","verification_uri_complete":"https://e.example/device?c=A","expires_in":600,"interval":5}`,
		`{"device_code":"d","user_code":"A","verification_uri":"https://e.example","expires_in":0,"interval":-1}`, `{"device_code":"d","user_code":"A","verification_uri":"https://e.example"}`,
		`{"device_code":"d","user_code":"A","verification_uri":"https://e.example","expires_in":1e30,"interval":"1e30"}`, `{"device_code":"d","user_code":"\u001b[2J","verification_uri":"https://e.example"}`,
		`{"device_code":"d","user_code":"A","verification_uri":"javascript:alert(1)"}`, `{"device_code":"d","user_code":"A","verification_url":"https://e.example"}`,
		`{"device_code":"d","user_code":"A","verification_uri":"https://e.example@evil.example"}`, `{"device_code":"d","user_code":"A","user_code":"B","verification_uri":"https://e.example"}`,
		`{"device_code":"d","user_code":"A","verification_uri":"https://e.example","verification_uri_complete":"http://evil.example/"}`,
		`{"device_code":"d","user_code":"A","Verification_URL":"x","verification_uri":"https://e.example","Interval":0}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if !isStatus(status) {
			return
		}
		p := fuzzedProvider(t, func(c *setup) { c.HTTPClient = answering(status, body) })
		enough := errors.New("seen enough")
		_, err := p.DeviceLogin(t.Context(), func(shown *oauth2.DeviceAuthResponse) error {
			assert.True(t, status <= 299, status)
			whole, err := members(body, "device_code", "user_code", "verification_uri", "verification_url", "verification_uri_complete", "expires_in", "interval")
			require.NoError(t, err)
			assert.NotEmpty(t, whole["device_code"])
			assert.Empty(t, shown.DeviceCode)
			assert.Equal(t, whole["user_code"], shown.UserCode)
			assert.Contains(t, []any{whole["verification_uri"], whole["verification_url"]}, shown.VerificationURI)
			assert.True(t, shown.UserCode != "" && len(shown.UserCode) <= 64, "%q", shown.UserCode)
			assert.False(t, strings.ContainsFunc(shown.UserCode+shown.VerificationURI+shown.VerificationURIComplete, unicode.IsControl))
			assert.Regexp(t, `^(?i:https?)://[^/?#@]+([/?#]|$)`, shown.VerificationURI)
			assert.Regexp(t, `^((?i:https?)://[^/?#@]+([/?#].*)?)?$`, shown.VerificationURIComplete)
			assert.True(t, shown.Interval >= 1 && shown.Interval <= 60, shown.Interval)
			left := time.Until(shown.Expiry)
			assert.True(t, left > -time.Minute && left <= time.Hour, left)
			return enough
		})
		if !errors.Is(err, enough) {
			require.Error(t, err)
			assertRefusal(t, err)
		}
	})
}

// FuzzBasicCredentials logs in with any client ID and secret that New accepts.
func FuzzBasicCredentials(f *testing.F) {
	for _, seed := range [][2]string{
		{"demo", "hush-hush"}, {"demo", "a:b:c"}, {"a:b", "c"}, {"demo", "%41+%2B &=/"}, {"a+b c", "d"}, {"应用", "密码"}, {"demo", "\xff\xfe"}, {"%", "%%"}, {"demo", " "},
		{"demo", ""}, {"a:b", ""}, {"a&client_id=b", "c"}, {" ", "\u0085"}, {"demo", ":"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, id, secret string) {
		platform := shangcloudtest.New()
		c := valid()
		c.ClientID, c.ClientSecret, c.Endpoint = id, secret, shangcloud.EndpointAt(platform.URL)
		c.HTTPClient = &http.Client{Transport: platform.Transport()}
		p, err := shangcloud.New(&c.Config, &c.Options)
		if err != nil {
			return
		}
		platform.AddClient(shangcloudtest.Client{ID: id, Secret: secret, RedirectURIs: []string{c.RedirectURL}})
		platform.AddUser(shangcloudtest.User{ID: 10001})
		platform.AutoApprove(10001)
		finish := func() error {
			start, back := httptest.NewRecorder(), httptest.NewRecorder()
			require.NoError(t, p.StartLogin(start, requestWith("", "")))
			platform.ServeHTTP(back, httptest.NewRequest("GET", start.Header().Get("Location"), nil))
			_, query, _ := strings.Cut(back.Header().Get("Location"), "?")
			cookie := start.Result().Cookies()[0]
			_, err := p.FinishLogin(httptest.NewRecorder(), requestWith(query, cookie.Name+"="+cookie.Value))
			return err
		}
		require.NoError(t, finish(), "%q %q", id, secret)
		sent := platform.Requests("/oauth/token")[0]
		if secret == "" {
			assert.NotContains(t, sent.Header, "Authorization")
			assert.Equal(t, []string{id}, sent.Form()["client_id"])
			return
		}
		assert.Equal(t, "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)), sent.Header.Get("Authorization"))
		r := http.Request{Header: sent.Header}
		gotID, gotSecret, _ := r.BasicAuth()
		assert.Equal(t, []string{id, secret}, []string{gotID, gotSecret}, "as a server reads it")
		require.NoError(t, p.SetClientSecret(secret+"x"))
		var refused *oauth2.RetrieveError
		require.ErrorAs(t, finish(), &refused)
		assert.Equal(t, "invalid_client", refused.ErrorCode)
	})
}
