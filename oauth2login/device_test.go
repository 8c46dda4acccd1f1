package oauth2login_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestDeviceLogin(t *testing.T) {
	for name, change := range map[string]func(*setup){
		"with a secret": func(*setup) {},
		"public client": func(c *setup) { c.ClientID, c.ClientSecret = "game", "" },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *site) {
				s.platform.AddClient(shangcloudtest.Client{ID: "game", RedirectURIs: []string{"https://app.example/callback"}})
				start := time.Now()
				login, err := s.DeviceLogin(t.Context(), func(d *oauth2.DeviceAuthResponse) error {
					assert.NotEmpty(t, d.UserCode)
					assert.Contains(t, d.VerificationURIComplete, d.VerificationURI)
					assert.Equal(t, start.Add(15*time.Minute), d.Expiry.Local())
					assert.Empty(t, d.DeviceCode, "nobody needs to see it")
					time.AfterFunc(time.Minute, func() { assert.NoError(t, s.platform.ApproveDevice(d.UserCode, 10001)) })
					return nil
				})
				require.NoError(t, err)
				assert.InDelta(t, time.Minute, time.Since(start), float64(6*time.Second))
				user, known := s.platform.UserOf(login.Token.AccessToken, "user:basic")
				assert.True(t, known)
				assert.EqualValues(t, 10001, user.ID)
				assert.Equal(t, []string{"user:basic"}, login.Scopes)
				assert.EqualValues(t, 3600, login.Token.ExpiresIn)
				for _, r := range s.platform.Requests("/oauth/device_authorization") {
					form, err := url.ParseQuery(string(r.Body))
					require.NoError(t, err)
					assert.Equal(t, "S256", form.Get("code_challenge_method"))
				}
			}, change)
		})
	}
}

func TestDeviceLoginEnds(t *testing.T) {
	wrong := errors.New("the printer is out of paper")
	for name, c := range map[string]struct {
		prompt func(*site, context.CancelFunc, *oauth2.DeviceAuthResponse) error
		is     error
		after  time.Duration
	}{
		"denied": {func(s *site, _ context.CancelFunc, d *oauth2.DeviceAuthResponse) error {
			return s.platform.DenyDevice(d.UserCode)
		}, oauth2login.ErrAccessDenied, 5 * time.Second},
		"nobody answers": {func(*site, context.CancelFunc, *oauth2.DeviceAuthResponse) error { return nil }, oauth2login.ErrLoginExpired, 15 * time.Minute},
		"given up": {func(_ *site, cancel context.CancelFunc, _ *oauth2.DeviceAuthResponse) error {
			time.AfterFunc(time.Minute+time.Millisecond, cancel)
			return nil
		}, context.Canceled, time.Minute + time.Millisecond},
		"prompt fails": {func(*site, context.CancelFunc, *oauth2.DeviceAuthResponse) error { return wrong }, wrong, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *site) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				start := time.Now()
				tok, err := s.DeviceLogin(ctx, func(d *oauth2.DeviceAuthResponse) error { return c.prompt(s, cancel, d) })
				assert.Nil(t, tok)
				assert.ErrorIs(t, err, c.is)
				assert.Equal(t, c.after, time.Since(start))
			})
		})
	}
	_, err := newSite(t).DeviceLogin(t.Context(), nil)
	assert.ErrorContains(t, err, "prompt")
}

// deviceServer is a provider in a bubble. Its answer to the device authorization request
// is the body in the parameter device. Each poll gets the next element of polls, and the
// last element again once all were used. times collects when each poll arrived.
func deviceServer(t *testing.T, device string, polls ...func(*http.Request) (*http.Response, error)) (p *oauth2login.Provider, times *[]time.Duration) {
	c := valid("https://api.yearnstudio.cn")
	times = new([]time.Duration)
	start := time.Now()
	c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/device_authorization") {
			id, secret, _ := r.BasicAuth()
			assert.Equal(t, c.ClientID+":"+c.ClientSecret, id+":"+secret)
			return answers(200, device)(r)
		}
		*times = append(*times, time.Since(start))
		assert.NoError(t, r.ParseForm())
		assert.Equal(t, "the-device-code", r.PostForm.Get("device_code"))
		assert.NotEmpty(t, r.PostForm.Get("code_verifier"))
		assert.False(t, r.PostForm.Has("scope"))
		return polls[min(len(*times), len(polls))-1](r)
	})}
	return c.provider(t), times
}

