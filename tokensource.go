package shangcloud

import (
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

// earlyExpiry is how long before its time the platform's reference SDK takes a token for
// expired.
const earlyExpiry = 60 * time.Second

// Expired reports whether tok is to be refreshed before it is used: it is nil or empty,
// or expires within 60 seconds, as in the platform's reference SDK. A token with a zero
// Expiry does not expire, unless it has an ExpiresIn: then nobody knows since when it
// counts, and it is expired.
func Expired(tok *oauth2.Token) bool {
	if tok == nil || tok.AccessToken == "" {
		return true
	}
	if tok.Expiry.IsZero() {
		return tok.ExpiresIn != 0
	}
	now, due := time.Now(), tok.Expiry.Add(-earlyExpiry)
	// Round(0) takes the monotonic clock away: of both clocks, the later one counts.
	return !now.Before(due) || !now.Round(0).Before(due.Round(0))
}

// TokenSource returns a source of one user's tokens that begins with tok and keeps
// refreshed tokens in memory: see [oauth2login.Provider.TokenSource].
func (p *Provider) TokenSource(tok *oauth2.Token) *oauth2login.TokenSource {
	return p.Provider.TokenSource(tok)
}

// StoredTokens returns a source of one user's tokens that begins with what store holds
// and saves refreshed tokens there: see [oauth2login.Provider.StoredTokens].
func (p *Provider) StoredTokens(store oauth2login.TokenStore) *oauth2login.TokenSource {
	return p.Provider.StoredTokens(store)
}
