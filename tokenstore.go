package shangcloud

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"golang.org/x/oauth2"
)

// ErrTokenStore is a token store that failed when no valid token was at hand.
var ErrTokenStore = errors.New("shangcloud: the token store failed")

const (
	// saveTimeout is what saving a token has for itself. Nothing that went
	// before may use it up: a token that was rotated has to be saved.
	saveTimeout = 5 * time.Second

	// A refused refresh token may have been used by another process that has
	// not saved its new one yet. The store is read again rereads times, after
	// a pause that doubles from firstReread: 1.5 seconds in all.
	rereads     = 4
	firstReread = 100 * time.Millisecond
)

// TokenStore keeps the token of one user: a row of the application's users table,
// say. Its methods must be safe for concurrent use and return soon after ctx is
// done. Tokens are secrets: they do not belong into logs or the texts of errors.
//
// A store that several processes share should be a [TokenLocker] too.
type TokenStore interface {
	// LoadToken returns the token saved last, or nil and no error if there is
	// none. The caller does not change it.
	LoadToken(ctx context.Context) (*oauth2.Token, error)

	// SaveToken replaces the stored token. It must keep all exported fields,
	// as encoding/json does. If tok is nil, the user has logged out: from now on
	// there is none.
	SaveToken(ctx context.Context, tok *oauth2.Token) error
}

// TokenLocker is what a [TokenStore] can offer besides, so that of many processes
// with one user's token one refreshes it. Without a lock two may send the same
// refresh token. A platform that takes this for theft ends the login.
type TokenLocker interface {
	// LockToken waits, until ctx is done, for the lock on the stored token, and
	// returns what gives it back. The lock outlives ctx, but not its holder: it
	// ends by itself when that dies.
	LockToken(ctx context.Context) (unlock func(), err error)
}

// stored returns what is in the store, or h if that is still the best there is.
func (s *TokenSource) stored(ctx context.Context, h *held) (*held, error) {
	tok, err := s.store.LoadToken(ctx)
	if err != nil {
		return nil, tokenStoreFailed("load", err)
	}
	if tok == nil || tok.AccessToken == "" {
		if h.saved {
			return nil, &callError{"token", "no longer stored: the user has logged out", []error{ErrLoginRequired}}
		}
		return h, nil
	}
	newer := s.hold(tok)
	newer.saved = true
	if h.tok != nil && newer.isDue(time.Now()) && tok.Expiry.Before(h.tok.Expiry) {
		return h, nil // a replica that lags behind: its refresh token has been used
	}
	return newer, nil
}

// awaitNewer reads the store until it holds another token than h, or nil: at once
// under a lock, and otherwise for 1.5 seconds.
func (s *TokenSource) awaitNewer(ctx context.Context, h *held, locked bool) *held {
	wait := firstReread
	for try := 0; ; try++ {
		if newer, err := s.stored(ctx, h); err == nil && !newer.has(h.tok) {
			return newer
		}
		if locked || try == rereads {
			return nil
		}
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return nil
		}
	}
}

// save keeps a token that nobody else has.
func (s *TokenSource) save(ctx context.Context, tok *oauth2.Token) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	err := s.store.SaveToken(ctx, tok)
	if err == nil {
		return nil
	}
	err = tokenStoreFailed("save", err)
	s.p.conf.Logger.WarnContext(ctx, "shangcloud: a token could not be saved; it is kept, and saving is tried again", "error", err)
	return err
}

func (h *held) afterSave(err error) *held {
	next := *h
	next.saved, next.unsaved = h.saved || err == nil, err != nil
	return &next
}

func tokenStoreFailed(what string, err error) error {
	text := storeText(err)
	if path := (*fs.PathError)(nil); errors.As(err, &path) { // it quotes no file
		text = path.Error()
	}
	return &callError{"token store", what + ": " + text, []error{err, ErrTokenStore}}
}
