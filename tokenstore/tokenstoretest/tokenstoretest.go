// Package tokenstoretest holds token stores to the contract of
// [shangcloud.TokenStore] and, if they are one, of [shangcloud.TokenLocker]:
//
//	func TestStore(t *testing.T) {
//		tokenstoretest.Run(t, func(t *testing.T) (a, b shangcloud.TokenStore) {
//			db := openTestDatabase(t)
//			user := newTestUser(t, db)
//			return NewStore(db, user), NewStore(db, user)
//		})
//	}
//
// Run it with the race detector. What it can't see is what happens when a process
// dies: that the lock ends by itself, and that no half of a token is left. A store
// for earnest has tests of its own for that.
package tokenstoretest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"golang.org/x/oauth2"
)

// patience is how long a call may take that has no reason to wait.
var patience = 5 * time.Second

const (
	// queueing is how long a call may take that lines up behind many others.
	queueing = time.Minute

	// shortly is how long a call is watched that has to wait.
	shortly = 100 * time.Millisecond
)

// Run tests a store. Each subtest calls open once, for two values of the store, as
// two processes would have them: on one backend, for one user, of whom no token is
// stored yet. They may be one and the same value if the store is a lone process's.
// A store is a [shangcloud.TokenLocker] if both values are.
//
// The tokens are made up, and no two tests use the same.
func Run(t *testing.T, open func(t *testing.T) (a, b shangcloud.TokenStore)) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s *stores)
	}{
		{"Miss", testMiss},
		{"RoundTrip", testRoundTrip},
		{"Replace", testReplace},
		{"LoggedOut", testLoggedOut},
		{"LoadedTokensStayAsTheyAre", testAlias},
		{"Concurrent", testConcurrent},
		{"Cancelled", testCancelled},
		{"NothingSecretIsPrinted", testSecrets},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newStores(t, open)) })
	}
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s *lockers)
	}{
		{"Exclusion", testExclusion},
		{"WaitObeysContext", testLockContext},
		{"HeldAfterContext", testLockOutlivesContext},
		{"UnlockWakes", testUnlockWakes},
	} {
		t.Run("Lock/"+test.name, func(t *testing.T) {
			s := newStores(t, open)
			a, ok := s.a.(shangcloud.TokenLocker)
			b, ok2 := s.b.(shangcloud.TokenLocker)
			if !ok || !ok2 {
				t.Skip("the store is no shangcloud.TokenLocker, and need not be")
			}
			test.run(t, &lockers{s, a, b})
		})
	}
}

type stores struct {
	t    *testing.T
	a, b shangcloud.TokenStore
}

func newStores(t *testing.T, open func(t *testing.T) (a, b shangcloud.TokenStore)) *stores {
	t.Helper()
	a, b := open(t)
	if a == nil || b == nil {
		t.Fatal("open returned no store")
	}
	return &stores{t, a, b}
}

// limit gives a call as much time as it may take.
func (s *stores) limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.t.Context(), patience)
}

func (s *stores) save(store shangcloud.TokenStore, tok *oauth2.Token) bool {
	s.t.Helper()
	ctx, cancel := s.limit()
	defer cancel()
	if err := store.SaveToken(ctx, tok); err != nil {
		s.t.Errorf("SaveToken: %v", err)
		return false
	}
	return true
}

func (s *stores) load(store shangcloud.TokenStore) (*oauth2.Token, bool) {
	s.t.Helper()
	ctx, cancel := s.limit()
	defer cancel()
	tok, err := store.LoadToken(ctx)
	if err != nil {
		s.t.Errorf("LoadToken: %v", err)
		return nil, false
	}
	return tok, true
}

// check loads from store and compares.
func (s *stores) check(store shangcloud.TokenStore, want *oauth2.Token) {
	s.t.Helper()
	if got, ok := s.load(store); ok {
		if diff := difference(got, want); diff != "" {
			s.t.Errorf("LoadToken: %s", diff)
		}
	}
}

