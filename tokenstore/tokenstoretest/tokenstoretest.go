// Package tokenstoretest tests token stores against the contract of oauth2login.TokenStore
// and, if they implement it, of oauth2login.TokenLocker:
//
//	func TestStore(t *testing.T) {
//		tokenstoretest.Run(t, tokenstoretest.Backend{
//			Open: func(t *testing.T) (a, b oauth2login.TokenStore) {
//				db := openTestDatabase(t)
//				user := newTestUser(t, db)
//				return NewStore(db, user), NewStore(db, user)
//			},
//		})
//	}
//
// Run it with the race detector. The suite does not test what happens when a process dies.
// Then the lock must end, and no incomplete token may be left. A store for production
// needs additional tests for that.
package tokenstoretest

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/leak"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

const (
	// patience is the time limit of a call that need not wait for other calls. Only calls
	// that hang exceed this limit.
	patience = 30 * time.Second

	// queueing is the time limit of a call that has to wait for many other calls.
	queueing = time.Minute

	// shortly is how long a test lets a call wait for a lock that is held.
	shortly = 100 * time.Millisecond

	// longHold is the lifetime of a lock if the test does not wait for its end. It is
	// longer than the time limits of all calls.
	longHold = 10 * time.Minute

	// shortHold is the lifetime of a lock if the test waits for its end.
	shortHold = time.Second
)

// Backend describes the store under test.
type Backend struct {
	// Open returns two values of the store, as two processes would have them. Each value
	// has its own connections, but both are for the same token of the same user. If the
	// store belongs to one process, they may be the same value. Each call of Open returns
	// values without a token, for example for a new user. If both values are TokenLockers,
	// the suite also tests the locks.
	Open func(t *testing.T) (a, b oauth2login.TokenStore)

	// Extra says that the store keeps the extras scope and id_token, as
	// [github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore.Marshal] does. If Extra
	// is false, the suite does not test extras. A store that uses encoding/json alone
	// loses them.
	Extra bool

	// HoldEnds says that a lock ends after its lifetime, even if its holder is alive. If
	// HoldEnds is false, the suite does not test that. For example, file locks have no
	// lifetime.
	HoldEnds bool
}

// Run tests a store. It makes up all tokens. No two tests use the same token.
func Run(t *testing.T, b Backend) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s *stores)
	}{
		{"Miss", testMiss},
		{"RoundTrip", testRoundTrip},
		{"Extra", testExtra},
		{"Replace", testReplace},
		{"Delete", testDelete},
		{"LoadedTokensStayAsTheyAre", testAlias},
		{"Concurrent", testConcurrent},
		{"Cancelled", testCancelled},
		{"NothingSecretIsPrinted", testSecrets},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newStores(t, b)) })
	}
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s *lockers)
	}{
		{"Exclusion", testExclusion},
		{"WaitObeysContext", testLockContext},
		{"HeldAfterContext", testLockOutlivesContext},
		{"UnlockWakes", testUnlockWakes},
		{"HeldForHold", testHeldForHold},
		{"HoldEnds", testHoldEnds},
	} {
		t.Run("Lock/"+test.name, func(t *testing.T) { test.run(t, newLockers(t, b)) })
	}
}

type stores struct {
	t       *testing.T
	backend Backend
	a, b    oauth2login.TokenStore
}

func newStores(t *testing.T, b Backend) *stores {
	t.Helper()
	first, second := b.Open(t)
	if first == nil || second == nil {
		t.Fatal("Open returned no store")
	}
	return &stores{t, b, first, second}
}

func (s *stores) both() []oauth2login.TokenStore { return []oauth2login.TokenStore{s.a, s.b} }

type lockers struct {
	*stores
	lockA, lockB oauth2login.TokenLocker
}

func newLockers(t *testing.T, b Backend) *lockers {
	t.Helper()
	s := newStores(t, b)
	lockA, ok := s.a.(oauth2login.TokenLocker)
	lockB, ok2 := s.b.(oauth2login.TokenLocker)
	if !ok || !ok2 {
		t.Skip("the store is no oauth2login.TokenLocker, and need not be")
	}
	return &lockers{s, lockA, lockB}
}

// limit returns a context for a call that may have to wait for other calls.
func (s *stores) limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.t.Context(), queueing)
}

func (s *stores) save(store oauth2login.TokenStore, tok *oauth2.Token) bool {
	s.t.Helper()
	ctx, cancel := s.limit()
	defer cancel()
	if err := store.SaveToken(ctx, tok); err != nil {
		s.t.Errorf("SaveToken: %v", err)
		return false
	}
	return true
}

