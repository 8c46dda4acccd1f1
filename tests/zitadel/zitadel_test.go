// Package zitadel_test tests logins with an OpenID provider of another project: the
// example server of zitadel/oidc. It covers browser logins and device logins.
package zitadel_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
)

const (
	issuer      = "https://op.example/"
	redirectURL = "https://app.example/callback"
	secret      = "hush: %zz+&=\"\\"
	username    = "ming"
	password    = "very secure"
	email       = "ming@example.cn"
)

// users has one user. Its name and its ID are the same, because the example server
// confuses the two at device logins.
type users struct{}

func (users) GetUserByUsername(name string) *storage.User { return users{}.GetUserByID(name) }
func (users) ExampleClientID() string                     { return "service" }
func (users) GetUserByID(id string) *storage.User {
	if id != username {
		return nil
	}
	return &storage.User{ID: username, Username: username, Password: password, Email: email}
}

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the server logs every request
	os.Exit(m.Run())
}

// server is the example server, running in this process. It uses the clock of its caller's
// synctest bubble.
type server struct {
	t       *testing.T
	handler http.Handler
	turn    sync.Mutex // needed because the example's store returns its own objects to callers
}

func newServer(t *testing.T) *server {
	t.Helper()
	clients := map[string]*storage.Client{
		"web":    storage.WebClient("web", secret, redirectURL),
		"native": storage.NativeClient("native", redirectURL),
		"device": storage.DeviceClient("device", secret),
	}
	store := storage.NewStorageWithClients(users{}, clients)
	return &server{t: t, handler: exampleop.SetupServer(issuer, store, nil, false)}
}

func (s *server) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil {
		req.Body = http.NoBody
	}
	defer req.Body.Close()
	assert.Equal(s.t, "op.example", req.URL.Host)
	in := req.Clone(req.Context())
	in.Host, in.RequestURI = req.URL.Host, req.URL.RequestURI()
	w := httptest.NewRecorder()
	s.turn.Lock()
	defer s.turn.Unlock()
	s.handler.ServeHTTP(w, in)
	res := w.Result()
	res.Request = req
	return res, nil
}

func (s *server) newProvider(clientID, clientSecret string) *oauth2login.Provider {
	s.t.Helper()
	p, err := oauth2login.New(&oauth2.Config{
		ClientID: clientID, ClientSecret: clientSecret, RedirectURL: redirectURL,
		Endpoint: oauth2.Endpoint{
			AuthURL: issuer + "auth", TokenURL: issuer + "oauth/token",
			DeviceAuthURL: issuer + "device_authorization",
		},
		Scopes: []string{"openid", "email", "offline_access"},
	}, &oauth2login.Options{HTTPClient: &http.Client{Transport: s}})
	require.NoError(s.t, err)
	return p
}

// browser returns a browser. It follows redirects within the server. If a redirect leads
// elsewhere, the browser returns the redirect.
func (s *server) browser() *http.Client {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(s.t, err)
	return &http.Client{Transport: s, Jar: jar, CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		if req.URL.Host != "op.example" {
			return http.ErrUseLastResponse
		}
		return nil
	}}
}

// page reads the whole body of an answer.
func (s *server) page(res *http.Response, err error) *http.Response {
	s.t.Helper()
	require.NoError(s.t, err)
	text, err := io.ReadAll(res.Body)
	require.NoError(s.t, err)
	require.NoError(s.t, res.Body.Close())
	require.Less(s.t, res.StatusCode, 400, "%s", text)
	return res
}

// login runs a whole browser login. The user types a name and a password.
func (s *server) login(p *oauth2login.Provider) *oauth2login.Login {
	s.t.Helper()
	start := httptest.NewRecorder()
	require.NoError(s.t, p.StartLogin(start, httptest.NewRequest("GET", "/login", nil)))
	browser := s.browser()
	form := s.page(browser.Get(start.Header().Get("Location")))
	id := form.Request.URL.Query().Get("authRequestID")
	require.NotEmpty(s.t, id, "%s", form.Request.URL)
	back := s.page(browser.PostForm(issuer+"login/username", url.Values{
		"username": {username}, "password": {password}, "id": {id},
	}))
	callback := httptest.NewRequest("GET", back.Header.Get("Location"), nil)
	for _, c := range start.Result().Cookies() {
		callback.AddCookie(c)
	}
	login, err := p.FinishLogin(httptest.NewRecorder(), callback)
	require.NoError(s.t, err)
	return login
}

