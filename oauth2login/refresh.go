package oauth2login

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"golang.org/x/oauth2"
)

// fly runs a flight for all callers that wait for it. No caller can cancel the flight.
// The application's code may panic in it, or end its goroutine. Both are reported as
// ordinary errors.
func (f *flight) fly() {
	var next *held
	err := f.source.p.errorf("token: code of the application ended the goroutine that called it", ErrUnavailable)
	defer func() {
		if r := recover(); r != nil {
			f.source.p.opts.Logger.Error("oauth2login: code of the application panicked", "stack", string(debug.Stack()))
			err = f.source.p.errorf("token: code of the application panicked", ErrUnavailable)
		}
		f.land(next, err)
	}()
	if f.after != nil {
		<-f.after.done
	}
	next, err = f.update()
}

func (f *flight) land(next *held, err error) {
	f.err = err
	defer f.arrive(next) // runs even if the log handler ends the goroutine
	f.log()
}

func (f *flight) arrive(next *held) {
	f.shared.landed(f, next, f.err)
	f.result.Store(next)
	if next == nil && f.isReady {
		f.result.Store(f.seen) // f.seen was handed out and is still good
	}
	if !f.isReady {
		close(f.ready)
	}
	close(f.done)
	f.source.release(f.shared)
}

// log writes one line for the operator after each failed attempt.
func (f *flight) log() {
	if f.err == nil || f.look != nil || errors.Is(f.err, ErrLoginRequired) || errors.Is(f.err, ErrClientCredentials) {
		return // only the user can help, or callFailed has logged the error
	}
	f.source.p.opts.Logger.Warn("oauth2login: a token could not be refreshed or saved", "class", classOf(f.err), "error", f.err)
}

// publish hands out h before the flight ends, if h has not expired yet. Then waiting
// callers can go on with h. publish does nothing if the API rejected the token.
func (f *flight) publish(h *held) {
	f.seen = h
	if f.isReady || f.forced || h.isExpired(time.Now()) {
		return
	}
	f.isReady = true
	f.result.Store(h)
	close(f.ready)
}

// isGood reports whether h needs no refresh.
func (f *flight) isGood(h *held) bool {
	return !h.unsaved && !h.isDue(time.Now()) && !(f.forced && h.is(f.base))
}

// update returns the token that follows base: a token that another process has stored, or
// the answer to a refresh. It returns both a token and an error if the token could not be
// saved.
func (f *flight) update() (*held, error) {
	h := f.base
	if f.source.store == nil {
		return f.refreshAndSave(h)
	}
	if !h.unsaved {
		var err error
		if h, err = f.load(h); err != nil {
			return nil, err
		}
		if f.isGood(h) {
			return h, nil
		}
		f.publish(h)
		if f.look != nil {
			return h, f.look
		}
		if err := f.checkRefreshable(h); err != nil {
			return nil, err
		}
	}
	// If the lock is already too old when the refresh request could begin, the lock is
	// released and taken again.
	for deadline := time.Now().Add(2 * f.source.p.hold()); ; {
		next, again, err := f.updateLocked(h)
		if !again || time.Now().After(deadline) {
			return next, err
		}
	}
}

// checkRefreshable returns an error if h can't be refreshed. Then no lock is needed.
func (f *flight) checkRefreshable(h *held) error {
	if err := f.shared.refused(h); err != nil {
		return err
	}
	if h.refreshToken() == "" {
		return f.source.noToken()
	}
	return nil
}

func (s *TokenSource) noToken() error {
	return s.p.errorf("token: there is none that is valid, and no refresh token", ErrLoginRequired, errNoRefreshToken)
}

// updateLocked is one attempt under the lock. again means that the lock was too old.
func (f *flight) updateLocked(h *held) (next *held, again bool, err error) {
	unlock, since, newer, err := f.lock(h)
	if err != nil || newer != nil {
		return newer, false, err
	}
	defer func() { f.unlockAfterSaves(unlock, since) }()
	h, settled, err := f.settle(h)
	if settled {
		return h, false, err
	}
	if now := time.Now(); now.Sub(since) > maxLockAge || now.Round(0).Sub(since.Round(0)) > maxLockAge {
		return nil, true, f.source.p.errorf("token store: it is too slow", ErrTokenStore)
	}
	next, err = f.refreshAndSave(h)
	return next, false, err
}

