package shangcloud_test

import (
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestVariables(t *testing.T) {
	api, platform := newAPI(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a slow machine may need more than 10 seconds
	defer cancel()
	for name, value := range map[string]string{
		"plain":          "dark",
		"empty":          "",
		"quotes":         `"\"'<&>` + "`",
		"newlines":       "\r\n a\n\t\x00\x01\x7f\n",
		"Unicode":        "值 😀 \u2028\u2029 \U0010ffff e\u0301",
		"键 1":            "a key beyond ASCII",
		" ":              "a key of one space",
		"1 MiB":          strings.Repeat("0123456789abcdef", 1<<16),
		"1 MiB, Chinese": strings.Repeat("变", 1<<20/3),
		"1 MiB, escaped": strings.Repeat("\x01", 1<<20),
	} {
		require.NoError(t, api.SetVariable(ctx, name, value), name)
		assert.True(t, platform.Variables(10001)[name] == value, "%s as the platform has it", name)
		got, err := api.Variable(ctx, name)
		require.NoError(t, err, name)
		assert.True(t, got == value, "%s: %.20q", name, got)
	}
	require.NoError(t, api.DeleteVariable(ctx, "plain"))
	assert.NotContains(t, platform.Variables(10001), "plain")
	got, err := api.Variable(ctx, "plain")
	require.NoError(t, err)
	assert.Empty(t, got)

	platform.ForgetRequests()
	assert.Error(t, api.SetVariable(ctx, "key", "\xff"))
	assert.Error(t, api.SetVariable(ctx, "\xff", ""))
	_, err = api.Variable(ctx, "\xff")
	assert.Error(t, err)
	assert.Empty(t, platform.Requests(), "what can't arrive intact is not sent")
}

func TestVariableMissing(t *testing.T) {
	api, platform := newAPI(t)
	platform.Configure(func(s *shangcloudtest.Settings) { s.MissingVariable = shangcloudtest.MissingIsError })
	_, err := api.Variable(t.Context(), "none")
	var ae *shangcloud.APIError
	require.ErrorAs(t, err, &ae)
	assert.Equal(t, 200, ae.StatusCode)
	assert.NotEmpty(t, ae.Message)
	assert.Contains(t, string(ae.Body), ae.Message)

	platform.Configure(func(s *shangcloudtest.Settings) { s.MissingVariable = shangcloudtest.MissingIsNotFound })
	_, err = api.Variable(t.Context(), "none")
	require.ErrorAs(t, err, &ae)
	assert.Equal(t, 404, ae.StatusCode)
}

func TestAPIError(t *testing.T) {
	for name, c := range map[string]struct {
		fault         shangcloudtest.Fault
		status        int
		code, message string
		text          string
		unavailable   bool
	}{
		"OAuth style": {shangcloudtest.Fault{Status: 403, Body: `{"error":"insufficient_scope","error_description":"need var:io"}`},
			403, "insufficient_scope", "need var:io", "shangcloud: user info: status 403 insufficient_scope", false},
		"a message": {shangcloudtest.Fault{Status: 400, Body: `{"message":"不行"}`}, 400, "", "不行", "shangcloud: user info: status 400", false},
		"an error in words": {shangcloudtest.Fault{Status: 400, Body: `{"error":"No such thing: hush"}`},
			400, "", "No such thing: hush", "shangcloud: user info: status 400", false},
		"plain text": {shangcloudtest.Fault{Status: 401, Body: "hush"}, 401, "", "", "shangcloud: user info: status 401", false},
		"down":       {shangcloudtest.Fault{Status: 502, Body: "<html>hush"}, 502, "", "", "shangcloud: user info: status 502", true},
		"too many":   {shangcloudtest.Fault{Status: 429, Body: "{}"}, 429, "", "", "shangcloud: user info: status 429", true},
		"redirect":   {shangcloudtest.Fault{Status: 307, Redirect: "/api/user/info"}, 307, "", "", "shangcloud: user info: status 307", true},
	} {
		t.Run(name, func(t *testing.T) {
			api, platform := newAPI(t)
			platform.Fault("/api/user/info", c.fault)
			u, err := api.UserInfo(t.Context())
			assert.Nil(t, u)
			var ae *shangcloud.APIError
			require.ErrorAs(t, err, &ae)
			assert.Equal(t, c.status, ae.StatusCode)
			assert.Equal(t, c.code, ae.Code)
			assert.Equal(t, c.message, ae.Message)
			if c.fault.Redirect == "" {
				assert.Equal(t, c.fault.Body, string(ae.Body))
			}
			assert.EqualError(t, err, c.text)
			assert.Equal(t, c.unavailable, errors.Is(err, oauth2login.ErrUnavailable))
			assert.Equal(t, c.status == 401, errors.Is(err, oauth2login.ErrLoginRequired))
			assert.Len(t, platform.Requests("/api/user/info"), 1)
		})
	}
}

func TestVariableWithoutScope(t *testing.T) {
	platform := newPlatform(t)
	access, _ := platform.Issue("demo", 10001, "user:basic")
	_, err := newProvider(t, platform).API(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: access})).Variable(t.Context(), "key")
	var ae *shangcloud.APIError
	require.ErrorAs(t, err, &ae)
	assert.Equal(t, 403, ae.StatusCode)
	assert.Equal(t, "insufficient_scope", ae.Code)
}