// difference tells in which field two tokens differ. An Expiry is one moment
// whatever its time zone, to the microsecond: more is more than databases keep.
func difference(got, want *oauth2.Token) string {
	switch {
	case got == nil:
		return "no token, though one was saved"
	case got.AccessToken != want.AccessToken:
		return fmt.Sprintf("AccessToken is %.40q, want %.40q", got.AccessToken, want.AccessToken)
	case got.TokenType != want.TokenType:
		return fmt.Sprintf("TokenType is %q, want %q", got.TokenType, want.TokenType)
	case got.RefreshToken != want.RefreshToken:
		return fmt.Sprintf("RefreshToken is %.40q, want %.40q", got.RefreshToken, want.RefreshToken)
	case got.Expiry.IsZero() != want.Expiry.IsZero() || got.Expiry.Sub(want.Expiry).Abs() >= time.Microsecond:
		return fmt.Sprintf("Expiry is %v, want %v", got.Expiry, want.Expiry)
	case got.ExpiresIn != want.ExpiresIn:
		return fmt.Sprintf("ExpiresIn is %d, want %d", got.ExpiresIn, want.ExpiresIn)
	}
	return ""
}

// newToken returns a token that is whole if [whole] says so.
func newToken() *oauth2.Token {
	secret := rand.Text()
	return &oauth2.Token{
		AccessToken:  "access-" + secret,
		TokenType:    "Bearer",
		RefreshToken: "refresh-" + secret,
		Expiry:       time.Now().Add(time.Hour).Truncate(time.Microsecond),
		ExpiresIn:    3600,
	}
}

func whole(tok *oauth2.Token) bool {
	return tok != nil && strings.TrimPrefix(tok.AccessToken, "access-") == strings.TrimPrefix(tok.RefreshToken, "refresh-")
}

func testMiss(t *testing.T, s *stores) {
	for range 2 {
		for _, store := range []shangcloud.TokenStore{s.a, s.b} {
			if tok, ok := s.load(store); ok && tok != nil {
				t.Error("LoadToken found a token where none was saved")
			}
		}
	}
}

