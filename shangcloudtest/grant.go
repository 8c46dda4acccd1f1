package shangcloudtest

import (
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"time"
)

const refreshLifetime = 30 * 24 * time.Hour

// grant is one login: what a user allowed a client. All tokens that come from
// it, over any number of refreshes, end with it.
type grant struct {
	clientID string
	uid      int64
	scopes   []string
	revoked  bool
}

type accessToken struct {
	grant   *grant
	scopes  []string
	expired bool // by ExpireTokens
}

type refreshToken struct {
	grant *grant
	used  bool
}

// firstTokens are the tokens of a new login. The caller holds s.mu.
func (s *Server) firstTokens(g *grant, settings *Settings, now time.Time) (*tokenAnswer, *apiError) {
	if g.revoked {
		return nil, badRequest("invalid_grant", "the user took the permission back")
	}
	answer := s.issueAccess(g, g.scopes, settings, now)
	if !settings.NoRefreshTokens {
		answer.RefreshToken = s.issueRefresh(g, now)
	}
	return answer, nil
}

// issueAccess makes an access token. The caller holds s.mu.
func (s *Server) issueAccess(g *grant, scopes []string, settings *Settings, now time.Time) *tokenAnswer {
	lifetime := settings.tokenLifetime()
	answer := &tokenAnswer{
		AccessToken: rand.Text(), // 128 bits and more
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

// issueRefresh makes a refresh token. The caller holds s.mu.
func (s *Server) issueRefresh(g *grant, now time.Time) string {
	token := rand.Text()
	s.refresh.put(token, &refreshToken{grant: g}, now, now.Add(refreshLifetime))
	return token
}

// Issue makes tokens without a login: an access token for a client and a user,
// and a refresh token of the same login. Without scopes it has user:basic. An
// unknown client or user, or a scope that the client may not have, is a mistake
// in the test and panics.
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

// ExpireTokens makes every access token expire now. Refresh tokens stay good.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.access.entries {
		e.value.expired = true
	}
}

// Revoke ends every login of a user: the codes, access and refresh tokens that
// were issued, and the devices that were allowed, are refused from now on.
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

func subset(of, all []string) bool {
	for _, one := range of {
		if !slices.Contains(all, one) {
			return false
		}
	}
	return true
}
