package state_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
)

func TestMemoryRoundTrip(t *testing.T) {
	m := state.NewMemory(0)
	for name, value := range map[string][]byte{
		"nil":    nil,
		"empty":  {},
		"short":  []byte("verifier"),
		"64 KiB": bytes.Repeat([]byte{0, 0xff}, 32<<10),
	} {
		require.NoError(t, m.Put(t.Context(), name, value, time.Minute))
		got, found, err := m.Take(t.Context(), name)
		require.NoError(t, err, name)
		assert.True(t, found, name)
		assert.Equal(t, value, got, name)
		assertMissing(t, m, name) // a value is found once
	}
	assertMissing(t, m, "never put")
}

func TestMemoryZeroValue(t *testing.T) {
	var m state.Memory
	assertMissing(t, &m, "key")
	put(t, &m, "key", "value", time.Minute)
	assertFound(t, &m, "key", "value")
}

func TestMemoryExpiry(t *testing.T) {
	for _, ttl := range []time.Duration{
		1, time.Millisecond, time.Second, 90 * time.Second, 5 * time.Minute, 24 * time.Hour,
	} {
		t.Run(ttl.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := state.NewMemory(0)
				put(t, m, "in time", "value", ttl)
				put(t, m, "too late", "value", ttl)
				time.Sleep(ttl - 1)
				assertFound(t, m, "in time", "value")
				time.Sleep(time.Nanosecond)
				assertMissing(t, m, "too late")
			})
		})
	}
}

// Entries with different ages and times to live share one shard.
func TestMemoryMixedTTLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := state.NewMemory(1000)
		ttls := []time.Duration{time.Second, 10 * time.Second, time.Minute, 5 * time.Minute, time.Hour, 24 * time.Hour}
		start := time.Now()
		for _, ttl := range ttls {
			for _, when := range ttls {
				put(t, m, fmt.Sprint(ttl, " at ", when), "value", ttl)
				put(t, m, fmt.Sprint(ttl, " before ", when), "value", ttl)
			}
		}
		for i, when := range ttls {
			time.Sleep(time.Until(start.Add(when - 1)))
			put(t, m, "sweeps", "", time.Second)
			for j, ttl := range ttls {
				_, found := take(t, m, fmt.Sprint(ttl, " before ", when))
				assert.Equal(t, j >= i, found, "%v before %v", ttl, when)
			}
			time.Sleep(time.Nanosecond)
			put(t, m, "sweeps", "", time.Second)
			for j, ttl := range ttls {
				_, found := take(t, m, fmt.Sprint(ttl, " at ", when))
				assert.Equal(t, j > i, found, "%v at %v", ttl, when)
			}
		}
	})
}

func TestMemoryZeroOrNegativeTTL(t *testing.T) {
	m := state.NewMemory(0)
	for _, ttl := range []time.Duration{0, -1, math.MinInt64} {
		put(t, m, "new", "value", ttl)
		assertMissing(t, m, "new")

		put(t, m, "replaced", "old", time.Hour)
		put(t, m, "replaced", "new", ttl)
		assertMissing(t, m, "replaced")
	}
}

func TestMemoryHugeTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := state.NewMemory(0)
		assertMissing(t, m, "key")
		time.Sleep(time.Hour) // so that the sum of now and ttl overflows
		put(t, m, "key", "value", math.MaxInt64)
		assertFound(t, m, "key", "value")

		put(t, m, "key", "value", math.MaxInt64)
		time.Sleep(100 * 365 * 24 * time.Hour)
		assertFound(t, m, "key", "value")
	})
}

func TestMemoryReplace(t *testing.T) {
	ttls := []time.Duration{time.Second, time.Minute, time.Hour}
	pauses := []time.Duration{0, time.Second - 1, time.Second, time.Minute}
	for _, oldTTL := range ttls {
		for _, newTTL := range ttls {
			for _, pause := range pauses {
				t.Run(fmt.Sprint(oldTTL, " by ", newTTL, " after ", pause), func(t *testing.T) {
					testReplace(t, oldTTL, newTTL, pause)
				})
			}
		}
	}
}