func (s *stores) load(store oauth2login.TokenStore) (*oauth2.Token, bool) {
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

// check loads a token from store and compares it with want.
func (s *stores) check(store oauth2login.TokenStore, want *oauth2.Token) {
	s.t.Helper()
	if got, ok := s.load(store); ok {
		if diff := difference(got, want); diff != "" {
			s.t.Errorf("LoadToken: %s", diff)
		}
	}
}

// difference describes the first field in which two tokens differ. Time zones of the
// expiries do not matter. Differences below a microsecond do not matter either, because
// databases do not store them.
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

// newToken returns a new token. Its access token and its refresh token end with the same
// text, which the function whole checks.
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
		for _, store := range s.both() {
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
		{"lower-case type", oauth2.Token{AccessToken: "at", TokenType: "bearer"}},
		{"all characters", oauth2.Token{AccessToken: strings.ReplaceAll(visible.String(), " ", ""), RefreshToken: visible.String(), Expiry: moment}},
		{"Unicode", oauth2.Token{AccessToken: "at", RefreshToken: "令牌 🔑 é"}},
		{"16 KiB each", oauth2.Token{AccessToken: long.String(), RefreshToken: long.String()[1:], Expiry: moment}},
		{"short again", oauth2.Token{AccessToken: "a", RefreshToken: "r", Expiry: moment}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &stores{t, s.backend, s.a, s.b}
			if s.save(s.a, &c.tok) {
				s.check(s.b, &c.tok)
				s.check(s.a, &c.tok)
			}
		})
	}
}

func testReplace(_ *testing.T, s *stores) {
	for _, store := range []oauth2login.TokenStore{s.a, s.b, s.b, s.a} {
		tok := newToken()
		if !s.save(store, tok) {
			return
		}
		s.check(s.a, tok)
		s.check(s.b, tok)
	}
}

// testExtra saves extras that some providers send together with the token.
func testExtra(t *testing.T, s *stores) {
	if !s.backend.Extra {
		t.Skip("Backend.Extra is false: the store need not keep extras")
	}
	for _, extra := range []map[string]any{
		{"scope": "openid user:basic", "id_token": "e30.e30.c2ln"},
		{"scope": "openid"},
		{},
	} {
		tok := newToken().WithExtra(extra)
		if !s.save(s.a, tok) {
			return
		}
		s.checkExtra(s.a, extra)
		s.checkExtra(s.b, extra)
	}
}

func (s *stores) checkExtra(store oauth2login.TokenStore, want map[string]any) {
	s.t.Helper()
	got, ok := s.load(store)
	if !ok || got == nil {
		s.t.Error("LoadToken finds no token")
		return
	}
	for _, name := range []string{"scope", "id_token"} {
		if got.Extra(name) != want[name] {
			s.t.Errorf("Extra(%q) is %v, want %v", name, got.Extra(name), want[name])
		}
	}
}

// testDelete deletes a token through both values of the store. The second deletion finds
// no token, and must succeed all the same.
func testDelete(t *testing.T, s *stores) {
	remove := func(store oauth2login.TokenStore) bool {
		ctx, cancel := s.limit()
		defer cancel()
		err := store.DeleteToken(ctx)
		if err != nil {
			t.Errorf("DeleteToken: %v", err)
		}
		return err == nil
	}
	if !remove(s.a) {
		return
	}
	for _, store := range s.both() {
		if !s.save(s.a, newToken()) || !remove(store) || !remove(store) {
			return
		}
		for _, other := range s.both() {
			if tok, ok := s.load(other); ok && tok != nil {
				t.Error("LoadToken finds a token after DeleteToken")
			}
		}
		tok := newToken()
		if s.save(s.b, tok) {
			s.check(s.a, tok)
		}
	}
}

// testAlias checks that a token in use does not change when a later token is saved.
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

// testConcurrent saves and loads through both values of the store at the same time. Every
// loaded token must be complete, and must have been saved before.
func testConcurrent(_ *testing.T, s *stores) {
	const workers, rounds = 4, 25
	h := &history{stores: s}
	if !h.save(s.a) {
		return
	}
	var wg sync.WaitGroup
	repeat := func(store oauth2login.TokenStore, do func(oauth2login.TokenStore) bool) {
		for i := 0; i < rounds && do(store); i++ {
		}
	}
	for _, store := range s.both() {
		for range workers {
			wg.Go(func() { repeat(store, h.save) })
			wg.Go(func() { repeat(store, h.check) })
		}
	}
	wg.Wait()
	h.check(s.a)
	h.check(s.b)
}

