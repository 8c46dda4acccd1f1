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

// put and take fail the test on an error, so that the tests read as what is
// put and what is found.
func put(t testing.TB, s state.Store, key, value string, ttl time.Duration) {
	if err := s.Put(t.Context(), key, []byte(value), ttl); err != nil {
		t.Helper()
		require.NoError(t, err) // which is slow if asked a million times
	}
}

func take(t testing.TB, s state.Store, key string) (value string, found bool) {
	v, found, err := s.Take(t.Context(), key)
	if err != nil || !found && v != nil {
		t.Helper()
		require.NoError(t, err)
		require.Nil(t, v)
	}
	return string(v), found
}

func assertFound(t testing.TB, s state.Store, key, want string) {
	t.Helper()
	got, found := take(t, s, key)
	assert.True(t, found, "%s is not found", key)
	assert.Equal(t, want, got)
}

func assertMissing(t testing.TB, s state.Store, key string) {
	t.Helper()
	_, found := take(t, s, key)
	assert.False(t, found, "%s is found", key)
}

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
		assertMissing(t, m, name) // taken once
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

// Entries of all ages and times to live lie together, in one shard, and are
// swept and dropped around each other.
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

func TestMemoryNoTTL(t *testing.T) {
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
		time.Sleep(time.Hour) // so that now and ttl are more than an int64
		put(t, m, "key", "value", math.MaxInt64)
		assertFound(t, m, "key", "value")

		put(t, m, "key", "value", math.MaxInt64)
		time.Sleep(100 * 365 * 24 * time.Hour)
		assertFound(t, m, "key", "value")
	})
}

// Whatever was put under a key last is found, once, and for as long as the
// last Put said.
func TestMemoryReplace(t *testing.T) {
	ttls := []time.Duration{time.Second, time.Minute, time.Hour}
	pauses := []time.Duration{0, time.Second - 1, time.Second, time.Minute}
	for _, oldTTL := range ttls {
		for _, newTTL := range ttls {
			for _, pause := range pauses {
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
		}
	}
}

func TestMemoryReplaceWhenFull(t *testing.T) {
	m := state.NewMemory(2)
	put(t, m, "a", "1", time.Hour)
	put(t, m, "b", "1", time.Hour)
	put(t, m, "b", "2", time.Hour) // needs no room
	assertFound(t, m, "a", "1")
	assertFound(t, m, "b", "2")

	put(t, m, "a", "1", time.Hour)
	put(t, m, "b", "1", time.Hour)
	put(t, m, "a", "2", time.Hour) // is new again
	put(t, m, "c", "1", time.Hour) // so b goes
	assertFound(t, m, "a", "2")
	assertMissing(t, m, "b")
	assertFound(t, m, "c", "1")
}

func TestMemoryFlood(t *testing.T) {
	for _, capacity := range []int{1, 2, 16, 17, 1000, 1599, 1600, 10_000} {
		t.Run(strconv.Itoa(capacity), func(t *testing.T) {
			m := state.NewMemory(capacity)
			n := 3 * capacity
			for i := range n {
				put(t, m, fmt.Sprint("first ", i), "value", 24*time.Hour)
			}
			put(t, m, "honest", "value", time.Minute)
			safe := capacity - (capacity+15)/16
			if capacity >= 1600 { // more than one shard
				safe = capacity * 3 / 4
			}
			for i := range safe {
				put(t, m, fmt.Sprint("second ", i), "value", 24*time.Hour)
			}
			assertFound(t, m, "honest", "value")
			put(t, m, "newest", "value", time.Second)
			assertFound(t, m, "newest", "value")

			left, newer := 0, 0
			for i := range n {
				if _, found := take(t, m, fmt.Sprint("first ", i)); found {
					left++
				}
			}
			for i := range safe {
				if _, found := take(t, m, fmt.Sprint("second ", i)); found {
					newer++
				}
			}
			assert.LessOrEqual(t, left+newer, capacity)
			assert.GreaterOrEqual(t, left+newer, capacity*7/8-2)
			assert.GreaterOrEqual(t, newer, safe-1) // the oldest went
		})
	}
}

// TestMemoryOfLongValues: a flood chooses how long the values are. They may have a
// kilobyte each, on average.
func TestMemoryOfLongValues(t *testing.T) {
	const capacity = 1000
	for _, size := range []int{2 << 10, 64 << 10, 2 << 20} {
		m := state.NewMemory(capacity)
		value := strings.Repeat("v", size)
		for i := range 3 * capacity {
			put(t, m, strconv.Itoa(i), value, time.Minute)
		}
		assertFound(t, m, strconv.Itoa(3*capacity-1), value) // the last, however long
		kept := 1
		for i := range 3*capacity - 1 {
			if _, found := take(t, m, strconv.Itoa(i)); found {
				kept++
			}
		}
		assert.LessOrEqual(t, kept*size, max(capacity<<10, size))
		assert.GreaterOrEqual(t, kept, capacity<<10/size*3/4)
	}
}

// TestMemoryKeepsCount has entries go in every way there is. There is room for as many
// as ever then, and not for more.
func TestMemoryKeepsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const capacity = 400
		m := state.NewMemory(capacity)
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
		time.Sleep(time.Minute) // what is left expires in another one
		value := long[:1000]
		put(t, m, "alive", "", time.Hour)
		time.Sleep(time.Minute)
		for i := range capacity - 1 {
			put(t, m, "new"+strconv.Itoa(i), value, time.Minute)
		}
		for i := range capacity - 1 {
			_, found := take(t, m, "new"+strconv.Itoa(i))
			assert.True(t, found, i)
		}
		assertFound(t, m, "alive", "")

		for range 20 { // each time over, and after all has expired once
			for i := range capacity {
				put(t, m, strconv.Itoa(i), value, time.Minute)
			}
		}
		time.Sleep(2 * time.Hour)
		for range 20 {
			for i := range capacity {
				put(t, m, strconv.Itoa(i), value, time.Minute)
			}
		}
		for i := range capacity {
			assertFound(t, m, strconv.Itoa(i), value)
		}

		for i := range capacity {
			put(t, m, strconv.Itoa(i), value, time.Minute)
		}
		longest := strings.Repeat("v", 200_000)
		put(t, m, "longest", longest, time.Minute)
		assertFound(t, m, "longest", longest)
		kept := len(longest)
		for i := range capacity {
			if _, found := take(t, m, strconv.Itoa(i)); found {
				kept += len(value)
			}
		}
		assert.LessOrEqual(t, kept, capacity<<10)
		assert.Greater(t, kept, capacity<<10*3/4)
	})
}

