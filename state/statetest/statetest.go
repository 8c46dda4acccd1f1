// Package statetest tests stores of login states against the contract of state.Store:
//
//	func TestStore(t *testing.T) {
//		statetest.Run(t, statetest.Backend{
//			Open: func(t *testing.T) (a, b state.Store) {
//				table := newTable(t)
//				return NewStore(connect(t), table), NewStore(connect(t), table)
//			},
//			Down: func(t *testing.T) state.Store { return NewStore(connectTo(t, "127.0.0.1:1"), "states") },
//		})
//	}
//
// Run it with the race detector. The suite takes some seconds, because it has to wait
// until entries expire by the store's own clock. The suite does not test what happens when
// the server fails in the middle of a call. A store for production needs additional tests
// for that.
package statetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/leak"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
)

const (
	// patience is how long a call may take after its context has ended. The limit only
	// detects calls that ignore their context. It does not measure speed.
	patience = 30 * time.Second

	// queueing is how long a call may take if it has to wait for many other calls.
	queueing = time.Minute

	// exactness is how much earlier or later than its time to live an entry may expire. It
	// is also how long a store may keep an expired entry.
	exactness = time.Second

	// downLimit is how long a call may try to reach a server that is down.
	downLimit = 2 * time.Second
)

// Backend describes the store under test.
type Backend struct {
	// Open returns two values of the store, as two machines would have them. Each value
	// has its own connections, but both use the same storage, for example a table or a key
	// prefix. If the store belongs to one process, they may be the same value. Each call
	// of Open returns values with new, empty storage on the same server.
	Open func(t *testing.T) (a, b state.Store)

	// Down returns a store whose server can't be reached. Leave Down nil if the store
	// needs no server. The suite then skips the test of a server that is down.
	Down func(t *testing.T) state.Store

	// Count returns the number of entries in the storage of a, including expired entries
	// that the store has not removed. If the store removes expired entries only on
	// request, Count makes that request first. If Count is nil, the suite does not count
	// entries.
	Count func(t *testing.T, a state.Store) int
}

// Run tests a store. Subtests run in parallel. Each subtest calls Backend.Open and so gets
// its own storage.
func Run(t *testing.T, b Backend) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s *stores)
	}{
		{"RoundTrip", testRoundTrip},
		{"UnknownKey", testUnknown},
		{"Replace", testReplace},
		{"NoTimeToLive", testNoTTL},
		{"HugeTimeToLive", testHugeTTL},
		{"Keys", testKeys},
		{"OneWinner", testOneWinner},
		{"ManyLogins", testMany},
		{"Expiry", testExpiry},
		{"ReplacedExpiry", testReplacedExpiry},
		{"ContextDone", testContext},
		{"NothingSecretIsPrinted", testSecrets},
		{"PlacesAreApart", testPlaces},
		{"NoLeftovers", testLeftovers},
		{"Down", testDown},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			first, second := b.Open(t)
			if first == nil || second == nil {
				t.Fatal("Open returned no store")
			}
			test.run(t, &stores{t, first, second, b})
		})
	}
}

// stores holds two values of a store that use the same storage.
type stores struct {
	t       *testing.T
	a, b    state.Store
	backend Backend
}

func (s *stores) both() [2]state.Store { return [2]state.Store{s.a, s.b} }

func (s *stores) put(store state.Store, key string, value []byte, ttl time.Duration) bool {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), queueing)
	defer cancel()
	if err := store.Put(ctx, key, value, ttl); err != nil {
		s.t.Errorf("Put: %v", err)
		return false
	}
	return true
}

// take calls Take. It fails the test if Take returns an error, or a value with found
// false.
func (s *stores) take(store state.Store, key string) (value []byte, found, ok bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), queueing)
	defer cancel()
	value, found, err := store.Take(ctx, key)
	switch {
	case err != nil:
		s.t.Errorf("Take: %v", err)
	case !found && len(value) > 0:
		s.t.Error("Take returns a value that it has not found")
	default:
		return value, found, true
	}
	return nil, false, false
}

func (s *stores) finds(store state.Store, key string, want []byte) {
	s.t.Helper()
	switch got, found, ok := s.take(store, key); {
	case !ok:
	case !found:
		s.t.Errorf("Take does not find %.60q", key)
	case !bytes.Equal(got, want):
		s.t.Errorf("Take finds %d bytes %.60q under %.60q, want %d bytes %.60q", len(got), got, key, len(want), want)
	}
}

