package shangcloud

import (
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

// earlyExpiry is how long before its Expiry a token counts as expired. The platform's
// reference SDK uses the same time.
const earlyExpiry = 60 * time.Second

// Expired reports whether tok must be refreshed before use: it is nil or empty, or it
// expires within 60 seconds, as in the platform's reference SDK. A token with a zero
// Expiry does not expire. But if it has an ExpiresIn, it counts as expired, because
// nobody knows when it was issued.
func Expired(tok *oauth2.Token) bool {
	if tok == nil || tok.AccessToken == "" {
		return true
	}
	if tok.Expiry.IsZero() {
		return tok.ExpiresIn != 0
	}
	now, due := time.Now(), tok.Expiry.Add(-earlyExpiry)
	// Round(0) removes the reading of the monotonic clock. The token counts as expired if
	// the monotonic clock or the wall clock says so.
	return !now.Before(due) || !now.Round(0).Before(due.Round(0))
}

// TokenSource returns a source of one user's tokens. The source starts with tok and keeps
// refreshed tokens in memory: see [oauth2login.Provider.TokenSource].
func (p *Provider) TokenSource(tok *oauth2.Token) *oauth2login.TokenSource {
	return p.Provider.TokenSource(tok)
}

// StoredTokens returns a source of one user's tokens. The source loads the token from store
// and saves refreshed tokens there: see [oauth2login.Provider.StoredTokens].
func (p *Provider) StoredTokens(store oauth2login.TokenStore) *oauth2login.TokenSource {
	return p.Provider.StoredTokens(store)
}