// verify checks an ID token with the server's own verifier.
func (s *server) verify(p *oauth2login.Provider, tok *oauth2.Token, nonce string) (*oidc.IDTokenClaims, error) {
	s.t.Helper()
	raw, ok := tok.Extra("id_token").(string)
	require.True(s.t, ok, "an ID token")
	keys := rp.NewRemoteKeySet(&http.Client{Transport: s}, issuer+"keys")
	verifier := rp.NewIDTokenVerifier(issuer, p.OAuth2().ClientID, keys,
		rp.WithNonce(func(context.Context) string { return nonce }))
	return rp.VerifyIDToken[*oidc.IDTokenClaims](s.t.Context(), raw, verifier)
}

// email asks the server for a user's mail address. The user is the owner of the token of
// src.
func (s *server) email(p *oauth2login.Provider, src oauth2.TokenSource) string {
	s.t.Helper()
	res, err := p.Client(src).Get(issuer + "userinfo")
	require.NoError(s.t, err)
	defer res.Body.Close()
	require.Equal(s.t, http.StatusOK, res.StatusCode)
	var user struct{ Email string }
	require.NoError(s.t, json.NewDecoder(res.Body).Decode(&user))
	return user.Email
}

func TestLogin(t *testing.T) {
	for name, c := range map[string]struct{ id, secret string }{
		"confidential client": {"web", secret},
		"public client":       {"native", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				p := s.newProvider(c.id, c.secret)
				login := s.login(p)
				require.NotEmpty(t, login.Nonce)
				claims, err := s.verify(p, login.Token, login.Nonce)
				require.NoError(t, err)
				assert.Equal(t, username, claims.Subject)
				_, err = s.verify(p, login.Token, "another")
				assert.ErrorIs(t, err, oidc.ErrNonceInvalid)

				store := new(tokenstore.Memory)
				src := p.StoredTokens(store)
				require.NoError(t, src.SetToken(t.Context(), login.Token))
				assert.Equal(t, email, s.email(p, src))
				tok := login.Token
				for range 2 {
					time.Sleep(time.Until(tok.Expiry))
					next, err := src.Token()
					require.NoError(t, err)
					assert.NotEqual(t, tok.AccessToken, next.AccessToken)
					assert.NotEqual(t, tok.RefreshToken, next.RefreshToken)
					assert.Equal(t, email, s.email(p, src))
					stored, err := store.LoadToken(t.Context())
					require.NoError(t, err)
					assert.Equal(t, next.RefreshToken, stored.RefreshToken)
					tok = next
				}
				_, err = p.TokenSource(&oauth2.Token{RefreshToken: login.Token.RefreshToken}).Token()
				assert.ErrorIs(t, err, oauth2login.ErrLoginRequired, "rotation has ended the first refresh token")
			})
		})
	}
}

func TestLoginWithWrongSecret(t *testing.T) {
	s := newServer(t)
	p := s.newProvider("web", "wrong")
	_, err := p.TokenSource(&oauth2.Token{RefreshToken: "r"}).Token()
	require.ErrorIs(t, err, oauth2login.ErrClientCredentials)
	assert.ErrorContains(t, err, "op.example")
}

func TestDeviceLogin(t *testing.T) {
	for action, want := range map[string]error{"allowed": nil, "denied": oauth2login.ErrAccessDenied} {
		t.Run(action, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				p := s.newProvider("device", secret)
				login, err := p.DeviceLogin(t.Context(), func(shown *oauth2.DeviceAuthResponse) error {
					assert.Equal(t, issuer+"device", shown.VerificationURI)
					go func() { // the user, who takes a minute
						time.Sleep(time.Minute)
						browser := s.browser()
						s.page(browser.Get(shown.VerificationURIComplete))
						s.page(browser.PostForm(issuer+"device/login", url.Values{
							"username": {username}, "password": {password}, "user_code": {shown.UserCode},
						}))
						s.page(browser.Get(issuer + "device/confirm?action=" + action))
					}()
					return nil
				})
				if want != nil {
					assert.ErrorIs(t, err, want)
					return
				}
				require.NoError(t, err)
				claims, err := s.verify(p, login.Token, "")
				require.NoError(t, err)
				assert.Equal(t, username, claims.Subject)
			})
		})
	}
}

func TestDeviceLoginInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		begin := time.Now()
		_, err := s.newProvider("device", secret).DeviceLogin(t.Context(), func(*oauth2.DeviceAuthResponse) error { return nil })
		assert.ErrorIs(t, err, oauth2login.ErrLoginExpired)
		assert.LessOrEqual(t, time.Since(begin), 5*time.Minute+5*time.Second)
	})
}