func (s *stores) misses(store state.Store, key string) {
	s.t.Helper()
	if _, found, ok := s.take(store, key); ok && found {
		s.t.Errorf("Take finds %.60q, which is not there", key)
	}
}

func testRoundTrip(t *testing.T, s *stores) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	large := make([]byte, 64<<10)
	_, _ = rand.Read(large)
	for _, c := range []struct {
		name  string
		value []byte
	}{
		{"text", []byte(`{"v":"verifier","r":"/settings?tab=1"}`)},
		{"nil", nil},
		{"empty", []byte{}},
		{"NUL", []byte{0}},
		{"NULs", make([]byte, 100)},
		{"line ends", []byte("\r\n$3\r\nfoo\r\n")},
		{"every byte", every},
		{"no UTF-8", []byte{0xff, 0xfe, 0xc0, 0x80, 0xed, 0xa0, 0x80}},
		{"64 KiB", large},
		{"64 KiB of quotes", bytes.Repeat([]byte(`'"\%`), 16<<10)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &stores{t, s.a, s.b, s.backend}
			for _, to := range s.both() {
				for _, from := range s.both() {
					key := rand.Text()
					if s.put(to, key, bytes.Clone(c.value), time.Minute) {
						s.finds(from, key, c.value)
						s.misses(to, key)
						s.misses(from, key)
					}
				}
			}
		})
	}
}

func testUnknown(_ *testing.T, s *stores) {
	for _, store := range s.both() {
		s.misses(store, rand.Text())
	}
	key := rand.Text()
	s.put(s.a, key, []byte("value"), time.Minute)
	s.misses(s.a, key[1:])
	s.misses(s.b, key+"A")
	s.finds(s.b, key, []byte("value"))
}

func testReplace(_ *testing.T, s *stores) {
	key := rand.Text()
	for _, value := range []string{"one", "two, which is longer", ""} {
		s.put(s.a, key, []byte("of before"), time.Minute)
		s.put(s.b, key, []byte(value), time.Minute)
		s.finds(s.a, key, []byte(value))
		s.misses(s.b, key)
	}
}

func testNoTTL(_ *testing.T, s *stores) {
	for _, ttl := range []time.Duration{0, -1, -time.Hour, -1 << 63} {
		key := rand.Text()
		s.put(s.a, key, []byte("value"), ttl)
		s.misses(s.b, key)
		s.put(s.a, key, []byte("value"), time.Minute)
		s.put(s.b, key, []byte("value"), ttl)
		s.misses(s.a, key)
	}
}

func testHugeTTL(_ *testing.T, s *stores) {
	for _, ttl := range []time.Duration{24 * time.Hour, 100 * 365 * 24 * time.Hour, 1<<63 - 1} {
		key := rand.Text()
		if s.put(s.a, key, []byte("value"), ttl) {
			s.finds(s.b, key, []byte("value"))
		}
	}
}

// testKeys uses keys that a careless store confuses with each other, or interprets as a
// pattern or a command. The keys of this library are simple. A store may refuse other
// keys, but it must not lose or confuse them.
func testKeys(t *testing.T, s *stores) {
	keys := []string{
		"", "a", "A", "a ", " a", "a  ", "a\t", "a\n", "a\x00", "a\x00b", "á", "a\u0301", "ａ", "ß", "ss", "SS", "i", "İ", "ı",
		"*", "?", "a*", "[a-z]", "{a}", "{a}b", "{b}a", "{", "}", "{}", "a:b", ":", "%", "_", "a%", "a_",
		"'", "''", `"`, "`", `\`, `\'`, "$1", "@a", "a;b", "--", "/*", "0x61", `\x61`, "%61", "%00", "+", "a+b", "a b", "a%20b", "1", "01", "1.0", "NULL",
		"'; DROP TABLE states; --", `"); DELETE FROM states; --`, "\r\nFLUSHALL\r\n", "*1\r\n$8\r\nFLUSHALL\r\n",
		"../../etc/passwd", "/", "//", ".", "..", "a/b", "<script>", "a&state=b", "a=b", "a#b",
		"小明", "👩‍👩‍👧", "\u202e", "\ufeff", "\ufffd", "\xff\xfe", "\xed\xa0\x80", "\xc0\x80",
		strings.Repeat("k", 64), strings.Repeat("k", 63), strings.Repeat("k", 255), strings.Repeat("k", 256), strings.Repeat("k", 5000),
	}
	for c := range 256 { // a decoded query can contain any byte
		keys = append(keys, "byte"+string([]byte{byte(c)})+"-", string([]byte{byte(c)}))
	}
	seen := make(map[string]bool)
	var put []string
	ctx, cancel := context.WithTimeout(t.Context(), queueing)
	defer cancel()
	for i, key := range keys {
		if seen[key] {
			continue
		}
		seen[key] = true
		if err := s.both()[i%2].Put(ctx, key, []byte(key), time.Minute); err == nil {
			put = append(put, key)
			continue
		}
		if isOurs(key) {
			t.Errorf("Put refuses %.60q", key)
		}
		if _, found, _ := s.a.Take(ctx, key); found {
			t.Errorf("Put refused %.60q, but Take finds it", key)
		}
	}
	for i, key := range put {
		s.finds(s.both()[i/2%2], key, []byte(key))
	}
	for _, key := range put {
		s.misses(s.a, key)
	}
}