// TestUserInfoUnusable is about answers without a usable user ID. Package security tests
// answers that are not JSON objects at all.
func TestUserInfoUnusable(t *testing.T) {
	api, platform := newAPI(t)
	for name, body := range map[string]string{
		"no uid":            `{"nickname":"n"}`,
		"uid null":          `{"uid":null}`,
		"uid 0":             `{"uid":0}`,
		"uid negative":      `{"uid":-1}`,
		"uid fractional":    `{"uid":1.5}`,
		"uid with a point":  `{"uid":1.0}`,
		"uid with exponent": `{"uid":1e3}`,
		"uid above int64":   `{"uid":9223372036854775808}`,
		"uid a word":        `{"uid":"ming"}`,
		"uid with a sign":   `{"uid":"+10001"}`,
		"uid with a zero":   `{"uid":"010001"}`,
		"uid with a space":  `{"uid":" 10001"}`,
		"uid an empty text": `{"uid":""}`,
		"uid in capitals":   `{"UID":10001}`,
		"uid twice":         `{"uid":10001,"uid":10002}`,
		"uid in disguise":   `{"uid":10001,"\u0075id":10002}`,
		"uid inside":        `{"user":{"uid":10001}}`,
		"uid of 400 digits": `{"uid":` + strings.Repeat("7", 400) + `}`,
		"uid a huge float":  `{"uid":1e400}`,
		"uid a truth":       `{"uid":true}`,
		"uid in a list":     `{"uid":[7]}`,
		"uid in an object":  `{"uid":{"id":7}}`,
		"text above int64":  `{"uid":"9223372036854775808"}`,
		"text 0":            `{"uid":"0"}`,
		"text negative":     `{"uid":"-1"}`,
		"text 007":          `{"uid":"007"}`,
		"text 1e3":          `{"uid":"1e3"}`,
		"text 7.0":          `{"uid":"7.0"}`,
		"text 0x7":          `{"uid":"0x7"}`,
		"text 1_000":        `{"uid":"1_000"}`,
		"text with a space": `{"uid":" 7"}`,
		"text with a line":  `{"uid":"7\n"}`,
		"text with quotes":  `{"uid":"\"7\""}`,
		"text in disguise":  `{"uid":"\u0037"}`,
		"wide digits":       `{"uid":"７"}`,
	} {
		platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: 200, Body: body})
		u, err := api.UserInfo(t.Context())
		assert.Nil(t, u, name)
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable, name)
		assert.NotContains(t, fmt.Sprintf("%v %#v", err, err), "hush", name)
	}
	platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: 200, Body: `{"error":"no such user"}`})
	_, err := api.UserInfo(t.Context())
	var ae *shangcloud.APIError
	require.ErrorAs(t, err, &ae)
	assert.Equal(t, "no such user", ae.Message)

	platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: 200,
		Body:   ` {"uid":9223372036854775807,"mail":null,"more":{"uid":1,"UID":[2,"\"uid\""]},"nickname":"\u0022,uid"} ` + "\n",
		Header: http.Header{"Content-Type": {"text/plain"}}})
	u, err := api.UserInfo(t.Context())
	require.NoError(t, err)
	assert.Equal(t, &shangcloud.UserInfo{ID: 1<<63 - 1, Nickname: `",uid`}, u)
}