// testReplace replaces a value. The new value can be taken once, until its ttl has passed.
func testReplace(t *testing.T, oldTTL, newTTL, pause time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		m := state.NewMemory(0)
		for _, key := range []string{"taken", "expired"} {
			put(t, m, key, "old", oldTTL)
		}
		time.Sleep(pause)
		for _, key := range []string{"taken", "expired"} {
			put(t, m, key, "new", newTTL)
		}
		time.Sleep(newTTL - 1)
		assertFound(t, m, "taken", "new")
		assertMissing(t, m, "taken")
		time.Sleep(time.Nanosecond)
		assertMissing(t, m, "expired")
	})
}

func TestMemoryReplaceWhenFull(t *testing.T) {
	m := state.NewMemory(2)
	put(t, m, "a", "1", time.Hour)
	put(t, m, "b", "1", time.Hour)
	put(t, m, "b", "2", time.Hour) // a replacement needs no room
	assertFound(t, m, "a", "1")
	assertFound(t, m, "b", "2")

	put(t, m, "a", "1", time.Hour)
	put(t, m, "b", "1", time.Hour)
	put(t, m, "a", "2", time.Hour) // now b is the oldest
	put(t, m, "c", "1", time.Hour) // drops b
	assertFound(t, m, "a", "2")
	assertMissing(t, m, "b")
	assertFound(t, m, "c", "1")
}

func TestMemoryFlood(t *testing.T) {
	for _, capacity := range []int{1, 2, 16, 17, 1000, 1599, 1600, 10_000} {
		t.Run(strconv.Itoa(capacity), func(t *testing.T) {
			m := state.NewMemory(capacity)
			putMany(t, m, "older ", 3*capacity, "value", 24*time.Hour)
			put(t, m, "real", "value", time.Minute)
			survives := capacity - (capacity+15)/16
			if capacity >= 1600 { // more than one shard
				survives = capacity * 3 / 4
			}
			putMany(t, m, "newer ", survives, "value", 24*time.Hour)
			assertFound(t, m, "real", "value")
			put(t, m, "newest", "value", time.Second)
			assertFound(t, m, "newest", "value")

			older := takeMany(t, m, "older ", 3*capacity, "value")
			newer := takeMany(t, m, "newer ", survives, "value")
			assert.LessOrEqual(t, older+newer, capacity)
			assert.GreaterOrEqual(t, older+newer, capacity*7/8-2)
			assert.GreaterOrEqual(t, newer, survives-1, "the oldest entries are dropped first")
		})
	}
}

// In a flood of long values, the store keeps at most one kilobyte for each entry of its
// capacity.
func TestMemoryOfLongValues(t *testing.T) {
	const capacity = 1000
	for _, size := range []int{2 << 10, 64 << 10, 2 << 20} {
		m := state.NewMemory(capacity)
		value := strings.Repeat("v", size)
		putMany(t, m, "", 3*capacity, value, time.Minute)
		assertFound(t, m, strconv.Itoa(3*capacity-1), value) // the newest entry is kept, even if it is longer than the limit
		kept := 1 + takeMany(t, m, "", 3*capacity-1, value)
		assert.LessOrEqual(t, kept*size, max(capacity<<10, size))
		assert.GreaterOrEqual(t, kept, capacity<<10/size*3/4)
	}
}

// After entries have been removed in every possible way, the store still holds exactly
// as many entries and bytes as a new one.
func TestMemoryKeepsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const capacity = 400
		m := state.NewMemory(capacity)
		removeInEveryWay(t, m, capacity)

		time.Sleep(time.Minute) // a live entry stays while all others expire
		put(t, m, "live", "", time.Hour)
		time.Sleep(time.Minute)
		value := strings.Repeat("v", 1000)
		putMany(t, m, "new ", capacity-1, value, time.Minute)
		assert.Equal(t, capacity-1, takeMany(t, m, "new ", capacity-1, value))
		assertFound(t, m, "live", "")

		replaceAll := func() {
			for range 20 {
				putMany(t, m, "", capacity, value, time.Minute)
			}
		}
		replaceAll()
		time.Sleep(2 * time.Hour)
		replaceAll()
		assert.Equal(t, capacity, takeMany(t, m, "", capacity, value))

		putMany(t, m, "", capacity, value, time.Minute)
		longest := strings.Repeat("v", 200_000)
		put(t, m, "longest", longest, time.Minute)
		assertFound(t, m, "longest", longest)
		bytes := len(longest) + len(value)*takeMany(t, m, "", capacity, value)
		assert.LessOrEqual(t, bytes, capacity<<10)
		assert.Greater(t, bytes, capacity<<10*3/4)
	})
}

