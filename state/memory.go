package state

import (
	"context"
	"hash/maphash"
	"maps"
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultCapacity is the capacity of a [Memory] that was not given one. Full of
// 43-byte keys and 200-byte values it takes about 45 MB, and 120 MB at most.
const DefaultCapacity = 100_000

const (
	// A shard has its own lock, map and share of the capacity. It is large
	// enough for keys to spread over the shards fairly evenly, and small enough
	// to be looked through under its lock, and for its map to grow in one Put.
	shardSize = 800
	maxShards = 1 << 13

	// entrySize is what entries may have of keys and values, on average: who floods a
	// login chooses how much there is to remember.
	entrySize = 1 << 10

	walkEvery  = int64(100 * time.Millisecond) // let go of shards that have expired
	sweepEvery = int64(time.Minute)            // look through one shard for single entries
)

// Memory is a [Store] in the memory of one process. Its zero value is an empty
// store of [DefaultCapacity]. It is safe for concurrent use and must not be
// copied after first use.
//
// It is what a shangcloud.Provider without Config.States makes for itself. It needs
// nothing, can't be down, and costs a login well under a microsecond. Logins under
// way are lost with the process, and are not known to another one.
//
// # Expiry
//
// Take finds an entry until its time to live has passed, and not from that
// moment on. Time is measured on the monotonic clock: setting the computer's
// clock neither revives an entry nor ends it. While a machine sleeps, that clock may
// stand still; shangcloud.Provider looks at the other one as well.
//
// There is no goroutine and no timer behind a Memory: later calls give back
// the memory of what has expired. Any call, of either method, lets go of all
// parts of the store in which nothing is left alive; where entries of different
// ages or times to live lie together, a Put among them removes the expired
// ones, once a minute. A store that is never called again keeps what it has.
//
// # When the store is full
//
// A Memory never holds more entries than its capacity, nor more keys and values than
// a kilobyte for each, but for one entry that is longer. A Put always succeeds:
// in a full store it first removes what has expired and, if that was not enough,
// drops those untaken entries that were put the longest ago, a sixteenth of
// them at a time. It goes by age, not by what expires next, so that entries
// with a long time to live cannot crowd out those with a short one.
//
// An entry is therefore lost to a flood of logins that nobody finishes only
// after almost capacity newer ones of up to a kilobyte, in the time its user takes to log in. Up
// to a capacity of 1500, "almost" is 15/16, exactly. Above that the entries,
// and the capacity, are divided by a hash of their keys into shards of about
// 800, each of which is full on its own: count on three quarters of the
// capacity. Entries that were taken do not count, however many there were.
type Memory struct {
	capacity int
	// Made by the first call. Package fmt does not follow an atomic.Pointer,
	// whatever the verb: printing a Memory, or what contains one, tells nothing.
	table atomic.Pointer[table]
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store for at most capacity entries, or for
// [DefaultCapacity] if capacity is 0 or less.
func NewMemory(capacity int) *Memory {
	return &Memory{capacity: capacity}
}

// Put implements [Store]. The only error it returns is that of ctx.
func (m *Memory) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ttl <= 0 {
		_, _, err := m.Take(ctx, key) // replaced by nothing
		return err
	}
	t := m.load()
	s, hash, now := t.lock(key)
	defer s.mu.Unlock()

	expires := now + int64(ttl)
	if expires < now { // ttl is centuries
		expires = math.MaxInt64
	}
	size := len(key) + len(value)
	isFull := func() bool { return len(s.entries) >= t.limit || s.size+size > t.limit*entrySize }
	if isFull() {
		s.size -= s.entries[hash].size()
		delete(s.entries, hash) // what is replaced makes its own room
	}
	if isFull() || now >= s.sweepAt {
		s.sweep(now)
		for isFull() && len(s.entries) > 0 {
			s.dropOldest()
		}
	}
	if s.entries == nil {
		s.entries = make(map[uint64]entry)
	}
	s.puts++
	s.size += size - s.entries[hash].size()
	s.entries[hash] = entry{key, value, expires, s.puts}
	s.peak = max(s.peak, len(s.entries))
	s.last = max(s.last, expires)
	return nil
}

// Take implements [Store]. The only error it returns is that of ctx.
func (m *Memory) Take(ctx context.Context, key string) (value []byte, found bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	s, hash, now := m.load().lock(key)
	defer s.mu.Unlock()

	e, ok := s.entries[hash]
	if !ok || e.key != key {
		return nil, false, nil
	}
	delete(s.entries, hash)
	s.size -= e.size()
	if now >= e.expires {
		return nil, false, nil
	}
	return e.value, true, nil
}

func (m *Memory) load() *table {
	t := m.table.Load()
	if t == nil {
		m.table.CompareAndSwap(nil, newTable(m.capacity))
		t = m.table.Load()
	}
	return t
}

// lock returns the shard of key, locked, the hash of key, and the time.
func (t *table) lock(key string) (s *shard, hash uint64, now int64) {
	now = int64(time.Since(t.epoch))
	t.dropExpired(now)

	// The high word of the product is uniform in [0, len).
	hash = maphash.String(t.seed, key)
	i, _ := bits.Mul64(hash, uint64(len(t.shards)))
	s = &t.shards[i]
	s.mu.Lock()
	return s, hash, now
}

// All times are nanoseconds since the table's epoch, on the monotonic clock.
type table struct {
	epoch  time.Time
	seed   maphash.Seed
	shards []shard
	limit  int          // of entries in one shard
	walkAt atomic.Int64 // when dropExpired is next due
}

type shard struct {
	mu sync.Mutex
	// By the hash of their keys, so that a map that grows need not visit each
	// key's memory. Two keys of one hash, which replace each other, are a
	// matter of 2⁻⁶⁴ for each pair of entries.
	entries map[uint64]entry
	puts    uint64 // so far
	size    int    // of all keys and values
	peak    int    // most entries since the map was made: a map never shrinks
	last    int64  // when all entries will have expired
	sweepAt int64  // when the next sweep is due
}

type entry struct {
	key     string
	value   []byte
	expires int64
	number  uint64 // of its Put in the shard: its age, without ties
}

func (e entry) size() int { return len(e.key) + len(e.value) }

func newTable(capacity int) *table {
	if capacity <= 0 {
		capacity = DefaultCapacity
	}
	n := min(max(1, capacity/shardSize), maxShards)
	return &table{
		epoch:  time.Now(),
		seed:   maphash.MakeSeed(),
		shards: make([]shard, n),
		limit:  capacity / n,
	}
}

// dropExpired lets go of all shards in which everything has expired, without
// looking at their entries: some nanoseconds each, ten times a second at most.
func (t *table) dropExpired(now int64) {
	due := t.walkAt.Load()
	if now < due || !t.walkAt.CompareAndSwap(due, now+walkEvery) {
		return
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		if now >= s.last {
			s.entries, s.peak, s.size = nil, 0, 0
		}
		s.mu.Unlock()
	}
}

// sweep removes the expired entries. It is called with s.mu held.
func (s *shard) sweep(now int64) {
	s.sweepAt = now + sweepEvery
	s.last = 0
	for hash, e := range s.entries {
		if now >= e.expires {
			delete(s.entries, hash)
			s.size -= e.size()
		} else {
			s.last = max(s.last, e.expires)
		}
	}
	if len(s.entries) <= s.peak/4 {
		// A map keeps the room of all it ever held; maps.Clone would, too.
		small := make(map[uint64]entry, len(s.entries))
		maps.Copy(small, s.entries)
		s.entries, s.peak = small, len(small)
	}
}

// dropOldest removes a sixteenth of the entries, and one at least: those that
// were put first. It is called with s.mu held.
func (s *shard) dropOldest() {
	var buf [2 * shardSize]uint64 // on the stack, unless the capacity is huge
	numbers := buf[:0]
	for _, e := range s.entries {
		numbers = append(numbers, e.number)
	}
	slices.Sort(numbers)
	last := numbers[(len(numbers)-1)/16]
	maps.DeleteFunc(s.entries, func(_ uint64, e entry) bool {
		old := e.number <= last
		if old {
			s.size -= e.size()
		}
		return old
	})
}