// settle runs under the store's lock. It reads the token again, or saves one that is not
// saved yet. settled means that no refresh is needed, or that err is set.
func (f *flight) settle(h *held) (next *held, settled bool, err error) {
	if h.unsaved && h.over != nil {
		if h, err = f.unlessOvertaken(h); err != nil || f.isGood(h) || f.saveOnly && !h.unsaved {
			return h, true, err
		}
	}
	switch {
	case !h.unsaved:
		h, err = f.load(h)
		return h, err != nil || f.isGood(h), err
	case f.saveOnly, h.tok == nil, !h.isDue(time.Now()) && !f.forced:
		err = f.save(h.tok)
		return h.afterSave(err), true, err
	}
	return h, false, nil
}

// unlessOvertaken reads the store for h, a refreshed token that could not be saved. If
// the store still contains the token that h replaces, or can't be read, it returns h. If
// the store contains another token, it returns that token: another process has saved a
// newer token, or a save that timed out has succeeded after all. If the user has logged
// out, it returns no token and the error.
func (f *flight) unlessOvertaken(h *held) (*held, error) {
	seen, err := f.load(h)
	switch {
	case errors.Is(err, ErrLoginRequired):
		return new(held), err
	case err != nil, h.supersedes(seen):
		return h, nil
	}
	return seen, nil
}

// lock waits for the store's lock. since is the time when it got the lock. While it
// waits, it reads the store from time to time. If another process has stored a good
// token, lock returns this token as newer and stops waiting. On a read-only file system
// there is no lock, and the refresh goes on without one.
func (f *flight) lock(h *held) (unlock func(), since time.Time, newer *held, err error) {
	locker, ok := f.source.store.(TokenLocker)
	if !ok {
		return func() {}, time.Now(), nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.source.p.hold())
	defer cancel()
	locked := callLock(ctx, locker, f.source.p.hold())
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case r := <-locked:
			unlock, err := f.locked(r)
			return unlock, r.at, nil, err
		case <-look.C:
			if len(locked) > 0 {
				continue // the lock was granted, and its age counts
			}
			if seen := f.stored(h); seen != nil {
				go f.giveBack(locked)
				return nil, since, seen, nil
			}
		case <-ctx.Done():
			go f.giveBack(locked)
			return nil, since, nil, f.source.storeFailed("lock", ctx.Err())
		}
	}
}

type lockResult struct {
	unlock func()
	at     time.Time
	err    error
}

// callLock calls LockToken in its own goroutine, because LockToken may ignore its
// context.
func callLock(ctx context.Context, locker TokenLocker, hold time.Duration) <-chan lockResult {
	locked := make(chan lockResult, 1)
	go func() {
		unlock, err := wire.Await(context.WithoutCancel(ctx), func() (func(), error) { return locker.LockToken(ctx, hold) }, nil)
		locked <- lockResult{unlock, time.Now(), err}
	}()
	return locked
}

// giveBack releases a lock that is granted too late.
func (f *flight) giveBack(locked <-chan lockResult) {
	if r := <-locked; r.err == nil {
		f.unlock(r.unlock)
	}
}

// unlockAfterSaves releases the lock. A disk can stall for longer than a save may take,
// so a save that timed out may still be running. unlockAfterSaves waits for this save
// first, at most until the lock expires. Otherwise another process would load the old
// token, and send a refresh token that was used already.
func (f *flight) unlockAfterSaves(unlock func(), since time.Time) {
	if f.saves.Load() == 0 {
		unlock()
		return
	}
	go func() {
		for f.saves.Load() > 0 && time.Since(since) < f.source.p.hold() {
			time.Sleep(firstSavePause)
		}
		unlock()
	}()
}

// unlock releases a lock. If the release hangs or panics, callers still get the result of
// the flight.
func (f *flight) unlock(unlock func()) {
	_, err := callStore(func(context.Context) (struct{}, error) {
		unlock()
		return struct{}{}, nil
	})
	if err != nil {
		f.source.p.opts.Logger.Warn("oauth2login: the lock of a token could not be released", "error", quiet.DescribeForeign(err))
	}
}

