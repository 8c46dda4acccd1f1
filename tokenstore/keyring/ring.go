package keyring

import (
	"context"
	"errors"
	"fmt"

	"github.com/zalando/go-keyring"
)

// UnavailableError reports that the system's keyring can't be used here and now. Perhaps
// there is no keyring, as in most containers and over most SSH connections. Or the keyring
// is locked, or does not answer. A program can keep the token in a file instead. The error
// holds no secret.
type UnavailableError struct {
	Reason string // for people
	Err    error  // the context's error, or errors.ErrUnsupported; otherwise nil
}

func (e *UnavailableError) Error() string { return "tokenstore/keyring: " + e.SafeText() }

// SafeText lets package oauth2login print the text.
func (e *UnavailableError) SafeText() string { return "the keyring can't be used: " + e.Reason }

// Unwrap returns Err.
func (e *UnavailableError) Unwrap() error { return e.Err }

// mismatchError reports a file that the key can't decrypt.
type mismatchError struct {
	path string
	err  error
}

func (e *mismatchError) Error() string { return "tokenstore/keyring: " + e.SafeText() }
func (e *mismatchError) Unwrap() error { return e.err }

// SafeText lets package oauth2login print the text.
func (e *mismatchError) SafeText() string {
	return fmt.Sprintf("%q does not belong to the key in the keyring, or was altered; log in again", e.path)
}

// errDamaged reports an entry in the keyring that is not a key of this package.
var errDamaged error = storeError("the keyring's entry is not a key of this store; remove it and log in again")

// storeError is the text of an error without a secret.
type storeError string

func (e storeError) Error() string    { return "tokenstore/keyring: " + string(e) }
func (e storeError) SafeText() string { return string(e) }

// turn allows one call to the keyring at a time. With concurrent calls, the library would
// take any D-Bus signal for the end of its own prompt.
var turn = make(chan struct{}, 1)

// call runs the function do, which takes no context. If ctx ends first, call returns, and
// the function continues in the background. A later call waits until that function has
// returned, or until its own context ends.
func call(ctx context.Context, do func() (string, error)) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", ended(err)
	}
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return "", ended(ctx.Err())
	}
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-turn }()
		text, err := contained(do)
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return "", ended(ctx.Err())
	}
}

// contained runs the function do. It turns a panic of the library into an error, because
// the service on the bus may not be a keyring.
func contained(do func() (string, error)) (text string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &UnavailableError{Reason: "its answers are not those of a keyring"}
		}
	}()
	if err := reachable(); err != nil {
		return "", err
	}
	text, err = do()
	if err == nil || errors.Is(err, keyring.ErrNotFound) {
		return text, nil
	}
	unavailable := &UnavailableError{Reason: reason(err)}
	if errors.Is(err, keyring.ErrUnsupportedPlatform) {
		unavailable.Err = errors.ErrUnsupported
	}
	return "", unavailable
}

func ended(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &UnavailableError{"it does not answer in time; it may be locked", err}
	}
	return fmt.Errorf("tokenstore/keyring: %w", err)
}

// getSecret returns the secret of an entry, or "" if the entry does not exist.
func getSecret(ctx context.Context, service, account string) (string, error) {
	return call(ctx, func() (string, error) { return keyring.Get(service, account) })
}

func setSecret(ctx context.Context, service, account, secret string) error {
	_, err := call(ctx, func() (string, error) { return "", keyring.Set(service, account, secret) })
	return err
}

// deleteSecret removes an entry. If the entry does not exist, it returns nil.
func deleteSecret(ctx context.Context, service, account string) error {
	_, err := call(ctx, func() (string, error) { return "", keyring.Delete(service, account) })
	return err
}
