package shangcloudtest_test

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

func TestLoginWithPlainOAuth2(t *testing.T) {
	s := platform(t)
	conf := config(s)
	verifier := oauth2.GenerateVerifier()
	code, state := approve(t, s, conf.AuthCodeURL("state/1+", oauth2.S256ChallengeOption(verifier)))
	assert.Equal(t, "state/1+", state)
	tok, err := conf.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	require.NoError(t, err)
	assert.Equal(t, "Bearer", tok.TokenType)
	assert.EqualValues(t, 3600, tok.ExpiresIn)
	assert.Equal(t, "user:basic var:io mmo", tok.Extra("scope"))
	u, ok := s.UserOf(tok.AccessToken, "var:io")
	assert.True(t, ok)
	assert.Equal(t, "yun@example.com", u.Email)

	refreshed, err := conf.TokenSource(t.Context(), &oauth2.Token{RefreshToken: tok.RefreshToken}).Token()
	require.NoError(t, err)
	assert.NotEqual(t, tok.AccessToken, refreshed.AccessToken)
	assert.NotEqual(t, tok.RefreshToken, refreshed.RefreshToken)
	_, ok = s.UserOf(tok.AccessToken, "mmo")
	assert.True(t, ok, "the old access token stays valid after a refresh")
}

func TestTokenErrors(t *testing.T) {
	s := platform(t)
	for name, row := range map[string]struct{ contentType, query, body, want string }{
		"no grant type":       {formType, "", "code=x", "invalid_request"},
		"unknown grant type":  {formType, "", "grant_type=password", "unsupported_grant_type"},
		"empty grant type":    {formType, "", "grant_type=", "invalid_request"},
		"repeated":            {formType, "", "grant_type=refresh_token&refresh_token=a&refresh_token=b", "invalid_request"},
		"no code":             {formType, "", "grant_type=authorization_code&redirect_uri=x", "invalid_request"},
		"no redirect":         {formType, "", "grant_type=authorization_code&code=x", "invalid_request"},
		"no refresh token":    {formType, "", "grant_type=refresh_token", "invalid_request"},
		"no device code":      {formType, "", "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code", "invalid_request"},
		"JSON":                {"application/json", "", `{"grant_type":"refresh_token"}`, "invalid_request"},
		"no type":             {"", "", "grant_type=refresh_token&refresh_token=a", "invalid_request"},
		"in the query":        {formType, "?grant_type=refresh_token", "refresh_token=a", "invalid_request"},
		"malformed":           {formType, "", "grant_type=%zz", "invalid_request"},
		"with a charset":      {formType + "; charset=utf-8", "", "grant_type=refresh_token&refresh_token=a", "invalid_grant"},
		"unknown parameters":  {formType, "", "grant_type=refresh_token&refresh_token=a&x=y", "invalid_grant"},
		"unknown code":        {formType, "", "grant_type=authorization_code&code=x&redirect_uri=y", "invalid_grant"},
		"unknown device code": {formType, "", "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=x", "invalid_grant"},
	} {
		t.Run(name, func(t *testing.T) {
			a := send(t, "POST", s.URL+"/oauth/token"+row.query, row.body, "Content-Type", row.contentType, "Authorization", basic(webClient, webSecret))
			assert.Equal(t, http.StatusBadRequest, a.status)
			assert.Equal(t, row.want, a.value(t, "error"))
		})
	}
}