func TestUserInfoOrnaments(t *testing.T) {
	api, platform := newAPI(t)
	for body, want := range map[string]shangcloud.UserInfo{
		`{"uid":"7","nickname":"n"}`:                          {ID: 7, Nickname: "n"},
		`{"uid":"9223372036854775807","mail":null}`:           {ID: 1<<63 - 1},
		`{"uid":7,"nickname":{"uid":8},"avatar":[[["a"]]]}`:   {ID: 7},
		`{"uid":7,"nickname":1e400,"mail":true,"avatar":"a"}`: {ID: 7, AvatarURL: "a"},
		`{"uid":7,"nickname":"\ud800\r\n","mail":""}`:         {ID: 7, Nickname: "\ufffd\r\n"},
		`{"uid":7,"nickname":"n","avatar":false}`:             {ID: 7, Nickname: "n"},
		`{"uid":7,"nickname":1,"mail":[],"avatar":{"a":"b"}}`: {ID: 7},
		`{"uid":7,"mail":"m","avatar":"a","error":""}`:        {ID: 7, Email: "m", AvatarURL: "a"},
	} {
		platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: 200, Body: body})
		user, err := api.UserInfo(t.Context())
		require.NoError(t, err, body)
		assert.Equal(t, want, *user, body)
	}
}

func TestVariableUnusable(t *testing.T) {
	api, platform := newAPI(t)
	for name, body := range map[string]string{
		"no value":       `{}`,
		"value null":     `{"value":null}`,
		"value a number": `{"value":1}`,
		"values":         `{"value":"a","value":"b"}`,
		"in capitals":    `{"Value":"a"}`,
	} {
		platform.Fault("/api/varibles", shangcloudtest.Fault{Times: 1, Status: 200, Body: body})
		_, err := api.Variable(t.Context(), "key")
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable, name)
	}
	platform.Fault("/api/varibles", shangcloudtest.Fault{Times: 2, Status: 204})
	assert.NoError(t, api.SetVariable(t.Context(), "key", "v"))
	_, err := api.Variable(t.Context(), "key")
	assert.ErrorIs(t, err, oauth2login.ErrUnavailable)

	platform.Fault("/api/varibles", shangcloudtest.Fault{Times: 1, Status: 200, Body: `{"value":"","error":"quota"}`})
	var ae *shangcloud.APIError
	require.ErrorAs(t, api.SetVariable(t.Context(), "key", "v"), &ae)
	assert.Equal(t, "quota", ae.Code)
	assert.EqualError(t, ae, "shangcloud: write variable: status 200", "only known codes are printed")
}

func TestAPIErrorRetryAfter(t *testing.T) {
	api, platform := newAPI(t)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, "-1": 0, "1.5": 0, "soon": 0, "99999999999999999999": 24 * time.Hour, "86401": 24 * time.Hour,
		"Fri, 31 Dec 1999 23:59:59 GMT": 0,
	} {
		platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: 429, Header: http.Header{"Retry-After": {value}}})
		_, err := api.UserInfo(t.Context())
		var ae *shangcloud.APIError
		require.ErrorAs(t, err, &ae)
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
		assert.Equal(t, want, ae.RetryAfter, value)
	}
	date := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: 503, Header: http.Header{"Retry-After": {date}}})
	_, err := api.UserInfo(t.Context())
	var ae *shangcloud.APIError
	require.ErrorAs(t, err, &ae)
	assert.InDelta(t, time.Hour, ae.RetryAfter, float64(10*time.Second))
}