// All of the capacity is for entries that are untaken and alive.
func TestMemoryFullOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const capacity = 1000
		m := state.NewMemory(capacity)
		put(t, m, "slow", "value", time.Hour)
		for i := range 20 * capacity { // logins that succeed
			key := strconv.Itoa(i)
			put(t, m, key, "value", time.Hour)
			assertFound(t, m, key, "value")
		}
		for flood := range 20 { // and floods, each after the other has expired
			for i := range capacity - 1 {
				put(t, m, fmt.Sprint(flood, "/", i), "value", time.Second)
			}
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
	fill := func(t *testing.T, m *state.Memory, entries int, ttl time.Duration) {
		for i := range entries {
			put(t, m, "flood "+strconv.Itoa(i), "a value of some length, in memory of its own", ttl)
		}
	}

	t.Run("all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			before := heap()
			m := state.NewMemory(0)
			fill(t, m, 3*state.DefaultCapacity, time.Minute)
			full := heap() - before
			assert.Less(t, full, 32<<20, "three times the capacity was put")

			time.Sleep(time.Minute)
			assertMissing(t, m, "any key") // a single call, of either method
			assert.Less(t, heap()-before, full/20)
			runtime.KeepAlive(m)
		})
	})
	t.Run("around the living", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			before := heap()
			m := state.NewMemory(0)
			fill(t, m, state.DefaultCapacity/2, time.Minute) // never full
			for i := range state.DefaultCapacity / 20 {
				put(t, m, fmt.Sprint("alive ", i), "value", time.Hour)
			}
			full := heap() - before

			time.Sleep(time.Minute)
			for i := range state.DefaultCapacity / 20 {
				put(t, m, fmt.Sprint("later ", i), "value", time.Hour)
			}
			assert.Less(t, heap()-before, full/3)
			for i := range state.DefaultCapacity / 20 {
				assertFound(t, m, fmt.Sprint("alive ", i), "value")
			}
		})
	})
}

func TestMemoryOneWinner(t *testing.T) {
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

// Stores with room and without, under everything at once: what is found is what
// was put, and no more often than it was put.
func TestMemoryConcurrent(t *testing.T) {
	for _, capacity := range []int{100, 10_000} {
		t.Run(strconv.Itoa(capacity), func(t *testing.T) {
			m := state.NewMemory(capacity)
			const keys = 500
			var puts, takes [keys]atomic.Int64
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() {
					ctx := context.Background()
					for i := range 5000 {
						k := (i*7 + g*131) % keys
						key := strconv.Itoa(k)
						switch i % 3 {
						case 0:
							puts[k].Add(1)
							assert.NoError(t, m.Put(ctx, key, []byte(key), time.Minute))
						case 1:
							value, found, err := m.Take(ctx, key)
							assert.NoError(t, err)
							if found {
								takes[k].Add(1)
								assert.Equal(t, key, string(value))
							}
						case 2:
							assert.NoError(t, m.Put(ctx, fmt.Sprint(g, "/", i), nil, time.Microsecond))
						}
					}
				})
			}
			wg.Wait()
			for k := range keys {
				assert.LessOrEqual(t, takes[k].Load(), puts[k].Load())
			}
		})
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
	assertFound(t, m, "key", "value") // nothing was done
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
	login() // makes the maps
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
			assert.False(t, strings.Contains(printed, hidden), "%s is printed, as %s", secret, format)
		}
	}
}
