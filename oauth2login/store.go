package oauth2login

import (
	"context"
	"time"

	"golang.org/x/oauth2"
)

// TokenStore keeps the token of one user, for example in a row of the application's users
// table. All methods must be safe for concurrent use and return soon after ctx is done.
// Tokens are secrets: do not log them, and do not quote them in errors.
//
// One store serves one provider. If several processes share a store, implement
// [TokenLocker] as well.
type TokenStore interface {
	// LoadToken returns the token that was saved last. If there is none, it returns
	// nil and no error. The caller does not change the token.
	LoadToken(ctx context.Context) (*oauth2.Token, error)

	// SaveToken replaces the stored token. It must keep all exported fields, as
	// encoding/json does.
	SaveToken(ctx context.Context, tok *oauth2.Token) error

	// DeleteToken removes the stored token: the user has logged out. It is no error
	// if there is none.
	DeleteToken(ctx context.Context) error
}

// TokenLocker is an optional interface of a [TokenStore]. Several processes may share a
// user's token. With a lock, only one of them refreshes it. Without a lock, two processes
// can send the same refresh token at once, and a provider that detects reuse ends the
// login (RFC 9700, section 4.14.2).
type TokenLocker interface {
	// LockToken waits for the lock on the stored token, at most until ctx is done. It
	// returns the function that releases the lock. The lock does not end with ctx. It is
	// valid for the duration hold, but ends earlier if its holder dies. The duration
	// begins when LockToken returns, or at most 2 seconds before that.
	LockToken(ctx context.Context, hold time.Duration) (unlock func(), err error)
}
