package shangcloudtest_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

func TestAuthorizeErrorPage(t *testing.T) {
	s := platform(t)
	good := "response_type=code&client_id=demo-client&state=x&redirect_uri=" + url.QueryEscape(callback)
	for name, query := range map[string]string{
		"unknown client":             strings.Replace(good, "demo-client", "nobody", 1),
		"no client":                  strings.Replace(good, "client_id", "client", 1),
		"unknown redirect":           "response_type=code&client_id=demo-client&redirect_uri=https%3A%2F%2Fevil.example%2F",
		"no redirect":                "response_type=code&client_id=demo-client",
		"longer redirect":            good + "%2Fmore",
		"redirect of another client": strings.Replace(good, "demo-client", publicClient, 1),
		"repeated parameter":         good + "&scope=mmo&scope=var%3Aio",
		"repeated client":            good + "&client_id=demo-client",
		"malformed":                  good + "&a=%zz",
	} {
		t.Run(name, func(t *testing.T) {
			a := send(t, "GET", s.URL+"/oauth/authorize?"+query, "")
			assert.Equal(t, http.StatusBadRequest, a.status)
			assert.Empty(t, a.header.Get("Location"))
			assert.Contains(t, a.header.Get("Content-Type"), "text/html")
		})
	}
}

func TestAuthorizeErrorRedirect(t *testing.T) {
	s := platform(t)
	s.AddClient(shangcloudtest.Client{ID: "narrow", Secret: "s", RedirectURIs: []string{callback}, Scopes: []string{"user:basic"}, PKCE: shangcloudtest.PKCERequired})
	for name, row := range map[string]struct{ client, query, want string }{
		"no response type":    {webClient, "", "invalid_request"},
		"implicit flow":       {webClient, "response_type=token", "unsupported_response_type"},
		"unknown scope":       {webClient, "response_type=code&scope=user%3Abasic+admin", "invalid_scope"},
		"scope not allowed":   {"narrow", "response_type=code&scope=mmo", "invalid_scope"},
		"PKCE plain":          {webClient, "response_type=code&code_challenge_method=plain&code_challenge=" + challenge, "invalid_request"},
		"PKCE without method": {webClient, "response_type=code&code_challenge=" + challenge, "invalid_request"},
		"PKCE method only":    {webClient, "response_type=code&code_challenge_method=S256", "invalid_request"},
		"PKCE malformed":      {webClient, "response_type=code&code_challenge_method=S256&code_challenge=short", "invalid_request"},
		"PKCE needed":         {"narrow", "response_type=code", "invalid_request"},
		"two errors":          {"narrow", "response_type=code&scope=var%3Aio", "invalid_scope"},
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

func TestAuthorizeRedirectURIs(t *testing.T) {
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
		"http://localhost:8081/cb":            false, // RFC 8252, 8.3: localhost may resolve to another host
	} {
		a := send(t, "GET", s.URL+"/oauth/authorize?response_type=code&client_id=many&redirect_uri="+url.QueryEscape(uri), "")
		assert.Equal(t, want, a.status == http.StatusOK, uri)
	}
	back, err := s.Approve("/oauth/authorize?response_type=code&client_id=many&redirect_uri="+url.QueryEscape("https://app.example.com/cb?tenant=1"), uid)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(back, "https://app.example.com/cb?tenant=1&code="), "the redirect URI keeps its own query")
	assert.NotContains(t, back, "state=", "the request had no state")
}

// A native application uses a free port or its own scheme.
func TestAuthorizeNativeApplication(t *testing.T) {
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

func TestAuthorizeDefaultScope(t *testing.T) {
	s := platform(t)
	conf := config(s)
	conf.Scopes = nil
	code, _ := approve(t, s, conf.AuthCodeURL("s"))
	tok, err := conf.Exchange(t.Context(), code)
	require.NoError(t, err)
	assert.Equal(t, "user:basic", tok.Extra("scope"))
}
