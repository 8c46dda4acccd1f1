package statetest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state/statetest"
	"github.com/stretchr/testify/assert"
)

// table is a store that can have a fault. Each field below that is set replaces the
// correct behaviour.
type table struct {
	mu      sync.Mutex
	entries map[string]row

	key   func(key string) string
	value func(value []byte) []byte
	ttl   func(ttl time.Duration) time.Duration
	take  func(ctx context.Context, t *table, key string) ([]byte, bool, error)
	put   func(ctx context.Context, t *table, key string, value []byte, ttl time.Duration) error
	keep  bool // do not remove expired entries
}

type row struct {
	value []byte
	ends  time.Time
}

func (t *table) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if t.put != nil {
		return t.put(ctx, t, key, value, ttl)
	}
	return t.insert(ctx, key, value, ttl)
}

func (t *table) insert(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.key != nil {
		key = t.key(key)
	}
	if t.value != nil {
		value = t.value(value)
	}
	if t.ttl != nil {
		ttl = t.ttl(ttl)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries == nil {
		t.entries = make(map[string]row)
	}
	t.entries[key] = row{value, time.Now().Add(ttl)}
	return nil
}

func (t *table) Take(ctx context.Context, key string) ([]byte, bool, error) {
	if t.take != nil {
		return t.take(ctx, t, key)
	}
	return t.remove(ctx, key)
}

func (t *table) remove(ctx context.Context, key string) ([]byte, bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	if t.key != nil {
		key = t.key(key)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[key]
	delete(t.entries, key)
	if !ok || !time.Now().Before(e.ends) {
		return nil, false, nil
	}
	return e.value, true, nil
}

func (t *table) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, e := range t.entries {
		if !t.keep && !time.Now().Before(e.ends) {
			delete(t.entries, key)
		}
	}
	return len(t.entries)
}

// Format prints the table without its entries.
func (t *table) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("table")) }

// downStore behaves as if its server could not be reached.
type downStore struct{ err error }

func (d downStore) Put(context.Context, string, []byte, time.Duration) error { return d.err }

func (d downStore) Take(context.Context, string) ([]byte, bool, error) { return nil, false, d.err }

func backendOf(open func() *table, down state.Store) statetest.Backend {
	return statetest.Backend{
		Open: func(*testing.T) (a, b state.Store) {
			t := open()
			return t, t
		},
		Down:  func(*testing.T) state.Store { return down },
		Count: func(_ *testing.T, a state.Store) int { return a.(*table).count() },
	}
}

var refused = downStore{errors.New("connection refused")}

func backend(t *table) statetest.Backend {
	return backendOf(func() *table {
		return &table{key: t.key, value: t.value, ttl: t.ttl, take: t.take, put: t.put, keep: t.keep}
	}, refused)
}

func keys(f func(string) string) statetest.Backend { return backend(&table{key: f}) }