// history remembers all tokens that were saved.
type history struct {
	*stores
	saved sync.Map
}

func (h *history) save(store oauth2login.TokenStore) bool {
	tok := newToken()
	h.saved.Store(tok.AccessToken, *tok)
	return h.stores.save(store, tok)
}

func (h *history) check(store oauth2login.TokenStore) bool {
	got, ok := h.load(store)
	if !ok {
		return false
	}
	if !whole(got) {
		h.t.Error("LoadToken found parts of two tokens, or none, while one is replaced by another")
		return false
	}
	want, known := h.saved.Load(got.AccessToken)
	if !known {
		h.t.Error("LoadToken found a token that was never saved")
		return false
	}
	wanted := want.(oauth2.Token)
	if diff := difference(got, &wanted); diff != "" {
		h.t.Errorf("LoadToken: %s", diff)
		return false
	}
	return true
}

func testCancelled(t *testing.T, s *stores) {
	if !s.save(s.a, newToken()) {
		return
	}
	for _, call := range s.calls() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		if call.run(ctx) == nil {
			t.Errorf("%s succeeds with a context that is done", call.name)
		}
		if took := time.Since(start); took > patience {
			t.Errorf("%s takes %v with a context that is done", call.name, took)
		}
		got, ok := s.load(s.b)
		removed := got == nil && call.name == "DeleteToken" // the deletion may have happened
		if ok && !removed && !whole(got) {
			t.Errorf("%s with a context that is done leaves no whole token", call.name)
		}
	}
}

type call struct {
	name string
	run  func(ctx context.Context) error
}

// calls returns a call of each method of the store.
func (s *stores) calls() []call {
	calls := []call{
		{"LoadToken", func(ctx context.Context) error {
			_, err := s.a.LoadToken(ctx)
			return err
		}},
		{"SaveToken", func(ctx context.Context) error { return s.a.SaveToken(ctx, newToken()) }},
	}
	if l, ok := s.a.(oauth2login.TokenLocker); ok {
		calls = append(calls, call{"LockToken", func(ctx context.Context) error {
			unlock, err := l.LockToken(ctx, longHold)
			if err == nil {
				unlock()
			}
			return err
		}})
	}
	return append(calls, call{"DeleteToken", func(ctx context.Context) error { return s.a.DeleteToken(ctx) }})
}

func testSecrets(t *testing.T, s *stores) {
	tok := newToken()
	if !s.save(s.a, tok) {
		return
	}
	s.load(s.a)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, loadErr := s.a.LoadToken(ctx)
	for what, v := range map[string]any{
		"a store":               s.a,
		"another store":         s.b,
		"a struct with a store": struct{ S oauth2login.TokenStore }{s.a},
		"SaveToken's error":     s.a.SaveToken(ctx, tok),
		"LoadToken's error":     loadErr,
		"DeleteToken's error":   s.a.DeleteToken(ctx),
	} {
		if leak.Prints(v, tok.AccessToken, tok.RefreshToken) {
			t.Errorf("%s prints a token", what)
		}
	}
}

// lock takes the lock for longHold.
func (s *lockers) lock(l oauth2login.TokenLocker, limit time.Duration) (unlock func(), ok bool) {
	s.t.Helper()
	return s.lockFor(l, limit, longHold)
}

func (s *lockers) lockFor(l oauth2login.TokenLocker, limit, hold time.Duration) (unlock func(), ok bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	unlock, err := l.LockToken(ctx, hold)
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

// testExclusion lets many goroutines increment a number in the stored token. An increment
// is lost if two goroutines hold the lock at once, or if a goroutine does not see the
// token that the previous goroutine saved.
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
	var wg sync.WaitGroup
	for i := range workers {
		l, store := s.lockA, s.a
		if i%2 == 1 {
			l, store = s.lockB, s.b
		}
		wg.Go(func() {
			for i := 0; i < rounds && s.count(l, store, &inside); i++ {
			}
		})
	}
	wg.Wait()
	want := *before
	want.ExpiresIn += workers * rounds
	s.check(s.b, &want)
}

