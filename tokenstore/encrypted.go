package tokenstore

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

// sealedPrefix begins the text that is stored in place of an access token.
const sealedPrefix = "sealed-v1."

// Keys encrypt tokens for [Encrypted]. They are made by [NewKeys] and safe for
// concurrent use.
type Keys struct {
	keys      *seal.Keys
	plaintext bool
}

// NewKeys takes keys of 32 random bytes each. The first key encrypts, all keys decrypt. To
// change keys, add the new key at the end everywhere, then move it to the front, and
// remove the old key once all tokens have been saved anew.
//
// NewKeys returns an error if a key is not 32 bytes long, consists of zeros or is
// repeated. The error does not quote a key.
func NewKeys(keys ...[]byte) (*Keys, error) {
	k, err := seal.New(keys)
	if err != nil {
		return nil, quiet.New(where, "keys: "+err.Error())
	}
	return &Keys{keys: k}, nil
}

// ReadingPlaintext returns keys with which a store also loads tokens that are not
// encrypted yet. The next save encrypts such a token. Use it only while an existing store
// changes over to encryption: during that time, anyone who can write to the store can
// plant any token.
func (k *Keys) ReadingPlaintext() *Keys {
	if k == nil {
		return nil
	}
	return &Keys{keys: k.keys, plaintext: true}
}

// Format prints no key, whatever the verb.
func (k *Keys) Format(f fmt.State, verb rune) { quiet.Format(f, verb, "tokenstore.Keys") }

// Encrypted returns a store that keeps the token in another store, encrypted with
// AES-256-GCM and bound to a provider and a user. The application chooses both names, for
// example "github" and "10001". Neither may be empty. If a token was stored for another
// provider or another user, LoadToken returns an error.
//
// The inner store gets a token whose AccessToken is the encrypted text, and no other
// field. The result is an [oauth2login.TokenLocker] if store is one. Two results are equal
// if their stores are equal (==) and their keys, provider and user are the same.
//
// Encrypted can't detect that an old value was put back into the inner store. See
// docs/tokens.md.
func Encrypted(store oauth2login.TokenStore, keys *Keys, provider, user string) oauth2login.TokenStore {
	e := encrypted{store, keys, provider, user}
	if _, ok := store.(oauth2login.TokenLocker); ok {
		return encryptedLocker{e}
	}
	return e
}

type encrypted struct {
	inner          oauth2login.TokenStore
	keys           *Keys
	provider, user string
}

type encryptedLocker struct{ encrypted }

var (
	_ oauth2login.TokenStore  = encrypted{}
	_ oauth2login.TokenLocker = encryptedLocker{}
)

// check reports a mistake in the arguments of Encrypted.
func (e encrypted) check() error {
	switch {
	case e.inner == nil:
		return encryptedError("there is no store")
	case e.keys == nil || e.keys.keys == nil:
		return encryptedError("there are no keys: call NewKeys")
	case e.provider == "" || e.user == "":
		return encryptedError("the provider and the user must have names")
	}
	return nil
}

func encryptedError(text string, causes ...error) error {
	return quiet.New(where, "encrypted: "+text, causes...)
}

// LoadToken implements [oauth2login.TokenStore].
func (e encrypted) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	tok, err := e.inner.LoadToken(ctx)
	if tok == nil || err != nil {
		return nil, err
	}
	text, ok := strings.CutPrefix(tok.AccessToken, sealedPrefix)
	switch {
	case ok:
		return e.open(text)
	case e.keys.plaintext:
		return tok, nil
	}
	return nil, encryptedError("the stored token is not encrypted; see Keys.ReadingPlaintext")
}

// SaveToken implements [oauth2login.TokenStore].
func (e encrypted) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if err := e.check(); err != nil {
		return err
	}
	data, err := Marshal(tok)
	if err != nil {
		return err
	}
	sealed := e.keys.keys.Seal(data, "token", e.provider, e.user)
	return e.inner.SaveToken(ctx, &oauth2.Token{AccessToken: sealedPrefix + base64.RawURLEncoding.EncodeToString(sealed)})
}

// DeleteToken implements [oauth2login.TokenStore].
func (e encrypted) DeleteToken(ctx context.Context) error {
	if err := e.check(); err != nil {
		return err
	}
	return e.inner.DeleteToken(ctx)
}

// LockToken implements [oauth2login.TokenLocker].
func (e encryptedLocker) LockToken(ctx context.Context, hold time.Duration) (unlock func(), err error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	return e.inner.(oauth2login.TokenLocker).LockToken(ctx, hold)
}

// open decrypts the text that SaveToken stored.
func (e encrypted) open(text string) (*oauth2.Token, error) {
	// The decoder would ignore line breaks. No store adds line breaks, so a text that
	// contains one is refused.
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err == nil && !strings.ContainsAny(text, "\r\n") {
		var data []byte
		if data, err = e.keys.keys.Open(sealed, "token", e.provider, e.user); err == nil {
			return Unmarshal(data)
		}
	}
	switch {
	case errors.Is(err, seal.ErrUnknownKey):
		return nil, encryptedError("the stored token is encrypted with a key that is not one of Keys", err)
	case errors.Is(err, seal.ErrAltered):
		return nil, encryptedError("the stored token is not this user's at this provider, or was altered", err)
	}
	return nil, encryptedError("the stored token is damaged")
}

// Format prints the provider only, whatever the verb.
func (e encrypted) Format(f fmt.State, verb rune) {
	quiet.Format(f, verb, fmt.Sprintf("tokenstore.Encrypted(%s)", e.provider))
}