func TestNewAPIBaseURL(t *testing.T) {
	api, platform := newAPI(t)
	_ = api
	access, _ := platform.Issue("demo", 10001, "user:basic")
	conf := oauth2.Config{Endpoint: shangcloud.EndpointAt(platform.URL)}
	hc := conf.Client(t.Context(), &oauth2.Token{AccessToken: access})

	u, err := shangcloud.NewAPI(hc, shangcloud.WithBaseURL(platform.URL+"/")).UserInfo(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(10001), u.ID)
	assert.Nil(t, hc.CheckRedirect, "the caller's client is not changed")

	for _, base := range []string{"http://api.yearnstudio.cn", "ftp://127.0.0.1", "127.0.0.1", "", "https://x/?y", "https://x:"} {
		_, err := shangcloud.NewAPI(hc, shangcloud.WithBaseURL(base)).UserInfo(t.Context())
		assert.ErrorContains(t, err, "WithBaseURL", base)
	}
}

// roundTripper is a function that implements http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// silent never answers. It waits until the request's context ends.
var silent = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-time.After(time.Hour): // so that a request without a context cannot keep the bubble open for ever
		return nil, context.DeadlineExceeded
	}
})}

// dripping answers at once. The body of the answer sends one byte per second for an hour.
var dripping = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: &drip{ctx: r.Context()}, Request: r}, nil
})}

type drip struct {
	ctx context.Context
	n   int
}

func (d *drip) Read(p []byte) (int, error) {
	select {
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	case <-time.After(time.Second):
		if d.n++; d.n > 3600 { // so that a request without a context cannot keep the bubble open for ever
			return 0, io.EOF
		}
		p[0] = ' '
		return 1, nil
	}
}

func (d *drip) Close() error { return nil }

// TestAPIWaits calls a platform that never answers, and a platform that sends one byte per
// second. Each call must end in time.
func TestAPIWaits(t *testing.T) {
	expired := &oauth2.Token{AccessToken: "at", RefreshToken: "rt", Expiry: time.Unix(1, 0)}
	for clientName, hc := range map[string]*http.Client{"silent": silent, "dripping": dripping} {
		for name, call := range map[string]func(context.Context, *shangcloud.Provider) error{
			"user info": func(ctx context.Context, p *shangcloud.Provider) error {
				_, err := p.API(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "at"})).UserInfo(ctx)
				return err
			},
			"NewAPI": func(ctx context.Context, p *shangcloud.Provider) error {
				_, err := shangcloud.NewAPI(hc).Variable(ctx, "key")
				return err
			},
			"plain x/oauth2's refresh": func(ctx context.Context, p *shangcloud.Provider) error {
				// x/oauth2's source refreshes with the context that the source was made
				// with, not with the context of the call.
				plain := p.OAuth2().Client(context.WithValue(context.Background(), oauth2.HTTPClient, hc), expired)
				_, err := shangcloud.NewAPI(plain).UserInfo(ctx)
				return err
			},
			"another source's refresh": func(ctx context.Context, p *shangcloud.Provider) error {
				_, err := p.API(p.OAuth2().TokenSource(p.ClientContext(context.Background()), expired)).UserInfo(ctx)
				return err
			},
			"own refresh": func(ctx context.Context, p *shangcloud.Provider) error {
				_, err := p.API(p.TokenSource(expired)).UserInfo(ctx)
				return err
			},
		} {
			t.Run(clientName+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p, err := shangcloud.New(config(shangcloud.DefaultBaseURL), &oauth2login.Options{HTTPClient: hc})
					require.NoError(t, err)

					start := time.Now()
					err = call(context.Background(), p)
					assert.ErrorIs(t, err, context.DeadlineExceeded)
					assert.Equal(t, 10*time.Second, time.Since(start), "without a deadline")

					start = time.Now()
					ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
					defer cancel()
					err = call(ctx, p)
					assert.ErrorIs(t, err, context.DeadlineExceeded)
					assert.Less(t, time.Since(start), 2*time.Second+1, "with a deadline")

					ctx, cancel = context.WithCancel(context.Background())
					time.AfterFunc(time.Second, cancel)
					start = time.Now()
					err = call(ctx, p)
					assert.ErrorIs(t, err, context.Canceled)
					assert.Less(t, time.Since(start), 2*time.Second+1, "cancelled")
					synctest.Wait()
					time.Sleep(2 * time.Hour) // let goroutines that outlive the call end
				})
			})
		}
	}
}