func testRoundTrip(t *testing.T, s *stores) {
	var visible strings.Builder // RFC 6749, appendix A.12 and A.17: %x20-7E
	for c := '~'; c >= ' '; c-- {
		visible.WriteRune(c)
	}
	var long strings.Builder
	for long.Len() < 16<<10 {
		long.WriteString(rand.Text())
	}
	moment := time.Date(2031, 7, 9, 11, 22, 33, 456789000, time.UTC)
	for _, c := range []struct {
		name string
		tok  oauth2.Token
	}{
		{"all fields", oauth2.Token{AccessToken: "at", TokenType: "Bearer", RefreshToken: "rt", Expiry: moment, ExpiresIn: 3600}},
		{"access token only", oauth2.Token{AccessToken: "at"}},
		{"no expiry", oauth2.Token{AccessToken: "at", TokenType: "Bearer", RefreshToken: "rt"}},
		{"expired long ago", oauth2.Token{AccessToken: "at", RefreshToken: "rt", Expiry: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{"after 2038", oauth2.Token{AccessToken: "at", Expiry: time.Date(2106, 2, 8, 0, 0, 0, 0, time.UTC), ExpiresIn: 1 << 40}},
		{"another time zone", oauth2.Token{AccessToken: "at", Expiry: moment.In(time.FixedZone("Kathmandu", (5*60+45)*60))}},
		{"local time", oauth2.Token{AccessToken: "at", Expiry: time.Now().Add(time.Hour).Truncate(time.Microsecond)}},
		{"nanoseconds", oauth2.Token{AccessToken: "at", Expiry: moment.Add(999)}},
		{"no refresh token", oauth2.Token{AccessToken: "at", TokenType: "Bearer", Expiry: moment, ExpiresIn: 1}},
		{"type in small letters", oauth2.Token{AccessToken: "at", TokenType: "bearer"}},
		{"all characters", oauth2.Token{AccessToken: strings.ReplaceAll(visible.String(), " ", ""), RefreshToken: visible.String(), Expiry: moment}},
		{"Unicode", oauth2.Token{AccessToken: "at", RefreshToken: "令牌 🔑 é"}},
		{"16 KiB each", oauth2.Token{AccessToken: long.String(), RefreshToken: long.String()[1:], Expiry: moment}},
		{"short again", oauth2.Token{AccessToken: "a", RefreshToken: "r", Expiry: moment}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &stores{t, s.a, s.b}
			if s.save(s.a, &c.tok) {
				s.check(s.b, &c.tok)
				s.check(s.a, &c.tok)
			}
		})
	}
}

func testReplace(_ *testing.T, s *stores) {
	for _, store := range []shangcloud.TokenStore{s.a, s.b, s.b, s.a} {
		tok := newToken()
		if !s.save(store, tok) {
			return
		}
		s.check(s.a, tok)
		s.check(s.b, tok)
	}
}

// testLoggedOut saves no token. What is loaded then may be an empty one: SaveToken
// need not look at what it saves.
func testLoggedOut(t *testing.T, s *stores) {
	for _, store := range []shangcloud.TokenStore{s.a, s.b} {
		if !s.save(s.a, newToken()) || !s.save(store, nil) {
			return
		}
		if tok, ok := s.load(s.b); ok && tok != nil && *tok != (oauth2.Token{}) {
			t.Error("LoadToken finds a token after SaveToken was given nil")
		}
		tok := newToken()
		if s.save(s.b, tok) {
			s.check(s.a, tok)
		}
	}
}

// testAlias has a token in use while its successor is saved.
func testAlias(t *testing.T, s *stores) {
	first := newToken()
	want := *first
	if !s.save(s.a, first) {
		return
	}
	inUse, ok := s.load(s.b)
	if !ok || !s.save(s.a, newToken()) || !s.save(s.b, newToken()) {
		return
	}
	if diff := difference(first, &want); diff != "" {
		t.Errorf("a token that was saved is changed by saving another: %s", diff)
	}
	if diff := difference(inUse, &want); diff != "" {
		t.Errorf("a token that was loaded is changed by saving another: %s", diff)
	}
}

// testConcurrent has both stores save and load at the same time. Every token that
// is found must be one that was saved, whole.
func testConcurrent(t *testing.T, s *stores) {
	const workers, rounds = 4, 25
	var saved sync.Map
	save := func(store shangcloud.TokenStore) bool {
		tok := newToken()
		saved.Store(tok.AccessToken, *tok)
		return s.save(store, tok)
	}
	check := func(store shangcloud.TokenStore) bool {
		got, ok := s.load(store)
		if !ok {
			return false
		}
		if !whole(got) {
			t.Error("LoadToken found parts of two tokens, or none, while one is replaced by another")
			return false
		}
		want, known := saved.Load(got.AccessToken)
		if !known {
			t.Error("LoadToken found a token that was never saved")
			return false
		}
		wanted := want.(oauth2.Token)
		if diff := difference(got, &wanted); diff != "" {
			t.Errorf("LoadToken: %s", diff)
			return false
		}
		return true
	}
	if !save(s.a) {
		return
	}
	var wg sync.WaitGroup
	for _, store := range []shangcloud.TokenStore{s.a, s.b} {
		for range workers {
			wg.Go(func() {
				for i := 0; i < rounds && save(store); i++ {
				}
			})
			wg.Go(func() {
				for i := 0; i < rounds && check(store); i++ {
				}
			})
		}
	}
	wg.Wait()
	check(s.a)
	check(s.b)
}

func testCancelled(t *testing.T, s *stores) {
	tok := newToken()
	if !s.save(s.a, tok) {
		return
	}
	for name, call := range s.calls() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		if call(ctx) == nil {
			t.Errorf("%s succeeds with a context that is done", name)
		}
		if took := time.Since(start); took > patience {
			t.Errorf("%s takes %v with a context that is done", name, took)
		}
	}
	if got, ok := s.load(s.b); ok && !whole(got) {
		t.Error("a save that was given up leaves no whole token")
	}
}