// count adds 1 to ExpiresIn of the stored token, while it holds the lock.
func (s *lockers) count(l oauth2login.TokenLocker, store oauth2login.TokenStore, inside *atomic.Int32) bool {
	unlock, ok := s.lock(l, queueing)
	if !ok {
		return false
	}
	defer unlock()
	if inside.Add(1) != 1 {
		s.t.Error("two hold the lock at once")
	}
	defer inside.Add(-1)
	tok, ok := s.load(store)
	if !ok || tok == nil {
		return false
	}
	time.Sleep(time.Millisecond) // in this time, a faulty store would let another goroutine in
	next := *tok
	next.ExpiresIn++
	return s.save(store, &next)
}

// tryWhileHeld calls LockToken while the lock is held, and reports whether it got the
// lock. If LockToken ignores ctx, tryWhileHeld calls free, which releases the lock and so
// ends the wait.
func (s *lockers) tryWhileHeld(ctx context.Context, l oauth2login.TokenLocker, free func()) (locked bool) {
	s.t.Helper()
	done := make(chan func(), 1)
	go func() {
		unlock, err := l.LockToken(ctx, longHold)
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
	return unlock != nil
}

// testLockContext lets callers give up while they wait for a lock. Afterwards, such a
// caller must not hold the lock, and must not have ended the lock of its holder.
func testLockContext(t *testing.T, s *lockers) {
	unlock, ok := s.lock(s.lockA, patience)
	if !ok {
		return
	}
	unlock = sync.OnceFunc(unlock)
	for name, l := range map[string]oauth2login.TokenLocker{"the same store": s.lockA, "another store": s.lockB} {
		for _, how := range []string{"times out", "is cancelled"} {
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), shortly)
			if how == "is cancelled" {
				cancel()
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(shortly, cancel)
			}
			locked := s.tryWhileHeld(ctx, l, unlock)
			cancel()
			switch {
			case t.Failed():
				unlock()
				return
			case locked:
				t.Errorf("%s got the lock while it was held", name)
			case time.Since(begin) < shortly/2:
				t.Errorf("%s did not wait for the lock until its context was done", name)
			}
		}
	}
	unlock()
	for _, l := range []oauth2login.TokenLocker{s.lockA, s.lockB, s.lockA} {
		unlock, ok := s.lock(l, patience)
		if !ok {
			return
		}
		unlock()
	}
}

// testLockOutlivesContext ends the context while the lock is held. The lock must last
// until unlock, because a refresh may take longer than the context of its caller.
func testLockOutlivesContext(t *testing.T, s *lockers) {
	ctx, cancel := context.WithCancel(t.Context())
	unlock, err := s.lockA.LockToken(ctx, longHold)
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
	if s.tryWhileHeld(waiting, s.lockB, unlock) && !t.Failed() {
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
	for _, l := range []oauth2login.TokenLocker{s.lockA, s.lockB} {
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

// testHeldForHold checks that nobody else gets a lock during the first half of its
// lifetime.
func testHeldForHold(t *testing.T, s *lockers) {
	begin := time.Now()
	unlock, ok := s.lockFor(s.lockA, patience, 2*shortHold)
	if !ok {
		return
	}
	unlock = sync.OnceFunc(unlock)
	ctx, cancel := context.WithTimeout(t.Context(), shortHold)
	defer cancel()
	locked := s.tryWhileHeld(ctx, s.lockB, unlock)
	// On a slow machine, the lock may have expired by now.
	if took := time.Since(begin); locked && took < 2*shortHold && !t.Failed() {
		t.Errorf("a lock for %v is given to another caller after %v", 2*shortHold, took)
	}
	unlock()
}

// testHoldEnds lets a lock expire. Then another caller gets the lock. When the first
// holder calls unlock late, the lock of the other caller must not end.
func testHoldEnds(t *testing.T, s *lockers) {
	if !s.backend.HoldEnds {
		t.Skip("Backend.HoldEnds is false: a lock need not end while its holder is alive")
	}
	late, ok := s.lockFor(s.lockA, patience, shortHold)
	if !ok {
		return
	}
	unlock, ok := s.lock(s.lockB, shortHold+patience)
	late()
	if !ok {
		return
	}
	unlock = sync.OnceFunc(unlock)
	ctx, cancel := context.WithTimeout(t.Context(), shortly)
	defer cancel()
	if s.tryWhileHeld(ctx, s.lockA, unlock) && !t.Failed() {
		t.Error("unlock ends the lock of the next holder")
	}
	unlock()
	if unlock, ok := s.lock(s.lockA, patience); ok {
		unlock()
	}
}