type poll = func(*http.Request) (*http.Response, error)

func answers(status int, body string, header ...string) poll {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{"Content-Type": {"application/json"}}
		if len(header) == 2 {
			h.Set(header[0], header[1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1, Request: r}, nil
	}
}

func fail(err error) poll { return func(*http.Request) (*http.Response, error) { return nil, err } }

func mute(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

const aToken = `{"access_token":"at","refresh_token":"rt","token_type":"Bearer","expires_in":3600}`

const aDevice = `{"device_code":"the-device-code","user_code":"ABCD-EFGH","verification_uri":"https://api.yearnstudio.cn/device","expires_in":600,"interval":5}`

func noPrompt(*oauth2.DeviceAuthResponse) error { return nil }

func TestDevicePolls(t *testing.T) {
	var (
		wait    = answers(400, `{"error":"authorization_pending"}`)
		slow    = answers(400, `{"error":"slow_down"}`)
		granted = answers(200, aToken)
		refused *oauth2.RetrieveError
	)
	for name, c := range map[string]struct {
		polls []poll
		at    []int // when each poll is sent, in seconds
		is    error // nil: the login succeeds
		as    any
	}{
		"at once":             {[]poll{granted}, []int{5}, nil, nil},
		"later":               {[]poll{wait, wait, granted}, []int{5, 10, 15}, nil, nil},
		"slow down":           {[]poll{slow, slow, granted}, []int{5, 15, 30}, nil, nil},
		"overloaded":          {[]poll{answers(503, "<html>"), answers(500, ""), wait, granted}, []int{5, 15, 35, 40}, nil, nil},
		"much to say":         {[]poll{answers(503, strings.Repeat("x", 2<<20)), granted}, []int{5, 15}, nil, nil},
		"too slow":            {[]poll{answers(408, ""), granted}, []int{5, 15}, nil, nil},
		"an impostor":         {[]poll{fail(&url.Error{Err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}})}, []int{5}, oauth2login.ErrUnavailable, new(*tls.CertificateVerificationError)},
		"Retry-After":         {[]poll{answers(429, "", "Retry-After", "30"), granted}, []int{5, 35}, nil, nil},
		"endless Retry-After": {[]poll{answers(503, "", "Retry-After", "99999999"), granted}, []int{5, 65}, nil, nil},
		"lost connections":    {[]poll{fail(io.ErrUnexpectedEOF), fail(errors.New("reset")), granted}, []int{5, 15, 35}, nil, nil},
		"no answer":           {[]poll{mute, granted}, []int{5, 25}, nil, nil},
		"denied":              {[]poll{wait, answers(400, `{"error":"access_denied"}`)}, []int{5, 10}, oauth2login.ErrAccessDenied, &refused},
		"expired":             {[]poll{answers(400, `{"error":"expired_token"}`)}, []int{5}, oauth2login.ErrLoginExpired, &refused},
		"unknown code":        {[]poll{answers(400, `{"error":"invalid_grant"}`)}, []int{5}, nil, &refused},
		"redirected":          {[]poll{answers(307, "", "Location", "https://evil.example/")}, []int{5}, oauth2login.ErrUnavailable, &refused},
		"HTML":                {[]poll{answers(200, "<html>")}, []int{5}, oauth2login.ErrUnavailable, nil},
		"no token":            {[]poll{answers(200, "{}")}, []int{5}, oauth2login.ErrUnavailable, nil},
		"two tokens":          {[]poll{answers(200, `{"access_token":"a","access_token":"b"}`)}, []int{5}, oauth2login.ErrUnavailable, nil},
		"another kind":        {[]poll{answers(200, `{"access_token":"a","token_type":"mac"}`)}, []int{5}, oauth2login.ErrUnavailable, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, times := deviceServer(t, aDevice, c.polls...)
				login, err := p.DeviceLogin(t.Context(), noPrompt)
				var at []int
				for _, d := range *times {
					at = append(at, int(d/time.Second))
				}
				assert.Equal(t, c.at, at)
				if c.is == nil && c.as == nil {
					require.NoError(t, err)
					assert.Equal(t, "at", login.Token.AccessToken)
					return
				}
				assert.Nil(t, login)
				assertDeviceError(t, err, c.is, c.as)
			})
		})
	}
}

