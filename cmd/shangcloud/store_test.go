package main

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// The command token prints a token that stays valid for a minute, or for half of its
// lifetime if that is shorter.
func TestTokenMinimumLife(t *testing.T) {
	in := func(d time.Duration) *oauth2.Token { return &oauth2.Token{Expiry: time.Now().Add(d)} }
	for name, row := range map[string]struct {
		tok       *oauth2.Token
		fault     *shangcloudtest.Fault
		noRefresh bool
		refreshed bool
		code      int
	}{
		"long enough":              {tok: in(2 * time.Minute)},
		"without an end":           {tok: &oauth2.Token{}},
		"last minute":              {tok: in(50 * time.Second), refreshed: true},
		"expired":                  {tok: in(-time.Second), refreshed: true},
		"short life, half is left": {tok: &oauth2.Token{Expiry: time.Now().Add(40 * time.Second), ExpiresIn: 60}},
		"short life, near its end": {tok: &oauth2.Token{Expiry: time.Now().Add(10 * time.Second), ExpiresIn: 60}, refreshed: true},
		"no refresh token":         {tok: in(30 * time.Second), noRefresh: true, code: exitLoginRequired},
		"refresh fails":            {tok: in(30 * time.Second), fault: &shangcloudtest.Fault{Status: 503}, code: exitUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPlatform(t)
			session := openSession(t)
			tok := *row.tok
			tok.AccessToken, tok.RefreshToken = s.Issue("cli", testUser, "user:basic")
			if row.noRefresh {
				tok.RefreshToken = ""
			}
			require.NoError(t, session.login.SetToken(t.Context(), &tok))
			if row.fault != nil {
				s.Fault("/oauth/token", *row.fault)
			}
			r := shangcloudRun(t, "token")
			assert.Equal(t, row.code, r.code, r.stderr)
			if row.code == exitOK {
				assert.Equal(t, row.refreshed, r.stdout != tok.AccessToken+"\n")
			} else {
				assert.Empty(t, r.stdout)
			}
			saved, err := session.store.LoadToken(t.Context())
			require.NoError(t, err)
			if !row.refreshed {
				assert.True(t, saved.Expiry.Equal(tok.Expiry), "what is stored keeps its own time")
			} else {
				assert.Equal(t, saved.AccessToken+"\n", r.stdout)
			}
		})
	}
}

// 20 processes start in the last minute of a token: first many at once, then one after
// another. There is one refresh, and nobody is logged out.
func TestTokenLastMinute(t *testing.T) {
	s := newPlatform(t)
	old, _ := logIn(t, s, time.Now().Add(30*time.Second))
	const processes = 20
	outputs := make([]string, processes)
	var running sync.WaitGroup
	for i := range processes {
		running.Go(func() {
			out, err := process(t.Context(), "token").Output()
			assert.NoError(t, err)
			outputs[i], _, _ = strings.Cut(string(out), "\n")
		})
		if i >= processes/2 {
			running.Wait()
		}
	}
	running.Wait()
	assert.Len(t, s.Requests("/oauth/token"), 1)
	for _, out := range outputs {
		assert.Equal(t, outputs[0], out)
	}
	assert.NotEqual(t, old, outputs[0])
	assert.Contains(t, succeed(t, "whoami"), "小云")
}
