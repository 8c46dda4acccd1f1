package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/keyring"
	"golang.org/x/oauth2"
)

// The stores, as --store names them.
const (
	inKeyring = "keyring"
	inFile    = "file"
)

const (
	// unlockTimeout limits how long a command waits for the user to unlock the keyring.
	unlockTimeout = time.Minute

	// clearTimeout limits how long a logout waits for the keyring. It must be below the 3
	// seconds that package oauth2login gives a store.
	clearTimeout = 2 * time.Second

	// unlockHint is how long a command waits before it asks the user to unlock the keyring.
	unlockHint = 2 * time.Second

	// minimumLife is how long a token is still valid when a command begins. Tokens with a
	// short lifetime are an exception: see withMinimumLife.
	minimumLife = time.Minute
)

// purpose is what a command opens the store for.
type purpose int

const (
	toWork purpose = iota
	toLogIn
	toLogOut
)

type tokenStore interface {
	oauth2login.TokenStore
	oauth2login.TokenLocker
}

// openStore opens the store of the login. The first login picks the keyring if it works,
// and otherwise the file. Later commands use the same store, so a locked keyring is not
// mistaken for a missing login.
func (s *session) openStore(ctx context.Context, say *prompter, to purpose) (err error) {
	switch s.Store {
	case inFile:
		return s.openFile(ctx, to)
	case inKeyring:
		err = s.openKeyring(ctx, say, to)
		if _, unavailable := errors.AsType[*keyring.UnavailableError](err); unavailable {
			err = fmt.Errorf("%w; or log in with --store file", err)
		}
		return err
	case "":
	default:
		return usagef("--store is keyring or file, not %s", s.Store)
	}
	if to == toLogIn {
		err = s.openKeyring(ctx, say, to)
		unavailable, ok := errors.AsType[*keyring.UnavailableError](err)
		if !ok {
			s.Store = inKeyring
			return err
		}
		if _, err := fmt.Fprintf(say, "No keyring here: %s. The login is kept in a file.\n", oneLine(unavailable.Reason)); err != nil {
			return err
		}
	}
	s.Store = inFile
	return s.openFile(ctx, to)
}

// openFile opens the file. Before a login it also reads the file. If the file can't be
// used, the user learns that before logging in.
func (s *session) openFile(ctx context.Context, to purpose) error {
	file, err := tokenstore.NewFile(s.path(inFile))
	if err != nil {
		return err
	}
	s.store = file
	if to == toLogIn {
		_, err = file.LoadToken(ctx)
	}
	return err
}

// openKeyring opens the keyring. It waits for somebody to unlock it. A logout does not.
func (s *session) openKeyring(ctx context.Context, say *prompter, to purpose) error {
	store, err := keyring.New("shangcloud", s.path(inKeyring))
	if err != nil {
		return err
	}
	s.store = forgettingStore{store}
	if to == toLogOut {
		return nil
	}
	hint := time.AfterFunc(unlockHint, func() {
		_, _ = fmt.Fprintln(say, "Waiting for the keyring: unlock it. Ctrl-C gives up.")
	})
	defer hint.Stop()
	ctx, cancel := context.WithTimeout(ctx, unlockTimeout)
	defer cancel()
	return store.Check(ctx)
}

// forgettingStore is a keyring store that can be deleted while the keyring can't be used.
type forgettingStore struct{ *keyring.Store }

// DeleteToken implements [oauth2login.TokenStore]. The file is removed first: a key that is
// left opens only an older copy of it.
func (s forgettingStore) DeleteToken(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clearTimeout)
	defer cancel()
	err := s.Store.DeleteToken(ctx)
	if _, unavailable := errors.AsType[*keyring.UnavailableError](err); unavailable {
		return nil
	}
	return err
}

// path returns the file of a store. Each deployment and client has a separate file. So no
// setting can send a token to a deployment that did not issue the token.
func (s *session) path(store string) string {
	sum := sha256.Sum256([]byte(s.BaseURL + "\n" + s.ClientID))
	name := "token-" + hex.EncodeToString(sum[:8])
	if store == inKeyring {
		return filepath.Join(s.dir, name+".encrypted")
	}
	return filepath.Join(s.dir, name+".json")
}

// clearOther removes the login from the store that is not in use.
func (s *session) clearOther(ctx context.Context) error {
	other := inFile
	if s.Store == inFile {
		other = inKeyring
	}
	path := s.path(other)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if other == inFile {
		file, err := tokenstore.NewFile(path)
		if err != nil {
			return err
		}
		return file.DeleteToken(ctx)
	}
	store, err := keyring.New("shangcloud", path)
	if err != nil {
		return err
	}
	return forgettingStore{store}.DeleteToken(ctx)
}

// withMinimumLife is a store whose tokens expire early: by minimumLife, or by half of their
// lifetime if that is shorter. So a token that a command uses or prints stays valid for a
// while.
type withMinimumLife struct{ tokenStore }

// LoadToken implements [oauth2login.TokenStore].
func (s withMinimumLife) LoadToken(ctx context.Context) (*oauth2.Token, error) {
	tok, err := s.tokenStore.LoadToken(ctx)
	if tok == nil || err != nil || tok.Expiry.IsZero() {
		return tok, err
	}
	early := minimumLife
	if tok.ExpiresIn > 0 {
		early = min(early, time.Duration(tok.ExpiresIn)*time.Second/2)
	}
	shortened := *tok
	shortened.Expiry = tok.Expiry.Add(-early)
	return &shortened, nil
}