func TestTokenByCode(t *testing.T) {
	s := platform(t)
	s.AddClient(shangcloudtest.Client{ID: "other", Secret: "other", RedirectURIs: []string{callback}})
	s.AddClient(shangcloudtest.Client{ID: "no-pkce", Secret: "s", RedirectURIs: []string{callback}, PKCE: shangcloudtest.PKCEIgnored})
	c := newClock(s)
	with := "&code_challenge_method=S256&code_challenge=" + challenge
	for name, row := range map[string]struct {
		client, query string
		later         time.Duration
		change        url.Values
		good          bool
	}{
		"valid":                      {webClient, "", 0, nil, true},
		"in time":                    {webClient, "", time.Minute - time.Second, nil, true},
		"too late":                   {webClient, "", time.Minute, nil, false},
		"much too late":              {webClient, "", 2 * time.Hour, nil, false},
		"another client":             {"other", "", 0, nil, false},
		"another redirect":           {webClient, "", 0, url.Values{"redirect_uri": {"http://127.0.0.1:1/oauth/callback"}}, false},
		"verifier":                   {webClient, with, 0, url.Values{"code_verifier": {verifier}}, true},
		"wrong verifier":             {webClient, with, 0, url.Values{"code_verifier": {oauth2.GenerateVerifier()}}, false},
		"malformed verifier":         {webClient, with, 0, url.Values{"code_verifier": {"x"}}, false},
		"challenge as verifier":      {webClient, with, 0, url.Values{"code_verifier": {challenge}}, false},
		"no verifier":                {webClient, with, 0, nil, false},
		"verifier without challenge": {webClient, "", 0, url.Values{"code_verifier": {verifier}}, false},
		"PKCE ignored":               {"no-pkce", with, 0, nil, true},
		"PKCE ignored, verifier":     {"no-pkce", "", 0, url.Values{"code_verifier": {verifier}}, true},
		"PKCE ignored, plain":        {"no-pkce", "&code_challenge=x&code_challenge_method=plain", 0, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			asking, secret := row.client, "s"
			if asking != "no-pkce" {
				asking, secret = webClient, webSecret
			}
			if row.client == "other" {
				secret = "other"
			}
			code, _ := approve(t, s, "/oauth/authorize?response_type=code&client_id="+asking+"&redirect_uri="+url.QueryEscape(callback)+row.query)
			c.add(row.later)
			form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}}
			for name, values := range row.change {
				form[name] = values
			}
			a := send(t, "POST", s.URL+"/oauth/token", form.Encode(), "Content-Type", formType, "Authorization", basic(row.client, secret))
			if row.good {
				assert.Equal(t, http.StatusOK, a.status, a.body)
				return
			}
			assert.Equal(t, http.StatusBadRequest, a.status)
			assert.Equal(t, "invalid_grant", a.value(t, "error"))
		})
	}
}

func TestTokenCodeUsedTwice(t *testing.T) {
	s := platform(t)
	c := newClock(s)
	code, _ := approve(t, s, config(s).AuthCodeURL("s"))
	tok, err := config(s).Exchange(t.Context(), code)
	require.NoError(t, err)
	_, ok := s.UserOf(tok.AccessToken, "mmo")
	require.True(t, ok)

	c.add(5 * time.Minute) // more than the lifetime of the code
	_, err = config(s).Exchange(t.Context(), code)
	refused := new(oauth2.RetrieveError)
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "invalid_grant", refused.ErrorCode)
	_, ok = s.UserOf(tok.AccessToken, "mmo")
	assert.False(t, ok)
	assert.Equal(t, "invalid_grant", refresh(t, s, tok.RefreshToken).value(t, "error"))
}

func TestRefreshTokenReuse(t *testing.T) {
	s := platform(t)
	first, other := login(t, s), login(t, s)
	a := refresh(t, s, first.RefreshToken)
	second := a.value(t, "refresh_token").(string)
	access := a.value(t, "access_token").(string)
	a = refresh(t, s, second)
	third := a.value(t, "refresh_token").(string)
	assert.Len(t, map[string]bool{first.RefreshToken: true, second: true, third: true}, 3)

	assert.Equal(t, "invalid_grant", refresh(t, s, first.RefreshToken).value(t, "error"))
	assert.Equal(t, "invalid_grant", refresh(t, s, third).value(t, "error"), "an attacker may have it")
	_, ok := s.UserOf(access, "user:basic")
	assert.False(t, ok)
	_, ok = s.UserOf(other.AccessToken, "user:basic")
	assert.True(t, ok, "another login of the same user stays valid")
}