// assertDeviceError checks err with errors.Is and errors.As. A check whose argument is
// nil is skipped. assertDeviceError also checks that err does not print the device code.
func assertDeviceError(t *testing.T, err, is error, as any) {
	t.Helper()
	require.Error(t, err)
	if is != nil {
		assert.ErrorIs(t, err, is)
	}
	if as != nil {
		assert.ErrorAs(t, err, as)
	}
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "the-device-code")
}

// Each device login uses a new PKCE verifier.
func TestDeviceProofKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		seen := make(map[string]bool)
		for range 10 {
			_, err := s.DeviceLogin(t.Context(), func(*oauth2.DeviceAuthResponse) error { return io.EOF })
			require.ErrorIs(t, err, io.EOF)
		}
		for _, r := range s.platform.Requests("/oauth/device_authorization") {
			assert.Len(t, r.Form().Get("code_challenge"), 43)
			seen[r.Form().Get("code_challenge")] = true
		}
		assert.Len(t, seen, 10)
	})
}

// PKCE can be turned off only for a client with a secret.
func TestDeviceWithoutPKCE(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		_, err := s.DeviceLogin(t.Context(), func(*oauth2.DeviceAuthResponse) error { return io.EOF })
		require.Error(t, err)
		requests := s.platform.Requests("/oauth/device_authorization")
		require.Len(t, requests, 1)
		assert.NotContains(t, string(requests[0].Body), "code_challenge=")
		assert.Error(t, s.SetClientSecret(""))
	}, func(c *setup) { c.row = append(c.row, oauth2login.WithoutPKCE()) })
}

// Shutdown ends a device login that waits for the user.
func TestDeviceLoginEndsWithShutdown(t *testing.T) {
	inBubble(t, func(t *testing.T, s *site) {
		s.platform.AutoApprove(0)
		begun := time.Now()
		_, err := s.DeviceLogin(t.Context(), func(*oauth2.DeviceAuthResponse) error { return s.Shutdown(t.Context()) })
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
		assert.ErrorContains(t, err, "shutting down")
		assert.Less(t, time.Since(begun), time.Minute)
	})
}

// The platform is unavailable until the device login expires. The error reports both.
func TestDevicePlatformGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, times := deviceServer(t, aDevice, fail(io.ErrUnexpectedEOF))
		start := time.Now()
		_, err := p.DeviceLogin(t.Context(), noPrompt)
		assert.ErrorIs(t, err, oauth2login.ErrLoginExpired)
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
		assert.Equal(t, 10*time.Minute, time.Since(start))
		assert.Less(t, len(*times), 20, "less and less often")
	})
}