// isOurs reports whether key has the form of this library's keys.
func isOurs(key string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return key != "" && len(key) <= 64 && strings.Trim(key, letters) == ""
}

// testOneWinner calls Take for the same key many times at once, on both values of the
// store. Exactly one call must find the entry.
func testOneWinner(t *testing.T, s *stores) {
	const rounds, takers = 25, 16
	for range rounds {
		key, value := rand.Text(), []byte(rand.Text())
		if !s.put(s.a, key, value, time.Minute) {
			return
		}
		if n := s.winners(takers, key, value); n != 1 {
			t.Fatalf("%d of %d concurrent calls of Take find the value, not 1", n, takers)
		}
	}
}

func (s *stores) winners(takers int, key string, value []byte) int64 {
	var wg sync.WaitGroup
	var winners atomic.Int64
	start := make(chan struct{})
	for i := range takers {
		wg.Go(func() {
			<-start
			got, found, ok := s.take(s.both()[i%2], key)
			if !ok || !found {
				return
			}
			winners.Add(1)
			if !bytes.Equal(got, value) {
				s.t.Errorf("Take finds %q, want %q", got, value)
			}
		})
	}
	close(start)
	wg.Wait()
	return winners.Load()
}

// testMany runs many logins at the same time. Two stores on the same storage share them, as
// two processes would.
func testMany(_ *testing.T, s *stores) {
	const logins = 300
	var wg sync.WaitGroup
	for i := range logins {
		wg.Go(func() {
			key, value := rand.Text(), []byte(rand.Text())
			if s.put(s.both()[i%2], key, value, time.Minute) {
				s.finds(s.both()[i/2%2], key, value)
				s.misses(s.both()[i%2], key)
			}
		})
	}
	wg.Wait()
}

// testExpiry takes entries at several ages and with several times to live, each entry
// once.
func testExpiry(_ *testing.T, s *stores) {
	const moments, pause = 12, 350 * time.Millisecond
	ttls := []time.Duration{time.Nanosecond, time.Second, 1500 * time.Millisecond, 2 * time.Second, 3*time.Second + 1}
	var entries []*entry
	for i := range moments * len(ttls) {
		e := &entry{key: rand.Text(), ttl: ttls[i%len(ttls)], asked: time.Now()}
		if !s.put(s.a, e.key, []byte("value"), e.ttl) {
			return
		}
		e.there = time.Now()
		entries = append(entries, e)
	}
	for i, e := range entries {
		if i%len(ttls) == 0 {
			time.Sleep(pause)
		}
		if !s.takeInTime(s.both()[i%2], e) {
			return
		}
	}
}

type entry struct {
	key          string
	ttl          time.Duration
	asked, there time.Time // when Put was called, and when it returned
}

// takeInTime takes an entry. Take must find the entry before it expires, and must not find
// it afterwards.
func (s *stores) takeInTime(store state.Store, e *entry) bool {
	s.t.Helper()
	begin := time.Now()
	_, found, ok := s.take(store, e.key)
	if youngest := begin.Sub(e.there); found && youngest >= e.ttl+exactness {
		s.t.Errorf("an entry with a ttl of %v is found after %v", e.ttl, youngest)
	}
	if oldest := time.Since(e.asked); ok && !found && oldest <= e.ttl-exactness {
		s.t.Errorf("an entry with a ttl of %v is gone after %v", e.ttl, oldest)
	}
	return ok
}

// testReplacedExpiry checks that Put replaces both the value and its time to live.
func testReplacedExpiry(_ *testing.T, s *stores) {
	longer, shorter := rand.Text(), rand.Text()
	s.put(s.a, longer, []byte("short"), time.Second)
	s.put(s.b, longer, []byte("long"), time.Hour)
	s.put(s.a, shorter, []byte("long"), time.Hour)
	s.put(s.b, shorter, []byte("short"), time.Second)
	time.Sleep(time.Second + exactness)
	s.finds(s.a, longer, []byte("long"))
	s.misses(s.a, shorter)
}

