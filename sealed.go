package shangcloud

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
)

const (
	// maxSealed is how long a sealed login may be, in a cookie: together with
	// the cookie's name and attributes it stays below the 4096 bytes that
	// browsers are to keep (RFC 6265, section 6.1), with room for others in a
	// request's header.
	maxSealed = 3 << 10

	// clockSkew is how far the clocks of two machines may be apart.
	clockSkew = time.Minute
)

// sealedLogins keep what a login has to remember in the browser's cookie instead of
// a state.Store.
type sealedLogins struct {
	keys *seal.Keys

	// What this process has sealed it opens by a clock that nobody can set.
	process string // random
	start   time.Time

	// used are the states that were redeemed in this process. The cookie is
	// cleared with the answer, but a second click may be under way by then.
	mu   sync.Mutex
	used state.Store
}

func newSealedLogins(keys *seal.Keys) *sealedLogins {
	return &sealedLogins{keys: keys, process: rand.Text()[:12], start: time.Now(), used: new(state.Memory)}
}

// uptime is how long s has been there, by the monotonic clock.
func (s *sealedLogins) uptime() time.Duration { return time.Since(s.start) }

// sealedLogin is what is sealed.
type sealedLogin struct {
	*pendingLogin
	Process string `json:"p"`
	Uptime  int64  `json:"u"` // milliseconds
}

// seal returns what has to come back with the state of key, in characters that a
// cookie can hold. A path to return to that does not fit is left out.
func (s *sealedLogins) seal(key string, l *pendingLogin, now time.Time) (string, error) {
	l.begun(now)
	for {
		value, err := encode(sealedLogin{l, s.process, s.uptime().Milliseconds()})
		if err != nil {
			return "", err
		}
		sealed := base64.RawURLEncoding.EncodeToString(s.keys.Seal(value, "login", key))
		if len(sealed) <= maxSealed {
			return sealed, nil
		}
		l.ReturnTo = "" // the rest fits: WithValue is limited
	}
}

// open undoes seal, once in this process. It finds nothing after stateLifetime by the
// machine's clock, nor if that was set back by more than clockSkew since; and of what
// this process has sealed nothing after stateLifetime, whatever that clock says.
func (s *sealedLogins) open(ctx context.Context, key, sealed string, now time.Time) (l *pendingLogin, found bool) {
	if len(sealed) > maxSealed {
		return nil, false
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil {
		return nil, false
	}
	if data, err = s.keys.Open(data, "login", key); err != nil {
		return nil, false
	}
	l = new(pendingLogin)
	opened := sealedLogin{pendingLogin: l}
	if json.Unmarshal(data, &opened) != nil || !l.underWay(now, clockSkew, 0) {
		return nil, false
	}
	if opened.Process == s.process && s.uptime() >= stateLifetime+time.Duration(opened.Uptime)*time.Millisecond {
		return nil, false
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	_, again, err := s.used.Take(ctx, key)
	if err != nil || s.used.Put(ctx, key, nil, stateLifetime+clockSkew) != nil || again {
		return nil, false
	}
	return l, true
}