func TestAPICall(t *testing.T) {
	api, platform := newAPI(t)
	var user struct {
		UID int64 `json:"uid"`
	}
	require.NoError(t, api.Call(t.Context(), "/api/user/info", nil, &user))
	assert.Equal(t, int64(10001), user.UID)

	body := map[string]string{"key": "theme", "action": "write", "value": "dark"}
	require.NoError(t, api.Call(t.Context(), "/api/varibles", body, nil))
	assert.Equal(t, "dark", platform.Variables(10001)["theme"])

	platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 2, Status: 200, Body: `{"error":"quota"}`})
	var refused *shangcloud.APIError
	require.ErrorAs(t, api.Call(t.Context(), "/api/user/info", nil, &user), &refused)
	assert.Equal(t, "quota", refused.Code)
	assert.ErrorAs(t, api.Call(t.Context(), "/api/user/info", nil, nil), &refused)

	platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: 200, Body: `[]`})
	assert.ErrorIs(t, api.Call(t.Context(), "/api/user/info", nil, &user), oauth2login.ErrUnavailable)

	platform.ForgetRequests()
	for _, path := range []string{"", "api/user/info", "https://evil.example/", "//evil.example/", "/#x"} {
		assert.ErrorContains(t, api.Call(t.Context(), path, nil, nil), "path", path)
	}
	assert.Error(t, api.Call(t.Context(), "/api/user/info", func() {}, nil))
	assert.Empty(t, platform.Requests(), "what can't be sent is not sent")
}

func TestAPICallHeaders(t *testing.T) {
	api, platform := newAPI(t)
	call := func(opts ...shangcloud.CallOption) error {
		return api.Call(t.Context(), "/api/user/info", nil, nil, opts...)
	}
	require.NoError(t, call(shangcloud.WithHeader("X-MMO-Room", "a 房间"), shangcloud.WithHeader("x-empty", "")))
	sent := platform.Requests()[0].Header
	assert.Equal(t, "a 房间", sent.Get("x-mmo-room"))
	assert.Equal(t, []string{""}, sent.Values("X-Empty"))

	platform.ForgetRequests()
	for _, name := range []string{"", "X-", "Authorization", "authorization", "Host", "Content-Type", "Content-Length", "Cookie", "Idempotency-Key", "X-a b", "X-a:", "X-a\r\nHost", "X-变"} {
		err := call(shangcloud.WithHeader(name, "hush"))
		assert.ErrorContains(t, err, "X-", name)
		assert.NotContains(t, err.Error(), "hush")
	}
	for _, value := range []string{"hush\r\nAuthorization: x", "hush\n", "hush\x00", "hush\x7f", " hush", "hush ", "hush\t"} {
		err := call(shangcloud.WithHeader("X-Room", value))
		assert.ErrorContains(t, err, "control characters", "%q", value)
		assert.NotContains(t, err.Error(), "hush")
	}
	assert.Empty(t, platform.Requests(), "what can't be sent is not sent")
}

