package keyring

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"golang.org/x/oauth2"
)

// Store keeps one user's token, encrypted, in a file, and the key in the system's keyring.
// [New] makes it. It is safe for concurrent use by any number of goroutines and processes
// of one machine and user.
//
// Make one Store for each path and share it: token sources share their work on the same
// Store only.
type Store struct {
	service, path string
	file          *tokenstore.File

	// creating is used only for its lock, which guards the creation of the key.
	creating *tokenstore.File

	// last is the key that was used last. SaveToken uses it while the keyring is locked.
	last atomic.Pointer[tokenstore.Keys]
}

var (
	_ oauth2login.TokenStore  = (*Store)(nil)
	_ oauth2login.TokenLocker = (*Store)(nil)
)

// New returns a store in the file at path, with the key in the keyring. The entry of the
// keyring is named after service, which is the name of the program, and after the absolute
// path. Nothing is read or written yet.
//
// The file is a [tokenstore.File], whose rules and options apply. Neither service nor path
// may be empty or contain control characters. On systems without file locks the error
// matches [errors.ErrUnsupported].
func New(service, path string, opts ...tokenstore.FileOption) (*Store, error) {
	file, err := tokenstore.NewFile(path, opts...)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("tokenstore/keyring: %w", err)
	}
	creating, err := tokenstore.NewFile(path+".key", opts...)
	if err != nil {
		return nil, err
	}
	// Some keyrings pass these names to system tools, as lines or as arguments.
	if service == "" || strings.ContainsFunc(service+path, unicode.IsControl) {
		return nil, errors.New("tokenstore/keyring: the name of the service is empty, or it or the path has control characters")
	}
	return &Store{service: service, path: path, file: file, creating: creating}, nil
}

// Check reports whether the store can be used here and now: that the keyring answers, and
// that the file is safe. A person may be asked to unlock the keyring meanwhile, so ctx
// should leave time for that. An [*UnavailableError] means that the keyring can't be used.
func (s *Store) Check(ctx context.Context) error {
	if err := s.ready(); err != nil {
		return err
	}
	if _, err := s.file.LoadToken(ctx); err != nil {
		return err
	}
	_, err := s.key(ctx)
	return err
}

func (s *Store) ready() error {
	if s == nil || s.file == nil {
		return errors.New("tokenstore/keyring: a keyring.Store is made by New")
	}
	return nil
}

// key returns the key of the keyring, or nil if it has none.
func (s *Store) key(ctx context.Context) (*tokenstore.Keys, error) {
	text, err := getSecret(ctx, s.service, s.path)
	if err != nil || text == "" {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errDamaged
	}
	keys, err := tokenstore.NewKeys(key)
	if err != nil {
		return nil, errDamaged
	}
	s.last.Store(keys)
	return keys, nil
}

// LoadToken implements [oauth2login.TokenStore]. If there is no file, there is no token. If
// there is no key, there is no token either, because nobody can decrypt the file any more.
// If the key can't decrypt the file, LoadToken returns an error.
func (s *Store) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	tok, err := s.load(ctx)
	if _, mismatch := errors.AsType[*mismatchError](err); mismatch {
		// Perhaps another process has logged out and in again meanwhile, so that the key
		// and the file did not belong together.
		tok, err = s.load(ctx)
	}
	return tok, err
}

func (s *Store) load(ctx context.Context) (*oauth2.Token, error) {
	if tok, err := s.file.LoadToken(ctx); tok == nil || err != nil {
		return nil, err
	}
	keys, err := s.key(ctx)
	if keys == nil || err != nil {
		return nil, err
	}
	tok, err := s.encrypted(keys).LoadToken(ctx)
	if err != nil && ctx.Err() == nil {
		err = &mismatchError{s.path, err}
	}
	return tok, err
}

// encrypted binds the token to the service and the path, so that the file of another login
// is refused.
func (s *Store) encrypted(keys *tokenstore.Keys) oauth2login.TokenStore {
	return tokenstore.Encrypted(s.file, keys, s.service, s.path)
}

// SaveToken implements [oauth2login.TokenStore]. It replaces the token, and makes a key if
// the keyring has none. A nil token is an error.
//
// If the keyring can't be used, SaveToken uses the key that this Store has used last: a
// refreshed token is not lost because the screen was locked.
func (s *Store) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	if err := s.ready(); err != nil {
		return err
	}
	keys, err := s.key(ctx)
	if keys == nil && err == nil {
		keys, err = s.create(ctx)
	}
	if _, unavailable := errors.AsType[*UnavailableError](err); unavailable && s.last.Load() != nil {
		keys, err = s.last.Load(), nil
	}
	if err != nil {
		return err
	}
	return s.encrypted(keys).SaveToken(ctx, tok)
}

// create makes a key, unless another process has made one meanwhile.
func (s *Store) create(ctx context.Context) (*tokenstore.Keys, error) {
	unlock, err := s.creating.LockToken(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if keys, err := s.key(ctx); keys != nil || err != nil {
		return keys, err
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	if err := setSecret(ctx, s.service, s.path, base64.StdEncoding.EncodeToString(key)); err != nil {
		return nil, err
	}
	// Use the key that the keyring returns: perhaps it has not kept the new key.
	keys, err := s.key(ctx)
	if keys == nil && err == nil {
		err = &UnavailableError{Reason: "it does not keep what it is given"}
	}
	return keys, err
}

// DeleteToken implements [oauth2login.TokenStore]. It removes the file and then the key, so
// that a copy of the file is useless. If the key can't be removed, DeleteToken returns an
// error, although the token is gone.
func (s *Store) DeleteToken(ctx context.Context) error {
	if err := s.ready(); err != nil {
		return err
	}
	if err := s.file.DeleteToken(ctx); err != nil {
		return err
	}
	s.last.Store(nil)
	return deleteSecret(ctx, s.service, s.path)
}

// LockToken implements [oauth2login.TokenLocker] with the lock of the file.
func (s *Store) LockToken(ctx context.Context, hold time.Duration) (unlock func(), err error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	return s.file.LockToken(ctx, hold)
}

// Format prints the path, whatever the verb.
func (s *Store) Format(f fmt.State, _ rune) {
	path := "none"
	if s != nil {
		path = s.path
	}
	_, _ = io.WriteString(f, "keyring.Store("+path+")")
}
