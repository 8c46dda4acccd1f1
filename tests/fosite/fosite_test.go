// Package fosite_test tests logins and refreshes with the authorization server of another
// project, ory/fosite. fosite rotates refresh tokens. If a used refresh token is sent
// again, fosite ends the login.
package fosite_test

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
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

// A client is registered at the server. A public client has no secret.
type client struct{ id, secret string }

var (
	plain = client{"demo", "hush-hush"}
	// odd contains characters that percent-encoding changes (RFC 6749, section 2.3.1).
	odd    = client{"demo+1 %41&=?:/é", "hush: %zz+&=\"\\ 密"}
	public = client{"public", ""}
)

// server is fosite with one user, who approves every request at once.
type server struct {
	*httptest.Server
	provider  fosite.OAuth2Provider
	lock      sync.Mutex // fosite's memory store does not refresh in a transaction
	denies    bool       // the user refuses
	refreshes atomic.Int64
	refusals  atomic.Int64
}

func newServer(t *testing.T, tokenLifetime time.Duration) *server {
	t.Helper()
	store := storage.NewMemoryStore()
	for _, c := range []client{plain, odd, public} {
		registered := &fosite.DefaultClient{
			ID:            c.id,
			Public:        c.secret == "",
			RedirectURIs:  []string{redirectURL},
			GrantTypes:    []string{"authorization_code", "refresh_token"},
			ResponseTypes: []string{"code"},
			Scopes:        []string{"profile"},
		}
		if c.secret != "" {
			hash, err := bcrypt.GenerateFromPassword([]byte(c.secret), bcrypt.MinCost)
			require.NoError(t, err)
			registered.Secret = hash
		}
		store.Clients[c.id] = registered
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
	mux.HandleFunc("GET /authorize", s.authorize)
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("GET /me", s.me)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *server) authorize(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	ar, err := s.provider.NewAuthorizeRequest(ctx, r)
	if err == nil && s.denies {
		err = fosite.ErrAccessDenied
	}
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

func (s *server) me(w http.ResponseWriter, r *http.Request) {
	_, ar, err := s.provider.IntrospectToken(r.Context(), fosite.AccessTokenFromRequest(r), fosite.AccessToken, &fosite.DefaultSession{}, "profile")
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	json.NewEncoder(w).Encode(ar.GetSession().GetSubject())
}

func (s *server) newProvider(t *testing.T, c client) *oauth2login.Provider {
	t.Helper()
	p, err := oauth2login.New(&oauth2.Config{
		ClientID:     c.id,
		ClientSecret: c.secret,
		Endpoint:     oauth2.Endpoint{AuthURL: s.URL + "/authorize", TokenURL: s.URL + "/token"},
		RedirectURL:  redirectURL,
		Scopes:       []string{"profile"},
	}, nil)
	require.NoError(t, err)
	return p
}

// login runs a whole browser login.
func login(t *testing.T, p *oauth2login.Provider) (*oauth2login.Login, error) {
	t.Helper()
	start := httptest.NewRecorder()
	require.NoError(t, p.StartLogin(start, httptest.NewRequest("GET", "/login", nil), oauth2login.WithReturnTo("/album")))
	res, err := http.DefaultTransport.RoundTrip(httptest.NewRequest("GET", start.Header().Get("Location"), nil))
	require.NoError(t, err)
	res.Body.Close()
	back := httptest.NewRequest("GET", res.Header.Get("Location"), nil)
	for _, c := range start.Result().Cookies() {
		back.AddCookie(c)
	}
	return p.FinishLogin(httptest.NewRecorder(), back)
}

// subject asks the server to which user the token of src belongs.
func (s *server) subject(t *testing.T, p *oauth2login.Provider, src oauth2.TokenSource) string {
	t.Helper()
	res, err := p.Client(src).Get(s.URL + "/me")
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	var subject string
	require.NoError(t, json.NewDecoder(res.Body).Decode(&subject))
	return subject
}

// expired returns a copy of tok that has expired.
func expired(tok *oauth2.Token) *oauth2.Token {
	old := *tok
	old.Expiry = time.Unix(1, 0)
	return &old
}

func TestLogin(t *testing.T) {
	for name, c := range map[string]client{"plain client": plain, "odd client": odd, "public client": public} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, time.Hour)
			p := s.newProvider(t, c)
			login, err := login(t, p)
			require.NoError(t, err)
			assert.Equal(t, "/album", login.ReturnTo)
			assert.Equal(t, []string{"profile"}, login.Scopes)
			assert.WithinDuration(t, time.Now().Add(time.Hour), login.Token.Expiry, time.Minute)
			assert.Equal(t, "10001", s.subject(t, p, p.TokenSource(login.Token)))

			store := new(tokenstore.Memory)
			src := p.StoredTokens(store)
			require.NoError(t, src.SetToken(t.Context(), expired(login.Token)))
			next, err := src.Token()
			require.NoError(t, err)
			assert.NotEqual(t, login.Token.AccessToken, next.AccessToken)
			assert.NotEqual(t, login.Token.RefreshToken, next.RefreshToken)
			assert.Equal(t, "10001", s.subject(t, p, src))
			stored, err := store.LoadToken(t.Context())
			require.NoError(t, err)
			assert.Equal(t, next.AccessToken, stored.AccessToken)
			assert.Equal(t, next.RefreshToken, stored.RefreshToken)
			assert.EqualValues(t, 1, s.refreshes.Load())
			assert.Zero(t, s.refusals.Load())
		})
	}
}