// A bare token is for one call only, goes to the same hosts, and is refreshed as any other.
func TestAPICallBareToken(t *testing.T) {
	platform := newPlatform(t)
	platform.Configure(func(s *shangcloudtest.Settings) { s.Authorization = shangcloudtest.BareAuthorization })
	p := newProvider(t, platform)
	access, _ := platform.Issue("demo", 10001, "user:basic", "mmo")
	src := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: access, TokenType: "bearer"})
	const path = "/api/mmo/room/new"
	for name, api := range map[string]*shangcloud.API{
		"Provider.API":    p.API(src),
		"Provider.Client": shangcloud.NewAPI(p.Client(src), shangcloud.WithBaseURL(platform.URL)),
		"x/oauth2":        shangcloud.NewAPI(oauth2.NewClient(t.Context(), src), shangcloud.WithBaseURL(platform.URL)),
	} {
		platform.ForgetRequests()
		require.NoError(t, api.Call(t.Context(), path, nil, nil, shangcloud.WithBareToken()), name)
		assert.ErrorIs(t, api.Call(t.Context(), path, nil, nil), oauth2login.ErrLoginRequired, name)
		_, err := api.UserInfo(t.Context())
		require.NoError(t, err, name)
		var sent []string
		for _, r := range platform.Requests() {
			sent = append(sent, r.Header.Get("Authorization"))
		}
		assert.Equal(t, []string{access, "Bearer " + access, "Bearer " + access}, sent, name)
	}
}

func TestAPICallBareTokenRefresh(t *testing.T) {
	platform := newPlatform(t)
	p := newProvider(t, platform)
	access, refresh := platform.Issue("demo", 10001, "mmo")
	api := p.API(p.TokenSource(&oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now().Add(time.Hour)}))
	platform.ExpireTokens()
	require.NoError(t, api.Call(t.Context(), "/api/mmo/room/new", nil, nil, shangcloud.WithBareToken(), shangcloud.WithHeader("X-Test", "1")))
	sent := platform.Requests("/api/mmo/room/new")
	require.Len(t, sent, 2)
	assert.Equal(t, access, sent[0].Header.Get("Authorization"))
	assert.NotContains(t, sent[1].Header.Get("Authorization"), " ")
	assert.NotEqual(t, access, sent[1].Header.Get("Authorization"))
	assert.Equal(t, "1", sent[1].Header.Get("X-Test"))
	assert.Len(t, platform.Requests("/oauth/token"), 1)
}

// A token is for the hosts of its client, bare or not. A client whose transport is unknown
// adds the header itself, so it can't send the bare token.
func TestAPICallBareTokenElsewhere(t *testing.T) {
	platform := newPlatform(t)
	other := newPlatform(t)
	p := newProvider(t, platform)
	src := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "hush"})
	elsewhere := shangcloud.NewAPI(p.Client(src), shangcloud.WithBaseURL(other.URL))
	assert.ErrorContains(t, elsewhere.Call(t.Context(), "/api/mmo/room/new", nil, nil, shangcloud.WithBareToken()), "the token is for")

	wrapped := p.Client(src)
	wrapped.Transport = roundTripper(wrapped.Transport.RoundTrip)
	unknown := shangcloud.NewAPI(wrapped, shangcloud.WithBaseURL(platform.URL))
	assert.ErrorContains(t, unknown.Call(t.Context(), "/api/mmo/room/new", nil, nil, shangcloud.WithBareToken()), "Provider.Client")
	assert.Empty(t, platform.Requests())
	assert.Empty(t, other.Requests())
}

// Call sends a path unchanged. If the server redirects to a cleaned path, Call does not
// follow the redirect.
func TestAPICallPath(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got = r.RequestURI; strings.HasPrefix(got, "/clean") {
			http.Redirect(w, r, got, http.StatusPermanentRedirect)
		}
	}))
	defer server.Close()
	p, err := shangcloud.New(config(server.URL), nil)
	require.NoError(t, err)
	api := p.API(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "at"}))
	for path, want := range map[string]string{
		"/files/a//b.txt":            "/files/a//b.txt",
		"/files/a//":                 "/files/a//",
		"/files/../b/./c":            "/files/../b/./c",
		"/files/a%2F%2Fb?x=1&y=%2F/": "/files/a%2F%2Fb?x=1&y=%2F/",
		"/files/a b/文":               "/files/a%20b/%E6%96%87",
		"/x?next=https://a//b":       "/x?next=https://a//b",
	} {
		require.NoError(t, api.Call(t.Context(), path, nil, nil), path)
		assert.Equal(t, want, got)
	}
	var refused *shangcloud.APIError
	require.ErrorAs(t, api.Call(t.Context(), "/clean//x", nil, nil), &refused)
	assert.Equal(t, http.StatusPermanentRedirect, refused.StatusCode)
}