// removeInEveryWay removes entries in four ways: by Take, by replacement, by dropping the
// oldest entries, and by expiry.
func removeInEveryWay(t *testing.T, m *state.Memory, capacity int) {
	long := strings.Repeat("v", 5000)
	for round := range 50 {
		for i := range capacity {
			put(t, m, strconv.Itoa(i), long[:i*7%len(long)], time.Duration(i%3)*time.Minute)
		}
		for i := range capacity / 2 {
			put(t, m, strconv.Itoa(i), "replaced", time.Minute)
			take(t, m, strconv.Itoa(2*i))
		}
		if round%3 == 0 {
			time.Sleep(time.Minute)
		}
	}
}

func TestMemoryTakenAndExpiredNeedNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const capacity = 1000
		m := state.NewMemory(capacity)
		put(t, m, "slow", "value", time.Hour)
		for i := range 20 * capacity { // finished logins
			key := strconv.Itoa(i)
			put(t, m, key, "value", time.Hour)
			assertFound(t, m, key, "value")
		}
		for flood := range 20 { // unfinished logins, which expire before the next flood
			putMany(t, m, fmt.Sprint(flood, "/"), capacity-1, "value", time.Second)
			time.Sleep(time.Second)
		}
		assertFound(t, m, "slow", "value")
	})
}

func TestMemoryHugeCapacity(t *testing.T) {
	m := state.NewMemory(math.MaxInt)
	put(t, m, "key", "value", time.Hour)
	assertFound(t, m, "key", "value")
}

func TestMemoryGivesMemoryBack(t *testing.T) {
	heap := func() int {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int(s.HeapAlloc)
	}
	const value = "a value of some length, in memory of its own"

	t.Run("all entries expired", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			before := heap()
			m := state.NewMemory(0)
			putMany(t, m, "flood ", 3*state.DefaultCapacity, value, time.Minute)
			full := heap() - before
			assert.Less(t, full, 32<<20, "most of the entries were dropped")

			time.Sleep(time.Minute)
			assertMissing(t, m, "any key") // one call is enough
			assert.Less(t, heap()-before, full/20)
			runtime.KeepAlive(m)
		})
	})
	t.Run("some entries live", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			before := heap()
			m := state.NewMemory(0)
			putMany(t, m, "flood ", state.DefaultCapacity/2, value, time.Minute) // never full
			putMany(t, m, "live ", state.DefaultCapacity/20, "value", time.Hour)
			full := heap() - before

			time.Sleep(time.Minute)
			putMany(t, m, "later ", state.DefaultCapacity/20, "value", time.Hour)
			assert.Less(t, heap()-before, full/3)
			assert.Equal(t, state.DefaultCapacity/20, takeMany(t, m, "live ", state.DefaultCapacity/20, "value"))
		})
	})
}

func TestMemoryConcurrentTakes(t *testing.T) {
	m := state.NewMemory(0)
	for range 100 {
		put(t, m, "key", "value", time.Minute)
		var winners atomic.Int32
		start := make(chan struct{})
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				<-start
				value, found, err := m.Take(context.Background(), "key")
				assert.NoError(t, err)
				if found {
					assert.Equal(t, "value", string(value))
					winners.Add(1)
				}
			})
		}
		close(start)
		wg.Wait()
		require.EqualValues(t, 1, winners.Load())
	}
}