// calls are those of the store that may fail.
func (s *stores) calls() map[string]func(ctx context.Context) error {
	calls := map[string]func(ctx context.Context) error{
		"LoadToken": func(ctx context.Context) error {
			_, err := s.a.LoadToken(ctx)
			return err
		},
		"SaveToken": func(ctx context.Context) error { return s.a.SaveToken(ctx, newToken()) },
	}
	if l, ok := s.a.(shangcloud.TokenLocker); ok {
		calls["LockToken"] = func(ctx context.Context) error {
			unlock, err := l.LockToken(ctx)
			if err == nil {
				unlock()
			}
			return err
		}
	}
	return calls
}

func testSecrets(t *testing.T, s *stores) {
	tok := newToken()
	if !s.save(s.a, tok) {
		return
	}
	s.load(s.a)
	check := func(what string, v any) {
		t.Helper()
		var texts []string
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			texts = append(texts, fmt.Sprintf(verb, v))
		}
		if text, err := json.Marshal(v); err == nil {
			texts = append(texts, string(text))
		}
		for _, secret := range []string{tok.AccessToken, tok.RefreshToken} {
			for _, form := range []string{
				secret,
				fmt.Sprintf("%x", secret),
				strings.Trim(fmt.Sprintf("%v", []byte(secret)), "[]"),
				strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(secret)), "[]byte{"), "}"),
			} {
				for _, text := range texts {
					if strings.Contains(text, form) {
						t.Errorf("%s prints a token", what)
						return
					}
				}
			}
		}
	}
	check("the store", s.a)
	check("the store", s.b)
	check("a struct with the store", struct{ S shangcloud.TokenStore }{s.a})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.a.SaveToken(ctx, tok); err != nil {
		check("an error of SaveToken", err)
	}
	if _, err := s.a.LoadToken(ctx); err != nil {
		check("an error of LoadToken", err)
	}
}

type lockers struct {
	*stores
	lockA, lockB shangcloud.TokenLocker
}

func (s *lockers) lock(l shangcloud.TokenLocker, limit time.Duration) (unlock func(), ok bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	unlock, err := l.LockToken(ctx)
	if err != nil {
		s.t.Errorf("LockToken: %v", err)
		return nil, false
	}
	if unlock == nil {
		s.t.Error("LockToken returned neither an error nor unlock")
		return nil, false
	}
	return unlock, true
}

// testExclusion lets many goroutines count in the stored token. If two of them
// hold the lock at once, or one does not see what the last one saved, a step is lost.
func testExclusion(t *testing.T, s *lockers) {
	const workers, rounds = 8, 10
	if !s.save(s.a, newToken()) {
		return
	}
	before, ok := s.load(s.a)
	if !ok {
		return
	}
	var inside atomic.Int32
	step := func(l shangcloud.TokenLocker, store shangcloud.TokenStore) bool {
		unlock, ok := s.lock(l, queueing)
		if !ok {
			return false
		}
		defer unlock()
		if inside.Add(1) != 1 {
			t.Error("two hold the lock at once")
		}
		defer inside.Add(-1)
		tok, ok := s.load(store)
		if !ok || tok == nil {
			return false
		}
		time.Sleep(time.Millisecond) // for others to come in, if they can
		next := *tok
		next.ExpiresIn++
		return s.save(store, &next)
	}
	var wg sync.WaitGroup
	for i := range workers {
		l, store := s.lockA, s.a
		if i%2 == 1 {
			l, store = s.lockB, s.b
		}
		wg.Go(func() {
			for i := 0; i < rounds && step(l, store); i++ {
			}
		})
	}
	wg.Wait()
	want := *before
	want.ExpiresIn += workers * rounds
	s.check(s.b, &want)
}