func TestRefreshConcurrent(t *testing.T) {
	s := platform(t)
	tok := login(t, s)
	answers := make(chan int, 8)
	var wg sync.WaitGroup
	for range cap(answers) {
		wg.Go(func() {
			_, err := config(s).TokenSource(context.Background(), &oauth2.Token{RefreshToken: tok.RefreshToken}).Token()
			if err == nil {
				answers <- 1
			}
		})
	}
	wg.Wait()
	assert.Len(t, answers, 1, "one refresh succeeds")
}

func TestRefresh(t *testing.T) {
	s := platform(t)
	c := newClock(s)
	s.AddClient(shangcloudtest.Client{ID: "other", Secret: "other"})
	tok := login(t, s)

	a := send(t, "POST", s.URL+"/oauth/token", "grant_type=refresh_token&refresh_token="+tok.RefreshToken, "Content-Type", formType, "Authorization", basic("other", "other"))
	assert.Equal(t, "invalid_grant", a.value(t, "error"), "another client")
	assert.Equal(t, "invalid_scope", refresh(t, s, tok.RefreshToken, "user:basic openid").value(t, "error"))

	a = refresh(t, s, tok.RefreshToken, "user:basic")
	assert.Equal(t, "user:basic", a.value(t, "scope"))
	assert.Equal(t, http.StatusForbidden, call(t, s, "/api/varibles", a.value(t, "access_token").(string), `{"key":"k","action":"read","value":""}`).status)
	a = refresh(t, s, a.value(t, "refresh_token").(string))
	assert.Equal(t, "user:basic var:io mmo", a.value(t, "scope"), "the narrower scope applies to one token only")
	last := a.value(t, "refresh_token").(string)

	s.Configure(func(set *shangcloudtest.Settings) { set.KeepRefreshTokens = true })
	for range 2 {
		a = refresh(t, s, last)
		assert.Equal(t, http.StatusOK, a.status)
		assert.Nil(t, a.value(t, "refresh_token"))
	}

	c.add(31 * 24 * time.Hour)
	assert.Equal(t, "invalid_grant", refresh(t, s, last).value(t, "error"), "expired")
}

func TestTokenAnswer(t *testing.T) {
	s := platform(t)
	fresh := func(change func(*shangcloudtest.Settings)) answer {
		s.Configure(func(set *shangcloudtest.Settings) { *set = shangcloudtest.Settings{} })
		s.Configure(change)
		code, _ := approve(t, s, config(s).AuthCodeURL("s"))
		return redeem(t, s, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}})
	}
	a := fresh(func(*shangcloudtest.Settings) {})
	assert.EqualValues(t, 3600, a.value(t, "expires_in"))
	assert.NotEmpty(t, a.value(t, "refresh_token"))
	assert.Equal(t, "no-store", a.header.Get("Cache-Control"))
	assert.Equal(t, "application/json", a.header.Get("Content-Type"))
	a = fresh(func(set *shangcloudtest.Settings) { set.ExpiresIn = shangcloudtest.ExpiresInString })
	assert.Equal(t, "3600", a.value(t, "expires_in"))
	a = fresh(func(set *shangcloudtest.Settings) { set.ExpiresIn = shangcloudtest.ExpiresInAbsent })
	assert.NotContains(t, a.body, "expires_in")
	a = fresh(func(set *shangcloudtest.Settings) { set.TokenType, set.TokenLifetime = "bearer", 90*time.Second })
	assert.Equal(t, "bearer", a.value(t, "token_type"))
	assert.EqualValues(t, 90, a.value(t, "expires_in"))
	a = fresh(func(set *shangcloudtest.Settings) { set.NoRefreshTokens = true })
	assert.NotContains(t, a.body, "refresh_token")
	a = fresh(func(set *shangcloudtest.Settings) { set.TokenLifetime = -time.Second })
	_, ok := s.UserOf(a.value(t, "access_token").(string), "mmo")
	assert.False(t, ok, "the new token has already expired")
}