func TestLoginDenied(t *testing.T) {
	s := newServer(t, time.Hour)
	s.denies = true
	_, err := login(t, s.newProvider(t, plain))
	require.ErrorIs(t, err, oauth2login.ErrAccessDenied)
	var failed *oauth2login.LoginError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, "/album", failed.ReturnTo)
}

func TestLoginWithWrongSecret(t *testing.T) {
	s := newServer(t, time.Hour)
	_, err := login(t, s.newProvider(t, client{plain.id, "wrong"}))
	require.ErrorIs(t, err, oauth2login.ErrClientCredentials)
}

// TestReuseEndsALogin checks that fosite ends a login when a refresh token is used twice.
// The other tests rely on this behaviour.
func TestReuseEndsALogin(t *testing.T) {
	s := newServer(t, time.Hour)
	p := s.newProvider(t, plain)
	login, err := login(t, p)
	require.NoError(t, err)
	next, err := p.TokenSource(expired(login.Token)).Token()
	require.NoError(t, err)
	_, err = p.TokenSource(expired(login.Token)).Token()
	assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
	_, err = p.TokenSource(expired(next)).Token()
	assert.ErrorIs(t, err, oauth2login.ErrLoginRequired, "the new one is dead as well")
}

// TestConcurrentRefresh: eight sources, with eight callers each, share one token. The
// token lives for two seconds and is due for a refresh after one second. Each round begins
// with a token that has expired, so each round needs exactly one refresh. Half of the
// sources have their own store object for the token, as another process would.
func TestConcurrentRefresh(t *testing.T) {
	s := newServer(t, 2*time.Second)
	p := s.newProvider(t, plain)
	login, err := login(t, p)
	require.NoError(t, err)
	store := new(tokenstore.Memory)
	tok := login.Token
	const turns = 200
	for range turns {
		require.NoError(t, store.SaveToken(t.Context(), expired(tok)))
		var wg sync.WaitGroup
		for i := range 8 {
			src := p.StoredTokens(store)
			if i%2 == 1 {
				src = p.StoredTokens(&struct{ *tokenstore.Memory }{store})
			}
			for range 8 {
				wg.Go(func() {
					_, err := src.Token()
					assert.NoError(t, err)
				})
			}
		}
		wg.Wait()
		tok, err = store.LoadToken(t.Context())
		require.NoError(t, err)
	}
	assert.EqualValues(t, turns, s.refreshes.Load(), "one refresh for each turn")
	assert.Zero(t, s.refusals.Load())
	assert.Equal(t, "10001", s.subject(t, p, p.StoredTokens(store)))
}