func TestDeviceAnswers(t *testing.T) {
	with := func(member, value string) string {
		before, rest, found := strings.Cut(aDevice, `"`+member+`":`)
		if !found {
			return strings.TrimSuffix(aDevice, "}") + `,"` + member + `":` + value + "}"
		}
		_, after, more := strings.Cut(rest, ",")
		if !more {
			return before + `"` + member + `":` + value + "}"
		}
		return before + `"` + member + `":` + value + "," + after
	}
	for name, c := range map[string]struct {
		body  string
		first int // when the first poll is sent, in seconds; 0: refused
	}{
		"as it should be":      {aDevice, 5},
		"no interval":          {with("interval", "null"), 5},
		"interval of zero":     {with("interval", "0"), 1},
		"negative interval":    {with("interval", "-7"), 1},
		"interval as text":     {with("interval", `"7"`), 7},
		"fraction":             {with("interval", "7.9"), 7},
		"endless interval":     {with("interval", "9223372036854775807"), 60},
		"beyond numbers":       {with("interval", "1e999"), 5},
		"interval of words":    {with("interval", `"often"`), 5},
		"object":               {with("interval", `{}`), 5},
		"expires_in of words":  {with("expires_in", `"soon"`), 5},
		"endless expires_in":   {with("expires_in", "9223372036854775807"), 5},
		"trailing garbage":     {aDevice + "x", 0},
		"two codes":            {with("user_code", `"A","user_code":"B"`), 0},
		"wrong case":           {with("Device_Code", `"x"`), 0},
		"nothing":              {"", 0},
		"empty object":         {"{}", 0},
		"null":                 {"null", 0},
		"array":                {"[]", 0},
		"HTML":                 {"<html>", 0},
		"no device code":       {with("device_code", `""`), 0},
		"no user code":         {with("user_code", `""`), 0},
		"code for a terminal":  {with("user_code", `"\u001b[2J"`), 0},
		"line end in the code": {with("user_code", `"A\nB"`), 0},
		"text turned around":   {with("user_code", `"A\u202eB"`), 0},
		"code of a novel":      {with("user_code", `"`+strings.Repeat("A", 65)+`"`), 0},
		"script":               {with("verification_uri", `"javascript:alert(1)"`), 0},
		"plain http":           {with("verification_uri", `"http://evil.example/"`), 0},
		"relative":             {with("verification_uri", `"/device"`), 0},
		"user in the URL":      {with("verification_uri", `"https://api.yearnstudio.cn@evil.example/"`), 0},
		"escape in the URL":    {with("verification_uri", `"https://x.example/\u001b"`), 0},
		"script, complete":     {with("verification_uri_complete", `"javascript:alert(1)"`), 0},
		"another scheme":       {with("verification_uri", `"ftp://x.example/"`), 0},
		"URL turned around":    {with("verification_uri", `"https://x.example/\u202e"`), 0},
		"URL of a novel":       {with("verification_uri", `"https://x.example/`+strings.Repeat("x", 5000)+`"`), 0},
		"endless":              {`{"device_code":"` + strings.Repeat("x", 2<<20) + `"}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, times := deviceServer(t, c.body, answers(200, aToken))
				prompts := 0
				tok, err := p.DeviceLogin(t.Context(), func(d *oauth2.DeviceAuthResponse) error {
					prompts++
					assert.LessOrEqual(t, time.Until(d.Expiry), time.Hour)
					return nil
				})
				if c.first == 0 {
					assert.Nil(t, tok)
					assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
					assert.Zero(t, prompts)
					assert.Empty(t, *times)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, []time.Duration{time.Duration(c.first) * time.Second}, *times)
			})
		})
	}
}

// TestDeviceRequest lets the device authorization request fail or hang, redirects it, and
// cancels it.
func TestDeviceRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var answer poll
		c := valid("https://api.yearnstudio.cn")
		c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			asked++
			assert.Equal(t, "api.yearnstudio.cn", r.URL.Host)
			return answer(r)
		})}
		p := c.provider(t)
		for name, c := range map[string]struct {
			answer poll
			is     error
			after  time.Duration
		}{
			"no answer":  {mute, oauth2login.ErrUnavailable, 10 * time.Second},
			"redirected": {answers(307, "", "Location", "https://evil.example/"), oauth2login.ErrUnavailable, 0},
			"overloaded": {answers(503, ""), oauth2login.ErrUnavailable, 0},
			"reset":      {fail(io.ErrUnexpectedEOF), oauth2login.ErrUnavailable, 0},
		} {
			asked, answer = 0, c.answer
			start := time.Now()
			_, err := p.DeviceLogin(t.Context(), noPrompt)
			assert.ErrorIs(t, err, c.is, name)
			assert.Equal(t, c.after, time.Since(start), name)
			assert.Equal(t, 1, asked, name)
		}
		answer = mute
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := p.DeviceLogin(ctx, noPrompt)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(start))
		answer = answers(401, `{"error":"invalid_client","error_description":"hush"}`)
		_, err = p.DeviceLogin(t.Context(), noPrompt)
		var refused *oauth2.RetrieveError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, "invalid_client", refused.ErrorCode)
		assert.NotContains(t, err.Error(), "hush")
	})
}