// Concurrent calls of Take find only the value that was put under their key. They find it
// at most as often as it was put.
func TestMemoryConcurrentUse(t *testing.T) {
	for _, capacity := range []int{100, 10_000} { // with room for all entries, and without
		t.Run(strconv.Itoa(capacity), func(t *testing.T) {
			var u concurrentUse
			m := state.NewMemory(capacity)
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() { u.run(t, m, g) })
			}
			wg.Wait()
			for k := range u.puts {
				assert.LessOrEqual(t, u.takes[k].Load(), u.puts[k].Load())
			}
		})
	}
}

// concurrentUse counts the puts and the successful takes of each key.
type concurrentUse struct{ puts, takes [500]atomic.Int64 }

// run is the work of one of several goroutines that share a store.
func (u *concurrentUse) run(t *testing.T, m *state.Memory, goroutine int) {
	ctx := context.Background()
	for i := range 5000 {
		k := (i*7 + goroutine*131) % len(u.puts)
		key := strconv.Itoa(k)
		switch i % 3 {
		case 0:
			u.puts[k].Add(1)
			assert.NoError(t, m.Put(ctx, key, []byte(key), time.Minute))
		case 1:
			value, found, err := m.Take(ctx, key)
			assert.NoError(t, err)
			if found {
				u.takes[k].Add(1)
				assert.Equal(t, key, string(value))
			}
		case 2:
			assert.NoError(t, m.Put(ctx, fmt.Sprint(goroutine, "/", i), nil, time.Microsecond))
		}
	}
}

func TestMemoryContext(t *testing.T) {
	m := state.NewMemory(0)
	put(t, m, "key", "value", time.Minute)

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for want, ctx := range map[error]context.Context{
		context.Canceled:         cancelled,
		context.DeadlineExceeded: late,
	} {
		assert.ErrorIs(t, m.Put(ctx, "key", []byte("new"), time.Minute), want)
		assert.ErrorIs(t, m.Put(ctx, "key", []byte("new"), 0), want)
		value, found, err := m.Take(ctx, "key")
		assert.ErrorIs(t, err, want)
		assert.False(t, found)
		assert.Nil(t, value)
	}
	assertFound(t, m, "key", "value") // the failed calls changed nothing
}

func TestMemoryAllocations(t *testing.T) {
	ctx := context.Background()
	value := make([]byte, 200)
	keys := newKeys(100)

	m := state.NewMemory(0)
	login := func() {
		for _, key := range keys {
			m.Put(ctx, key, value, time.Hour)
			m.Take(ctx, key)
		}
	}
	login() // the first calls create the maps
	assert.Zero(t, testing.AllocsPerRun(100, login), "logins")

	full := state.NewMemory(10)
	flood := func() {
		for _, key := range keys {
			full.Put(ctx, key, value, time.Hour)
		}
	}
	flood()
	assert.Zero(t, testing.AllocsPerRun(100, flood), "flood")
}

func TestMemoryPrintsNoSecret(t *testing.T) {
	const key, value = "c3RhdGU", "dmVyaWZpZXI"
	m := state.NewMemory(0)
	put(t, m, key, value, time.Hour)

	type app struct {
		p *state.Memory
		s state.Store
	}
	type public struct{ P *state.Memory }
	type byValue struct{ m state.Memory }
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("", "m", m, "app", app{m, m})
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("", "m", m, "public", public{m})
	printed := logged.String()
	holder := new(byValue)
	put(t, &holder.m, key, value, time.Hour)
	for _, v := range []any{m, &m, app{m, m}, &app{m, m}, public{m}, []any{m}, holder} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
			printed += fmt.Sprintf(verb, v) + "\n"
		}
	}
	asJSON, err := json.Marshal(public{m})
	require.NoError(t, err)
	assert.Equal(t, `{"P":{}}`, string(asJSON))

	for _, secret := range []string{key, value} {
		for _, format := range []string{"%s", "%x", "%X", "%v", "%#v", "%d"} {
			hidden := strings.Trim(fmt.Sprintf(format, []byte(secret)), "[]")
			assert.False(t, strings.Contains(printed, hidden), "%s is printed with %s", secret, format)
		}
	}
}