// faults lists faulty stores, and the subtest that detects each fault.
var faults = []struct {
	name, found string
	backend     statetest.Backend
}{
	{"text columns", "RoundTrip/NUL", backend(&table{value: func(v []byte) []byte { return bytes.TrimRight(v, "\x00") }})},
	{"varchar(255)", "RoundTrip/64_KiB", backend(&table{value: func(v []byte) []byte { return v[:min(len(v), 255)] }})},
	{"UTF-8", "RoundTrip/no_UTF-8", backend(&table{value: func(v []byte) []byte { return bytes.ToValidUTF8(v, nil) }})},
	{"empty is missing", "RoundTrip/empty", backend(&table{take: func(ctx context.Context, t *table, key string) ([]byte, bool, error) {
		v, found, err := t.remove(ctx, key)
		return v, found && len(v) > 0, err
	}})},
	{"a miss is an error", "UnknownKey", backend(&table{take: func(ctx context.Context, t *table, key string) ([]byte, bool, error) {
		v, found, err := t.remove(ctx, key)
		if !found && err == nil {
			err = errors.New("no such row")
		}
		return v, found, err
	}})},
	{"takes without removing", "RoundTrip", backend(&table{take: func(ctx context.Context, t *table, key string) ([]byte, bool, error) {
		v, found, err := t.remove(ctx, key)
		if found {
			err = t.insert(ctx, key, v, time.Minute)
		}
		return v, found, err
	}})},
	{"the first value stays", "Replace", backend(&table{put: func(ctx context.Context, t *table, key string, value []byte, ttl time.Duration) error {
		if v, found, _ := t.remove(ctx, key); found {
			value = v
		}
		return t.insert(ctx, key, value, ttl)
	}})},
	{"no ttl is for ever", "NoTimeToLive", backend(&table{ttl: func(ttl time.Duration) time.Duration {
		if ttl <= 0 {
			return time.Hour
		}
		return ttl
	}})},
	{"no ttl is nothing at all", "NoTimeToLive", backend(&table{put: func(ctx context.Context, t *table, key string, value []byte, ttl time.Duration) error {
		if ttl <= 0 {
			return nil
		}
		return t.insert(ctx, key, value, ttl)
	}})},
	{"overflow", "HugeTimeToLive", backend(&table{ttl: func(ttl time.Duration) time.Duration {
		if ttl > 200*365*24*time.Hour {
			return -ttl
		}
		return ttl
	}})},
	{"case", "Keys", keys(strings.ToLower)},
	{"trailing space", "Keys", keys(func(k string) string { return strings.TrimRight(k, " ") })},
	{"one byte for another", "Keys", keys(func(k string) string { return strings.ReplaceAll(k, "\xfe", "\xfd") })},
	{"cut off", "Keys", keys(func(k string) string { return k[:min(len(k), 254)] })},
	{"our keys refused", "Keys", backend(&table{put: func(ctx context.Context, t *table, key string, value []byte, ttl time.Duration) error {
		if len(key) == 64 {
			return errors.New("too long")
		}
		return t.insert(ctx, key, value, ttl)
	}})},
	{"get, then delete", "OneWinner", backend(&table{take: func(ctx context.Context, t *table, key string) ([]byte, bool, error) {
		t.mu.Lock()
		e, found := t.entries[key]
		t.mu.Unlock()
		time.Sleep(time.Millisecond)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.entries, key)
		return e.value, found && time.Now().Before(e.ends), ctx.Err()
	}})},
	{"no winner", "OneWinner", backend(&table{take: func() func(ctx context.Context, t *table, key string) ([]byte, bool, error) {
		var busy sync.Mutex
		return func(ctx context.Context, t *table, key string) ([]byte, bool, error) {
			if !busy.TryLock() {
				_, _, err := t.remove(ctx, key)
				return nil, false, err
			}
			defer busy.Unlock()
			time.Sleep(time.Millisecond)
			return t.remove(ctx, key)
		}
	}()})},
	{"never expires", "Expiry", backend(&table{ttl: func(ttl time.Duration) time.Duration { return ttl + time.Hour }})},
	{"expires early", "Expiry", backend(&table{ttl: func(ttl time.Duration) time.Duration { return ttl / 4 }})},
	{"minutes", "Expiry", backend(&table{ttl: func(ttl time.Duration) time.Duration { return ttl.Round(time.Minute) }})},
	{"the first ttl stays", "ReplacedExpiry", backend(&table{put: func(ctx context.Context, t *table, key string, value []byte, ttl time.Duration) error {
		t.mu.Lock()
		e, ok := t.entries[key]
		t.mu.Unlock()
		if ok && ttl > 0 {
			ttl = time.Until(e.ends)
		}
		return t.insert(ctx, key, value, ttl)
	}})},
	{"contexts are ignored", "ContextDone", backend(&table{
		put: func(_ context.Context, t *table, key string, value []byte, ttl time.Duration) error {
			return t.insert(context.Background(), key, value, ttl)
		},
		take: func(_ context.Context, t *table, key string) ([]byte, bool, error) {
			return t.remove(context.Background(), key)
		},
	})},
	{"errors tell keys", "NothingSecretIsPrinted", backend(&table{take: func(ctx context.Context, t *table, key string) ([]byte, bool, error) {
		v, found, err := t.remove(ctx, key)
		if err != nil {
			err = fmt.Errorf("take %q: %w", key, err)
		}
		return v, found, err
	}})},
	{"errors tell values", "NothingSecretIsPrinted", backend(&table{put: func(ctx context.Context, t *table, key string, value []byte, ttl time.Duration) error {
		if err := t.insert(ctx, key, value, ttl); err != nil {
			return fmt.Errorf("put %v: %w", value, err)
		}
		return nil
	}})},
	{"one place", "PlacesAreApart", backendOf(sync.OnceValue(func() *table { return &table{} }), refused)},
	{"expired entries stay", "NoLeftovers", backend(&table{keep: true})},
	{"down is not found", "Down", backendOf(func() *table { return &table{} }, downStore{})},
}

// TestRun_faulty_stores runs the suite on each faulty store, in a separate process. The
// suite has to fail there.
func TestRun_faulty_stores(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			test, _, _ := strings.Cut(fault.found, "/")
			cmd := exec.Command(os.Args[0], "-test.v", "-test.run", "^TestFaulty$/^"+test+"$")
			cmd.Env = append(os.Environ(), "STATETEST_FAULT="+fault.name)
			out, err := cmd.CombinedOutput()
			assert.Error(t, err, "%s", out)
			assert.Contains(t, string(out), "--- FAIL: TestFaulty/"+fault.found, "%s", out)
		})
	}
}

// TestFaulty runs in the processes of TestRun_faulty_stores.
func TestFaulty(t *testing.T) {
	for _, fault := range faults {
		if fault.name == os.Getenv("STATETEST_FAULT") {
			statetest.Run(t, fault.backend)
		}
	}
}

// TestRun_right_store shows that the suite passes for a correct store. So the faults cause
// the failures in TestRun_faulty_stores.
func TestRun_right_store(t *testing.T) { statetest.Run(t, backend(&table{})) }

func TestRun_example(t *testing.T) { testMapStore(t) }

func TestMemory(t *testing.T) {
	statetest.Run(t, statetest.Backend{Open: func(*testing.T) (a, b state.Store) {
		m := state.NewMemory(0)
		return m, m
	}})
}