// The server closes an idle connection at the moment when the client uses it again.
func TestAPIStaleConnection(t *testing.T) {
	var (
		used  sync.Map // connections that have carried a request
		stale atomic.Int32
	)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, again := used.LoadOrStore(r.RemoteAddr, true); again {
			stale.Add(1)
			conn, _, err := http.NewResponseController(w).Hijack()
			if assert.NoError(t, err) {
				_ = conn.Close()
			}
			return
		}
		assert.NotContains(t, r.Header, "Idempotency-Key")
		_, _ = io.WriteString(w, `{"uid":7,"value":"v"}`)
	}))
	defer server.Close()
	p, err := shangcloud.New(config(server.URL), nil)
	require.NoError(t, err)
	api := p.API(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "at"}))
	for name, c := range map[string]struct {
		call     func() error
		repeated bool
	}{
		"user info":       {func() error { _, err := api.UserInfo(t.Context()); return err }, true},
		"read variable":   {func() error { _, err := api.Variable(t.Context(), "k"); return err }, true},
		"write variable":  {func() error { return api.SetVariable(t.Context(), "k", "v") }, false},
		"delete variable": {func() error { return api.DeleteVariable(t.Context(), "k") }, false},
		"another call":    {func() error { return api.Call(t.Context(), "/api/other", nil, nil) }, false},
		"another read":    {func() error { return api.Call(t.Context(), "/api/other", nil, nil, shangcloud.ReadOnly()) }, true},
	} {
		// On a busy machine net/http may open a new connection although another one is
		// idle. Then the loop makes the call again.
		for met := false; !met; {
			before := stale.Load()
			err := c.call()
			if met = stale.Load() > before; met && !c.repeated {
				assert.ErrorIs(t, err, oauth2login.ErrUnavailable, "%s: it is not repeated", name)
				continue
			}
			require.NoError(t, err, "%s: it is repeated", name)
		}
	}
}

func gzipped(body string) string {
	var out strings.Builder
	z := gzip.NewWriter(&out)
	_, _ = io.WriteString(z, body)
	_ = z.Close()
	return out.String()
}

func deflated(body string) string {
	var out strings.Builder
	z := zlib.NewWriter(&out)
	_, _ = io.WriteString(z, body)
	_ = z.Close()
	return out.String()
}

// A proxy may compress an answer although the client did not ask for it. It may also
// leave the old Content-Length in place.
func TestAPICompressed(t *testing.T) {
	const body = `{"uid":7,"nickname":"n"}`
	for name, c := range map[string]struct {
		coding, body string
		length       int // Content-Length; 0: the real one
		ok           bool
	}{
		"gzip":           {"gzip", gzipped(body), 0, true},
		"deflate":        {"deflate", deflated(body), 0, true},
		"both":           {"deflate, gzip", gzipped(deflated(body)), 0, true},
		"no gzip":        {"gzip", body, 0, false},
		"an unknown one": {"br", body, 0, false},
		"a bomb":         {"gzip", gzipped(strings.Repeat(" ", 9<<20) + body), 0, false},
		"length of the content, which is shorter": {"gzip", gzipped(body), len(body), false},
		"length of the content, which is longer":  {"gzip", gzipped(`{"uid":7,"more":"` + strings.Repeat("x", 1000) + `"}`), 1019, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, "identity", r.Header.Get("Accept-Encoding"))
				w.Header().Set("Content-Encoding", c.coding)
				if c.length > 0 {
					w.Header().Set("Content-Length", strconv.Itoa(c.length))
				}
				_, _ = io.WriteString(w, c.body)
			}))
			defer server.Close()
			p, err := shangcloud.New(config(server.URL), nil)
			require.NoError(t, err)
			user, err := p.API(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "at"})).UserInfo(t.Context())
			if !c.ok {
				assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "n", user.Nickname)
		})
	}
}