// locked reads the result of LockToken. If the store is read-only, the refresh goes on
// without a lock.
func (f *flight) locked(r lockResult) (unlock func(), err error) {
	switch {
	case r.err == nil:
		return func() { f.unlock(r.unlock) }, nil
	case isReadOnly(r.err):
		f.warnReadOnly(r.err)
		return func() {}, nil
	}
	return nil, f.source.storeFailed("lock", r.err)
}

// stored returns a good token that another process has stored, or nil. It returns nil if
// h is a login or a logout that is not saved yet, because h is newer than any stored
// token.
func (f *flight) stored(h *held) *held {
	if h.unsaved && h.over == nil {
		return nil
	}
	if seen, err := f.load(h); err == nil && f.isGood(seen) && !h.supersedes(seen) {
		return seen
	}
	return nil
}

// refreshAndSave sends the refresh token of h and saves the answer. If the platform
// refuses the refresh token, another process may have used it. Then refreshAndSave looks
// for that process's new token in the store. Without a lock, the new token may arrive
// there a little later.
func (f *flight) refreshAndSave(h *held) (*held, error) {
	if err := f.checkRefreshable(h); err != nil {
		return nil, err
	}
	if !f.source.p.sending.begin() {
		return nil, f.source.p.shuttingDown("refresh")
	}
	defer f.source.p.sending.end()
	next, err := f.refresh(h)
	switch {
	case f.source.store == nil:
		return next, err
	case err == nil:
		err := f.save(next.tok)
		return next.afterSave(err), err
	case !isRefused(err):
		return nil, err
	}
	if newer := f.awaitNewer(h); newer != nil && f.isGood(newer) && !h.supersedes(newer) {
		return newer, nil
	}
	return nil, err
}

// refresh sends the refresh token of h. No caller can cancel the request: it ends with the
// answer or at the time-out. If the answer has no refresh token, x/oauth2 keeps the old one.
func (f *flight) refresh(h *held) (*held, error) {
	p := f.source.p
	ctx, cancel := context.WithTimeout(context.Background(), p.opts.Timeout)
	defer cancel()
	f.asked = h.refreshToken()
	begun := time.Now()
	tok, err := p.OAuth2().TokenSource(p.ClientContext(ctx), &oauth2.Token{RefreshToken: f.asked}).Token()
	if err != nil {
		err = p.refreshFailed(ctx, err)
	}
	p.observe(ctx, "refresh", begun, err)
	if err != nil {
		return nil, err
	}
	next := f.source.hold(tok)
	next.forced, next.saved = f.forced, h.saved
	switch {
	case h.unsaved:
		next.over = h.over
	case f.source.store != nil:
		next.over = h
	}
	return next, nil
}

// refreshFailed explains why a refresh failed.
func (p *Provider) refreshFailed(ctx context.Context, err error) error {
	err = p.callFailed(ctx, "refresh", err)
	re, ok := isRefusal(err)
	if !ok || errors.Is(err, ErrClientCredentials) || p.mayBeStyle(re) {
		return err
	}
	// An OAuth server refuses with status 400 or 401 (RFC 6749, section 5.2). An answer
	// with another status and without an error code is from a firewall or another
	// program. Some of these programs send the text of the status as the error code.
	if re.Response != nil && re.Response.StatusCode != http.StatusBadRequest &&
		(re.ErrorCode == "" || re.ErrorCode == http.StatusText(re.Response.StatusCode)) {
		return p.errorf(fmt.Sprintf("refresh: the answer, status %d, is none of OAuth", re.Response.StatusCode), ErrUnavailable, err)
	}
	// "invalid_grant: The provided authorization grant … or refresh token is invalid,
	// expired, revoked …" https://www.rfc-editor.org/rfc/rfc6749#section-5.2
	// Some providers use other codes. Whatever the code, only a new login brings another
	// refresh token.
	text := "refresh: refused by the provider: the user has to log in again"
	if code := quiet.Code(re.ErrorCode); code != "" {
		text += " (" + code + ")"
	}
	return p.errorf(text, ErrLoginRequired, err)
}

