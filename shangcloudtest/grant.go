package shangcloudtest

import (
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"time"
)

const refreshLifetime = 30 * 24 * time.Hour

// grant is the result of one login: the scopes that a user allowed to a client. Revoking a
// grant revokes all its tokens, also the tokens from refreshes.
type grant struct {
	clientID string
	uid      int64
	scopes   []string
	revoked  bool
}

type accessToken struct {
	grant   *grant
	scopes  []string
	expired bool // set by ExpireTokens
}

type refreshToken struct {
	grant *grant
	used  bool
}

// firstTokens issues the tokens of a new login. The caller holds s.mu.
func (s *Server) firstTokens(g *grant, settings *Settings, now time.Time) (*tokenAnswer, *apiError) {
	if g.revoked {
		return nil, badRequest("invalid_grant", "the user revoked the permission")
	}
	answer := s.issueAccess(g, g.scopes, settings, now)
	if !settings.NoRefreshTokens {
		answer.RefreshToken = s.issueRefresh(g, now)
	}
	return answer, nil
}

// issueAccess issues an access token. The caller holds s.mu.
func (s *Server) issueAccess(g *grant, scopes []string, settings *Settings, now time.Time) *tokenAnswer {
	lifetime := settings.tokenLifetime()
	answer := &tokenAnswer{
		AccessToken: rand.Text(), // at least 128 random bits
		TokenType:   settings.tokenType(),
		Scope:       strings.Join(scopes, " "),
	}
	seconds := int64(lifetime / time.Second)
	switch settings.ExpiresIn {
	case ExpiresInNumber:
		answer.ExpiresIn = seconds
	case ExpiresInString:
		answer.ExpiresIn = strconv.FormatInt(seconds, 10)
	}
	s.access.put(answer.AccessToken, &accessToken{grant: g, scopes: scopes}, now, now.Add(lifetime))
	return answer
}

// issueRefresh issues a refresh token. The caller holds s.mu.
func (s *Server) issueRefresh(g *grant, now time.Time) string {
	token := rand.Text()
	s.refresh.put(token, &refreshToken{grant: g}, now, now.Add(refreshLifetime))
	return token
}

// Issue issues an access token and a refresh token without a login. If no scopes are
// given, the scope is user:basic. Issue panics if the client or the user is unknown, or
// if the client may not request a scope.
func (s *Server) Issue(clientID string, uid int64, scopes ...string) (access, refresh string) {
	if len(scopes) == 0 {
		scopes = []string{"user:basic"}
	}
	settings := s.settings.Load()
	now := settings.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[clientID]
	if _, known := s.user(uid); c == nil || !known || !subset(scopes, c.Scopes) {
		panic("shangcloudtest: Issue needs a client, a user and scopes that were added")
	}
	g := &grant{clientID: clientID, uid: uid, scopes: slices.Clone(scopes)}
	return s.issueAccess(g, g.scopes, settings, now).AccessToken, s.issueRefresh(g, now)
}

// ExpireTokens makes every access token expire now. Refresh tokens stay valid.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.access.entries {
		e.value.expired = true
	}
}

// Revoke ends all logins of a user. It revokes the user's codes, access tokens and
// refresh tokens, and the device logins that the user allowed.
func (s *Server) Revoke(uid int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	revoke := func(g *grant) { g.revoked = g.revoked || g.uid == uid }
	for _, e := range s.codes.entries {
		revoke(e.value.grant)
	}
	for _, e := range s.access.entries {
		revoke(e.value.grant)
	}
	for _, e := range s.refresh.entries {
		revoke(e.value.grant)
	}
	for _, e := range s.devices.entries {
		e.value.used = e.value.used || e.value.uid == uid
	}
}

// subset reports whether whole contains every element of part.
func subset(part, whole []string) bool {
	for _, one := range part {
		if !slices.Contains(whole, one) {
			return false
		}
	}
	return true
}
