// Package fosite_test logs in at, and refreshes against, an authorization server
// that this project has not written: ory/fosite, which rotates refresh tokens and
// ends a login whose used refresh token is sent again.
package fosite_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/storage"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/oauth2"
)

const redirectURL = "https://app.example/callback"

// server is fosite behind ShangCloud's paths, with one user who approves of
// everything at once.
type server struct {
	*httptest.Server
	provider  fosite.OAuth2Provider
	lock      sync.Mutex // fosite's memory store does not refresh in a transaction
	refreshes atomic.Int64
	refusals  atomic.Int64
}

func newServer(t *testing.T, tokenLifetime time.Duration) *server {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("hush-hush"), bcrypt.MinCost)
	require.NoError(t, err)
	store := storage.NewMemoryStore()
	store.Clients["demo"] = &fosite.DefaultClient{
		ID:            "demo",
		Secret:        hash,
		RedirectURIs:  []string{redirectURL},
		GrantTypes:    []string{"authorization_code", "refresh_token"},
		ResponseTypes: []string{"code"},
		Scopes:        []string{"user:basic"},
	}
	key := make([]byte, 32)
	rand.Read(key)
	config := &fosite.Config{
		GlobalSecret:                   key,
		AccessTokenLifespan:            tokenLifetime,
		RefreshTokenScopes:             []string{}, // every login gets a refresh token
		EnforcePKCE:                    true,
		SendDebugMessagesToClients:     false,
		EnablePKCEPlainChallengeMethod: false,
	}
	s := &server{provider: compose.Compose(config, store,
		&compose.CommonStrategy{CoreStrategy: compose.NewOAuth2HMACStrategy(config)},
		compose.OAuth2AuthorizeExplicitFactory,
		compose.OAuth2RefreshTokenGrantFactory,
		compose.OAuth2TokenIntrospectionFactory,
		compose.OAuth2PKCEFactory,
	)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /oauth/authorize", s.authorize)
	mux.HandleFunc("POST /oauth/token", s.token)
	mux.HandleFunc("POST /api/user/info", s.userInfo)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *server) authorize(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	ar, err := s.provider.NewAuthorizeRequest(ctx, r)
	if err != nil {
		s.provider.WriteAuthorizeError(ctx, w, ar, err)
		return
	}
	for _, scope := range ar.GetRequestedScopes() {
		ar.GrantScope(scope)
	}
	res, err := s.provider.NewAuthorizeResponse(ctx, ar, &fosite.DefaultSession{Subject: "10001"})
	if err != nil {
		s.provider.WriteAuthorizeError(ctx, w, ar, err)
		return
	}
	s.provider.WriteAuthorizeResponse(ctx, w, ar, res)
}

func (s *server) token(w http.ResponseWriter, r *http.Request) {
	s.lock.Lock()
	defer s.lock.Unlock()
	ctx := r.Context()
	refresh := r.FormValue("grant_type") == "refresh_token"
	ar, err := s.provider.NewAccessRequest(ctx, r, &fosite.DefaultSession{})
	if err != nil {
		if refresh {
			s.refusals.Add(1)
		}
		s.provider.WriteAccessError(ctx, w, ar, err)
		return
	}
	res, err := s.provider.NewAccessResponse(ctx, ar)
	if err != nil {
		s.provider.WriteAccessError(ctx, w, ar, err)
		return
	}
	if refresh {
		s.refreshes.Add(1)
	}
	s.provider.WriteAccessResponse(ctx, w, ar, res)
}

func (s *server) userInfo(w http.ResponseWriter, r *http.Request) {
	_, _, err := s.provider.IntrospectToken(r.Context(), fosite.AccessTokenFromRequest(r), fosite.AccessToken, &fosite.DefaultSession{}, "user:basic")
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"uid": 10001, "nickname": "小明"})
}

// login runs a whole browser login.
func (s *server) login(t *testing.T) (*shangcloud.Provider, *oauth2.Token) {
	t.Helper()
	p, err := shangcloud.New(shangcloud.Config{
		ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: redirectURL, BaseURL: s.URL,
	})
	require.NoError(t, err)
	start := httptest.NewRecorder()
	require.NoError(t, p.StartLogin(start, httptest.NewRequest("GET", "/login", nil)))
	res, err := http.DefaultTransport.RoundTrip(httptest.NewRequest("GET", start.Header().Get("Location"), nil))
	require.NoError(t, err)
	res.Body.Close()
	back := httptest.NewRequest("GET", res.Header.Get("Location"), nil)
	for _, c := range start.Result().Cookies() {
		back.AddCookie(c)
	}
	login, err := p.FinishLogin(httptest.NewRecorder(), back)
	require.NoError(t, err)
	return p, login.Token
}

func TestLogin(t *testing.T) {
	s := newServer(t, time.Hour)
	p, tok := s.login(t)
	user, err := p.API(p.TokenSource(tok, nil)).UserInfo(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(10001), user.ID)
}

// TestReuseEndsALogin makes sure that fosite is as strict as it is here for.
func TestReuseEndsALogin(t *testing.T) {
	s := newServer(t, time.Hour)
	p, tok := s.login(t)
	again := &oauth2.Token{AccessToken: "old", RefreshToken: tok.RefreshToken, Expiry: time.Unix(1, 0)}
	next, err := p.TokenSource(again, nil).Token()
	require.NoError(t, err)
	_, err = p.TokenSource(again, nil).Token()
	assert.ErrorIs(t, err, shangcloud.ErrLoginRequired)
	next.Expiry = time.Unix(1, 0)
	_, err = p.TokenSource(next, nil).Token()
	assert.ErrorIs(t, err, shangcloud.ErrLoginRequired, "the new one is dead as well")
}

// TestNothingIsLost has 8 sources with 8 callers each on one token that is due at
// every turn. (The lifetime of two seconds makes a token due after one.)
func TestNothingIsLost(t *testing.T) {
	s := newServer(t, 2*time.Second)
	p, tok := s.login(t)
	store := new(tokenstore.Memory)
	require.NoError(t, store.SaveToken(t.Context(), tok))
	due := func() {
		tok, err := store.LoadToken(context.Background())
		require.NoError(t, err)
		old := *tok
		old.Expiry = time.Unix(1, 0)
		require.NoError(t, store.SaveToken(context.Background(), &old))
	}
	const turns = 200
	for range turns {
		due()
		var wg sync.WaitGroup
		for range 8 {
			src := p.TokenSource(nil, store)
			for range 8 {
				wg.Go(func() {
					_, err := src.Token()
					assert.NoError(t, err)
				})
			}
		}
		wg.Wait()
	}
	assert.EqualValues(t, turns, s.refreshes.Load(), "one refresh for each turn")
	assert.Zero(t, s.refusals.Load())
	_, err := p.API(p.TokenSource(nil, store)).UserInfo(t.Context())
	assert.NoError(t, err)
}