// isRefused reports whether the provider refused a refresh token.
func isRefused(err error) bool {
	_, answered := errors.AsType[*oauth2.RetrieveError](err)
	return answered && errors.Is(err, ErrLoginRequired)
}

// callStore calls a store within storeLimit. It uses another goroutine, because the store
// may hang, panic, or end its goroutine.
func callStore[T any](call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), storeLimit)
	defer cancel()
	return wire.Await(ctx, func() (T, error) { return call(ctx) }, nil)
}

// load returns the stored token. It returns h if the store has no token yet, or only an
// older one. If a stored token was deleted, the error is ErrLoginRequired.
func (f *flight) load(h *held) (*held, error) {
	s := f.source
	tok, err := callStore(s.store.LoadToken)
	if err != nil {
		return nil, s.storeFailed("load", err)
	}
	if tok == nil || tok.AccessToken == "" {
		if h.saved {
			return nil, s.p.errorf("token: no longer stored: the user has logged out", ErrLoginRequired)
		}
		return h, nil
	}
	stored := s.hold(tok)
	stored.saved = true
	if h.tok != nil && stored.isDue(time.Now()) && tok.Expiry.Before(h.tok.Expiry) {
		return h, nil // the store is a replica that lags behind: its token was refreshed already
	}
	if stored.is(h) {
		stored.tok, stored.forced = h.tok, h.forced // callers compare tokens by their address
	}
	return stored, nil
}

const (
	// Without a lock, another process may have used the refresh token and not saved its
	// answer yet. So the store is read again, at most rereads times. The pause before
	// each read doubles. The pauses add up to 1.5 seconds.
	rereads     = 4
	firstReread = 100 * time.Millisecond
)

// awaitNewer reads the store until it contains another token than h. If none appears, it
// returns nil. With a lock it reads only once.
func (f *flight) awaitNewer(h *held) *held {
	_, locked := f.source.store.(TokenLocker)
	wait := firstReread
	for try := 0; ; try++ {
		if newer, err := f.load(h); err == nil && !newer.is(h) {
			return newer
		}
		if locked || try == rereads {
			return nil
		}
		time.Sleep(wait)
		wait *= 2
	}
}

// save saves a token that only this process has, or deletes the stored one if tok is nil.
// It tries again until saveLimit. Meanwhile the lock is held, so that no other process
// can use the old refresh token.
func (f *flight) save(tok *oauth2.Token) error {
	s := f.source
	pause := firstSavePause
	for deadline := time.Now().Add(saveLimit); ; pause *= 2 {
		f.saves.Add(1)
		_, err := callStore(func(ctx context.Context) (struct{}, error) {
			defer f.saves.Add(-1)
			if tok == nil {
				return struct{}{}, s.store.DeleteToken(ctx)
			}
			return struct{}{}, s.store.SaveToken(ctx, tok)
		})
		if err == nil {
			return nil
		}
		pause := pause + rand.N(pause)
		if isReadOnly(err) {
			f.warnReadOnly(err)
			return s.storeFailed("save", err)
		}
		if time.Now().Add(pause + storeLimit).After(deadline) {
			return s.storeFailed("save", err)
		}
		time.Sleep(pause)
	}
}

func (h *held) afterSave(err error) *held {
	next := *h
	next.saved, next.unsaved = h.saved || err == nil, err != nil
	if err == nil {
		next.over = nil
	}
	return &next
}

func (s *TokenSource) storeFailed(what string, err error) error {
	return s.p.errorf("token store: "+what+": "+quiet.DescribeForeign(err), err, ErrTokenStore)
}

// isReadOnly reports whether err means that this process can't lock or write the store.
func isReadOnly(err error) bool {
	return errors.Is(err, fs.ErrPermission) || isReadOnlyFS(err)
}

// warnReadOnly logs once that refreshed tokens live in this process only.
func (f *flight) warnReadOnly(err error) {
	f.source.p.readOnly.Do(func() {
		f.source.p.opts.Logger.Warn("oauth2login: the token store can't be written; refreshed tokens live in this process only", "error", quiet.DescribeForeign(err))
	})
}
