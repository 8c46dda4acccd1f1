package shangcloudtest_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

func TestFaultAnswers(t *testing.T) {
	s := platform(t)
	access, _ := s.Issue(webClient, uid)
	s.Fault("/api/user/info", shangcloudtest.Fault{Times: 2, Status: 503, Header: http.Header{"Retry-After": {"7"}}, Body: `{"error":"busy"}`})
	s.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Body: "<html>"})
	s.Fault("", shangcloudtest.Fault{Times: 1, Redirect: "https://elsewhere.example/"})
	s.Fault("", shangcloudtest.Fault{Times: 1, Redirect: "https://elsewhere.example/", Status: 301})
	s.Fault("", shangcloudtest.Fault{Times: 1, Header: http.Header{"x-seen": {"1"}}})

	for range 2 {
		a := call(t, s, "/api/user/info", access, "{}")
		assert.Equal(t, 503, a.status)
		assert.Equal(t, "7", a.header.Get("Retry-After"))
		assert.Equal(t, "application/json", a.header.Get("Content-Type"))
		assert.Equal(t, "busy", a.value(t, "error"))
	}
	a := call(t, s, "/api/user/info", access, "{}")
	assert.Equal(t, 200, a.status)
	assert.Equal(t, "<html>", a.body)
	a = call(t, s, "/api/user/info", access, "{}")
	assert.Equal(t, 307, a.status)
	assert.Equal(t, "https://elsewhere.example/", a.header.Get("Location"))
	assert.Equal(t, 301, call(t, s, "/nowhere", access, "{}").status, "a path with a fault is known")
	a = call(t, s, "/api/user/info", access, "{}")
	assert.Equal(t, "1", a.header.Get("X-Seen"))
	assert.EqualValues(t, uid, a.value(t, "uid"), "the platform's own answer")
	assert.Empty(t, call(t, s, "/api/user/info", access, "{}").header.Get("X-Seen"))

	s.Fault("/api/user/info", shangcloudtest.Fault{Status: 500})
	for range 3 {
		assert.Equal(t, 500, call(t, s, "/api/user/info", access, "{}").status)
	}
	assert.Equal(t, 200, send(t, "GET", s.URL+"/oauth/userinfo", "", "Authorization", "Bearer "+access).status)
	s.ClearFaults()
	assert.Equal(t, 200, call(t, s, "/api/user/info", access, "{}").status)
	assert.Len(t, s.Requests("/api/user/info"), 10)
}

// Drop has the same effect over a network and in process.
func TestFaultDrop(t *testing.T) {
	s := platform(t)
	for name, client := range map[string]*http.Client{"network": {}, "in process": {Transport: s.Transport()}} {
		t.Run(name, func(t *testing.T) {
			s.Fault("/device", shangcloudtest.Fault{Times: 1, Drop: true})
			_, err := client.Post(s.URL+"/device", "text/plain", nil)
			require.ErrorIs(t, err, io.EOF)

			s.Fault("/device", shangcloudtest.Fault{Times: 1, Status: 201, Body: `{"access_`, Drop: true})
			resp, err := client.Get(s.URL + "/device")
			require.NoError(t, err)
			defer resp.Body.Close()
			assert.Equal(t, 201, resp.StatusCode)
			body, err := io.ReadAll(resp.Body)
			assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
			assert.Equal(t, `{"access_`, string(body))
		})
	}
}

// The answer to a refresh is lost, but the platform has used up the old refresh token.
func TestFaultProcess(t *testing.T) {
	s := platform(t)
	tok := login(t, s)
	s.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Process: true, Drop: true})
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tok.RefreshToken}}
	req, err := http.NewRequest("POST", s.URL+"/oauth/token", strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", formType)
	req.Header.Set("Authorization", basic(webClient, webSecret))
	_, err = http.DefaultClient.Do(req)
	require.Error(t, err)
	assert.Equal(t, "invalid_grant", redeem(t, s, form).value(t, "error"))
	_, ok := s.UserOf(tok.AccessToken, "mmo")
	assert.False(t, ok)
}

// A test holds a request back with Before.
func TestFaultBefore(t *testing.T) {
	s := platform(t)
	access, _ := s.Issue(webClient, uid)
	arrived, release := make(chan string), make(chan struct{})
	s.Fault("/api/user/info", shangcloudtest.Fault{Before: func(r *http.Request) {
		arrived <- r.Header.Get("Authorization")
		<-release
	}})
	done := make(chan answer)
	go func() { done <- call(t, s, "/api/user/info", access, "{}") }()
	assert.Equal(t, "Bearer "+access, <-arrived)
	assert.Len(t, s.Requests("/api/user/info"), 1, "recorded before the answer")
	close(release)
	assert.Equal(t, 200, (<-done).status)
}

func TestFaultEndsWithRequestOrServer(t *testing.T) {
	for name, f := range map[string]shangcloudtest.Fault{
		"delay":              {Delay: time.Hour},
		"hang":               {Hang: true},
		"hang in a body":     {Status: 200, Body: `{"uid":`, Hang: true},
		"hang after process": {Process: true, Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := populate(shangcloudtest.New())
				s.Fault("/oauth/userinfo", f)
				client := &http.Client{Transport: s.Transport(), Timeout: 10 * time.Second}
				start := time.Now()
				resp, err := client.Get(s.URL + "/oauth/userinfo")
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.Equal(t, 10*time.Second, time.Since(start))
			})
			t.Run("server closes", func(t *testing.T) {
				s, err := shangcloudtest.Start("")
				require.NoError(t, err)
				arrived := make(chan bool, 1)
				f.Before = func(*http.Request) { arrived <- true }
				s.Fault("/oauth/userinfo", f)
				failed := make(chan error)
				go func() {
					resp, err := http.Get(s.URL + "/oauth/userinfo")
					if err == nil {
						_, err = io.ReadAll(resp.Body)
						resp.Body.Close()
					}
					failed <- err
				}()
				<-arrived
				require.NoError(t, s.Close())
				assert.Error(t, <-failed)
			})
		})
	}
}

func TestFaultDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := populate(shangcloudtest.New())
		s.Fault("/oauth/userinfo", shangcloudtest.Fault{Delay: 3 * time.Second, Before: func(*http.Request) {}})
		start := time.Now()
		resp, err := (&http.Client{Transport: s.Transport()}).Get(s.URL + "/oauth/userinfo")
		require.NoError(t, err)
		defer resp.Body.Close()
		assert.Equal(t, 401, resp.StatusCode)
		assert.Equal(t, 3*time.Second, time.Since(start))
	})
}