type sourceFunc func() (*oauth2.Token, error)

func (f sourceFunc) Token() (*oauth2.Token, error) { return f() }

// NewAPI accepts any client made by x/oauth2. If that client has no token, nothing is sent.
func TestNewAPIWithoutToken(t *testing.T) {
	platform := newPlatform(t)
	broken := errors.New("hush: the session is gone")
	for name, src := range map[string]oauth2.TokenSource{
		"expired": newProvider(t, platform).OAuth2().TokenSource(t.Context(), &oauth2.Token{AccessToken: "at", Expiry: time.Unix(1, 0)}),
		"empty":   sourceFunc(func() (*oauth2.Token, error) { return new(oauth2.Token), nil }),
		"broken":  sourceFunc(func() (*oauth2.Token, error) { return nil, broken }),
		"none":    nil,
	} {
		api := shangcloud.NewAPI(&http.Client{Transport: &oauth2.Transport{Source: src}}, shangcloud.WithBaseURL(platform.URL))
		_, err := api.UserInfo(t.Context())
		require.Error(t, err, name)
		assert.NotErrorIs(t, err, oauth2login.ErrUnavailable, name)
		assert.Equal(t, name == "broken", errors.Is(err, broken), name)
		assert.NotContains(t, err.Error(), "hush", name)
	}
	assert.Empty(t, platform.Requests())
}

// BenchmarkAPI measures API calls. It compares them with the same requests made by hand
// with an http.Client that has a time-out.
func BenchmarkAPI(b *testing.B) {
	mux := http.NewServeMux()
	for path, answer := range map[string]string{
		"/api/user/info": `{"uid":10001,"nickname":"小明","mail":"ming@example.cn","avatar":"https://example.cn/a.png"}`,
		"/api/varibles":  `{"value":"dark"}`,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, answer)
		})
	}
	server := httptest.NewServer(mux)
	defer server.Close()
	p, err := shangcloud.New(config(server.URL), nil)
	require.NoError(b, err)
	tok := &oauth2.Token{AccessToken: "at-1", TokenType: "Bearer", Expiry: time.Now().Add(time.Hour)}
	api := p.API(p.TokenSource(tok))
	call := func(hc *http.Client, path, in string, out any) error {
		req, err := http.NewRequest(http.MethodPost, server.URL+path, strings.NewReader(in))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		if hc.Transport == nil {
			tok.SetAuthHeader(req)
		}
		res, err := hc.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", res.StatusCode)
		}
		return json.NewDecoder(res.Body).Decode(out)
	}
	byHand := &http.Client{Timeout: 10 * time.Second}
	xoauth2 := config(server.URL).Client(context.Background(), tok)
	xoauth2.Timeout = 10 * time.Second
	const readTheme = `{"key":"theme","action":"read","value":""}`
	ctx := context.Background()
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"user-info/shangcloud", func() error { _, err := api.UserInfo(ctx); return err }},
		{"user-info/by-hand", func() error { return call(byHand, "/api/user/info", "{}", new(shangcloud.UserInfo)) }},
		{"user-info/x-oauth2", func() error { return call(xoauth2, "/api/user/info", "{}", new(shangcloud.UserInfo)) }},
		{"variable/shangcloud", func() error { _, err := api.Variable(ctx, "theme"); return err }},
		{"variable/by-hand", func() error { return call(byHand, "/api/varibles", readTheme, new(struct{ Value, Error string })) }},
		{"variable/x-oauth2", func() error { return call(xoauth2, "/api/varibles", readTheme, new(struct{ Value, Error string })) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
