package shangcloudtest

import "time"

// Settings are the ways in which platforms differ, or in which nobody outside
// knows what the real one does. The zero value is the platform as its reference
// documentation shows it. Change them with [Server.Configure].
type Settings struct {
	// Now is the clock by which codes and tokens expire. If nil, time.Now. It
	// must be safe for concurrent use.
	Now func() time.Time

	// TokenLifetime is how long an access token is good; if 0, one hour. If
	// negative, it has expired when it is issued.
	TokenLifetime time.Duration

	// ExpiresIn is the form in which a token's lifetime is told.
	ExpiresIn ExpiresIn

	// TokenType is the "token_type" of an answer; if "", "Bearer".
	TokenType string

	// NoRefreshTokens makes logins answer without a refresh token.
	NoRefreshTokens bool

	// KeepRefreshTokens ends the rotation of refresh tokens: a refresh answers
	// without one, and the old one stays in force. Otherwise each refresh
	// gives a new one, and the use of an old one revokes the whole login.
	KeepRefreshTokens bool

	// MissingVariable is the answer to reading a variable that was never written.
	MissingVariable MissingVariable

	// DeviceInterval is how long a device has to wait between two polls; if 0,
	// five seconds. It is told in whole seconds, one at least.
	DeviceInterval time.Duration
}

// ExpiresIn is a form of "expires_in".
type ExpiresIn int

const (
	ExpiresInNumber ExpiresIn = iota // 3600, as RFC 6749 says
	ExpiresInString                  // "3600", as some platforms have it
	ExpiresInAbsent                  // nothing at all
)

// MissingVariable is an answer to reading a variable that does not exist. The
// real platform's is not documented.
type MissingVariable int

const (
	MissingIsEmpty    MissingVariable = iota // status 200, {"value":""}
	MissingIsError                           // status 200, {"error":"variable not found"}
	MissingIsNotFound                        // status 404
)

// Configure changes the settings. What was issued before keeps its expiry. The
// function must not use the server.
func (s *Server) Configure(change func(*Settings)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := *s.settings.Load()
	change(&next)
	s.settings.Store(&next)
}

func (c *Settings) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func (c *Settings) tokenLifetime() time.Duration {
	if c.TokenLifetime == 0 {
		return time.Hour
	}
	return c.TokenLifetime
}

func (c *Settings) tokenType() string {
	if c.TokenType == "" {
		return "Bearer"
	}
	return c.TokenType
}

func (c *Settings) deviceInterval() time.Duration {
	if c.DeviceInterval == 0 {
		return 5 * time.Second
	}
	return max(c.DeviceInterval.Truncate(time.Second), time.Second)
}
