package shangcloudtest

import "time"

// Settings are details in which platforms differ, or which the real platform does not
// document. The zero value follows the reference documentation of the platform. Change the
// settings with [Server.Configure].
type Settings struct {
	// Now is the clock for the expiry of codes and tokens. If nil, it is time.Now.
	// It must be safe for concurrent use.
	Now func() time.Time

	// TokenLifetime is the lifetime of an access token. If 0, it is one hour. If
	// negative, a new token has already expired.
	TokenLifetime time.Duration

	// ExpiresIn is the form of "expires_in" in an answer.
	ExpiresIn ExpiresIn

	// TokenType is the "token_type" in an answer. If "", it is "Bearer".
	TokenType string

	// NoRefreshTokens leaves the refresh token out of a login's answer.
	NoRefreshTokens bool

	// KeepRefreshTokens turns off the rotation of refresh tokens. A refresh then returns no
	// refresh token, and the old refresh token stays valid. With rotation, each refresh
	// returns a new refresh token, and the use of an old one revokes the login.
	KeepRefreshTokens bool

	// MissingVariable is the answer to a read of a variable that does not exist.
	MissingVariable MissingVariable

	// DeviceInterval is the time that a device must wait between two polls. If 0, it is
	// five seconds. The server rounds it down to whole seconds, but uses at least one
	// second.
	DeviceInterval time.Duration

	// Authorization is the form in which a token has to come with the calls about rooms
	// and with /oauth/userinfo. All other calls need "Bearer" before the token.
	Authorization Authorization

	// QuotedRoomData makes the numbers and booleans of a room strings: "8" and "true"
	// instead of 8 and true. Which of the two the real platform answers is unknown.
	QuotedRoomData bool
}

// Authorization is a form of the Authorization header. Newer game clients of the platform
// send the token alone, its other clients a type before it. Whether the real platform
// accepts both is unknown.
type Authorization int

const (
	AnyAuthorization   Authorization = iota // one of the two
	TypedAuthorization                      // "Bearer", a space and the token (RFC 6750, 2.1)
	BareAuthorization                       // the token alone
)

// ExpiresIn is a form of "expires_in".
type ExpiresIn int

const (
	ExpiresInNumber ExpiresIn = iota // 3600, as in RFC 6749, 5.1
	ExpiresInString                  // "3600", as some platforms send it
	ExpiresInAbsent                  // no expires_in
)

// MissingVariable is an answer to a read of a variable that does not exist. The answer of
// the real platform is not documented.
type MissingVariable int

const (
	MissingIsEmpty    MissingVariable = iota // status 200, {"value":""}
	MissingIsError                           // status 200, {"error":"variable not found"}
	MissingIsNotFound                        // status 404
)

// Configure calls change with a copy of the settings, and then uses the changed copy.
// change must not call methods of the server. Codes and tokens keep the expiry with which
// they were issued.
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