func testContext(t *testing.T, s *stores) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for name, ctx := range map[string]context.Context{"cancelled": cancelled, "late": late} {
		begin := time.Now()
		if err := s.a.Put(ctx, rand.Text(), []byte("value"), time.Minute); err == nil {
			t.Errorf("Put with a %s context returns no error", name)
		}
		key := rand.Text()
		s.put(s.a, key, []byte("value"), time.Minute)
		if _, found, err := s.b.Take(ctx, key); err == nil || found {
			t.Errorf("Take with a %s context returns found = %t and error %v", name, found, err)
		}
		if took := time.Since(begin); took > patience {
			t.Errorf("calls with a %s context take %v", name, took)
		}
	}
	// The store still works afterwards.
	for _, store := range s.both() {
		key := rand.Text()
		s.put(store, key, []byte("value"), time.Minute)
		s.finds(store, key, []byte("value"))
	}
}

// testSecrets checks that neither the store nor its errors print keys or values.
func testSecrets(t *testing.T, s *stores) {
	key, value := rand.Text(), rand.Text()
	s.put(s.a, key, []byte(value), time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, takeErr := s.a.Take(ctx, key)
	printed := map[string]any{
		"a store":                  s.a,
		"a struct with a store":    struct{ S state.Store }{s.b},
		"a cancelled Put's error":  s.b.Put(ctx, key, []byte(value), time.Minute),
		"a cancelled Take's error": takeErr,
	}
	if s.backend.Down != nil {
		down := s.backend.Down(t)
		ctx, cancel := context.WithTimeout(t.Context(), 2*downLimit)
		defer cancel()
		printed["a failed Put's error"] = down.Put(ctx, key, []byte(value), time.Minute)
		_, _, printed["a failed Take's error"] = down.Take(ctx, key)
	}
	for what, v := range printed {
		if leak.Prints(v, key, value) {
			t.Errorf("%s prints a key or a value", what)
		}
	}
}

// testPlaces checks that two calls of Backend.Open return separate storage: the same key
// can have a different value in each.
func testPlaces(t *testing.T, s *stores) {
	other, _ := s.backend.Open(t)
	key := rand.Text()
	s.put(s.a, key, []byte("here"), time.Minute)
	s.misses(other, key)
	s.put(other, key, []byte("there"), time.Minute)
	s.finds(s.b, key, []byte("here"))
	s.misses(s.a, key)
	s.finds(other, key, []byte("there"))
}

// testLeftovers starts logins and never finishes them. The store must remove them when
// they expire.
func testLeftovers(t *testing.T, s *stores) {
	if s.backend.Count == nil {
		t.Skip("Backend.Count is nil: what the store keeps can't be counted")
	}
	const abandoned, alive = 50, 3
	for range abandoned {
		s.put(s.a, rand.Text(), []byte("value"), time.Second)
	}
	for range alive {
		s.put(s.b, rand.Text(), []byte("value"), time.Hour)
	}
	if n := s.backend.Count(t, s.a); n < alive {
		t.Errorf("there are %d entries, and should be %d at least", n, alive)
	}
	time.Sleep(time.Second + exactness)
	n := 0
	for range 20 { // a slow server may need more time
		if n = s.backend.Count(t, s.a); n <= alive {
			break
		}
		time.Sleep(exactness / 4)
	}
	if n != alive {
		t.Errorf("%v after the others expired there are %d entries, not %d", exactness, n, alive)
	}
}

// testDown uses a server that can't be reached. The store can't know which entries exist,
// so it must return an error. It must not report that an entry was not found.
func testDown(t *testing.T, s *stores) {
	if s.backend.Down == nil {
		t.Skip("Backend.Down is nil: the store needs no server")
	}
	down := s.backend.Down(t)
	for range 2 { // in the second round, the store may already know that the server is down
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), downLimit)
		if err := down.Put(ctx, rand.Text(), []byte("value"), time.Minute); err == nil {
			t.Error("Put returns no error")
		}
		cancel()
		ctx, cancel = context.WithTimeout(t.Context(), downLimit)
		if value, found, err := down.Take(ctx, rand.Text()); err == nil || found || value != nil {
			t.Errorf("Take returns %d bytes, found = %t and error %v", len(value), found, err)
		}
		cancel()
		if took := time.Since(begin); took > 2*downLimit+patience {
			t.Errorf("Put and Take with %v each take %v", downLimit, took)
		}
	}
}