// tryWhileHeld waits with ctx for a lock that is held, and reports whether it got
// it, and how long that took. A store that does not heed ctx is told by free.
func (s *lockers) tryWhileHeld(ctx context.Context, l shangcloud.TokenLocker, free func()) (locked bool, took time.Duration) {
	s.t.Helper()
	start := time.Now()
	done := make(chan func(), 1)
	go func() {
		unlock, err := l.LockToken(ctx)
		if err != nil {
			unlock = nil
		}
		done <- unlock
	}()
	var unlock func()
	select {
	case unlock = <-done:
	case <-time.After(patience):
		s.t.Error("LockToken goes on waiting when its context is done")
		free()
		unlock = <-done
	}
	if unlock != nil {
		unlock()
	}
	return unlock != nil, time.Since(start)
}

// testLockContext has callers give up waiting. They must not hold, nor end, a lock.
func testLockContext(t *testing.T, s *lockers) {
	unlock, ok := s.lock(s.lockA, patience)
	if !ok {
		return
	}
	unlock = sync.OnceFunc(unlock)
	for name, l := range map[string]shangcloud.TokenLocker{"the same store": s.lockA, "another store": s.lockB} {
		for _, how := range []string{"times out", "is cancelled"} {
			ctx, cancel := context.WithTimeout(t.Context(), shortly)
			if how == "is cancelled" {
				cancel()
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(shortly, cancel)
			}
			locked, took := s.tryWhileHeld(ctx, l, unlock)
			cancel()
			switch {
			case t.Failed():
				unlock()
				return
			case locked:
				t.Errorf("%s got the lock while it was held", name)
			case took < shortly/2:
				t.Errorf("%s did not wait for the lock until its context was done", name)
			case took > shortly+patience:
				t.Errorf("%s waited for %v longer when its context %s", name, took-shortly, how)
			}
		}
	}
	unlock()
	for _, l := range []shangcloud.TokenLocker{s.lockA, s.lockB, s.lockA} {
		unlock, ok := s.lock(l, patience)
		if !ok {
			return
		}
		unlock()
	}
}

// testLockOutlivesContext has a refresh take all the time there is, so that ctx
// ends, and its token be saved after that: the lock is to be held until then.
func testLockOutlivesContext(t *testing.T, s *lockers) {
	ctx, cancel := context.WithCancel(t.Context())
	unlock, err := s.lockA.LockToken(ctx)
	cancel()
	if err != nil {
		t.Errorf("LockToken: %v", err)
		return
	}
	unlock = sync.OnceFunc(unlock)
	tok := newToken()
	s.save(s.a, tok)
	waiting, cancel := context.WithTimeout(t.Context(), shortly)
	defer cancel()
	if locked, _ := s.tryWhileHeld(waiting, s.lockB, unlock); locked && !t.Failed() {
		t.Error("the lock ends with the context that it was waited for with")
	}
	unlock()
	s.check(s.b, tok)
	if unlock, ok := s.lock(s.lockB, patience); ok {
		unlock()
	}
}

func testUnlockWakes(t *testing.T, s *lockers) {
	unlock, ok := s.lock(s.lockA, patience)
	if !ok {
		return
	}
	var wg sync.WaitGroup
	var released atomic.Bool
	for _, l := range []shangcloud.TokenLocker{s.lockA, s.lockB} {
		wg.Go(func() {
			if unlock, ok := s.lock(l, patience); ok {
				if !released.Load() {
					t.Error("the lock was given out while it was held")
				}
				unlock()
			}
		})
	}
	time.Sleep(shortly)
	released.Store(true)
	unlock()
	wg.Wait()
}
