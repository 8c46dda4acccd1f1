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

// DefaultCapacity is the number of entries that a [Memory] holds by default. With keys of
// 43 bytes and values of 200 bytes, a full Memory takes about 45 MB. With long values, it
// takes at most 120 MB.
const DefaultCapacity = 100_000

const (
	// shardSize is the approximate capacity of one shard. If shards are large, they fill
	// more evenly. If they are small, Put holds the lock for less time while it scans a
	// shard or grows its map.
	shardSize = 800
	maxShards = 1 << 13

	// entrySize is the average number of bytes that an entry may have, key and value
	// together. Without this limit, a flood of logins could fill the memory with long
	// values.
	entrySize = 1 << 10

	dropInterval  = int64(100 * time.Millisecond) // between two runs of dropExpiredShards
	sweepInterval = int64(time.Minute)            // between two sweeps of one shard
)

// Memory is a [Store] in the memory of one process. The zero value is an empty store with
// [DefaultCapacity]. It is safe for concurrent use. It must not be copied after first use.
//
// An oauth2login.Provider whose Options have neither States nor StateKeys uses a Memory.
// If the process ends, its unfinished logins are lost.
//
// Entries expire by the monotonic clock. A Memory never exceeds its capacity: if it is
// full, it drops its oldest entries. In a flood of logins, an entry survives until newer
// entries fill about ¾ of the capacity. For details see docs/states.md in the repository:
// https://github.com/YearnstudioHorizon/shangcloud-oauth2/blob/main/docs/states.md
type Memory struct {
	capacity int
	// The first call of a method creates the table. Package fmt does not follow an
	// atomic.Pointer, so no verb prints the entries.
	table atomic.Pointer[table]
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store for at most capacity entries. If capacity is 0 or less,
// [DefaultCapacity] is used.
func NewMemory(capacity int) *Memory {
	return &Memory{capacity: capacity}
}

// Put implements [Store]. The only possible error is the error of ctx.
func (m *Memory) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ttl <= 0 {
		_, _, err := m.Take(ctx, key) // removes the old value
		return err
	}
	t := m.load()
	s, hash, now := t.lock(key)
	defer s.mu.Unlock()

	expires := now + int64(ttl)
	if expires < now { // the sum overflows: ttl is centuries
		expires = math.MaxInt64
	}
	size := len(key) + len(value)
	isFull := func() bool { return len(s.entries) >= t.limit || s.size+size > t.limit*entrySize }
	if isFull() {
		s.size -= s.entries[hash].size()
		delete(s.entries, hash) // the replaced entry makes room
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

// Take implements [Store]. The only possible error is the error of ctx.
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

// load returns the table. The first call creates the table.
func (m *Memory) load() *table {
	t := m.table.Load()
	if t == nil {
		m.table.CompareAndSwap(nil, newTable(m.capacity))
		t = m.table.Load()
	}
	return t
}

// lock locks the shard of key. It returns the shard, the hash of key and the time.
func (t *table) lock(key string) (s *shard, hash uint64, now int64) {
	now = int64(time.Since(t.epoch))
	t.dropExpiredShards(now)

	// The high word of hash*len is evenly distributed over [0, len).
	hash = maphash.String(t.seed, key)
	i, _ := bits.Mul64(hash, uint64(len(t.shards)))
	s = &t.shards[i]
	s.mu.Lock()
	return s, hash, now
}

// table holds the entries in shards. All times in a table are nanoseconds since epoch, by
// the monotonic clock.
type table struct {
	epoch  time.Time
	seed   maphash.Seed
	shards []shard
	limit  int          // the number of entries in one shard
	dropAt atomic.Int64 // when dropExpiredShards runs next
}

// shard has its own lock, its own map and an equal share of the capacity.
type shard struct {
	mu sync.Mutex
	// The map's keys are hashes, so that a growing map does not have to read every string
	// again. If two keys have the same hash, one replaces the other. The probability is
	// 2⁻⁶⁴ for each pair of keys.
	entries map[uint64]entry
	puts    uint64 // the number of calls of Put so far
	size    int    // the bytes of all keys and values
	peak    int    // the most entries this map has held: a map never shrinks
	last    int64  // when the last entry expires
	sweepAt int64  // when the next sweep is due
}

type entry struct {
	key     string
	value   []byte
	expires int64
	number  uint64 // counts the calls of Put in the shard, so older entries have lower numbers
}

// size is the number of bytes of key and value.
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

// dropExpiredShards empties the shards whose entries have all expired. It takes only a few
// nanoseconds for each shard, because it does not visit the entries. It runs at most once
// in each dropInterval.
func (t *table) dropExpiredShards(now int64) {
	due := t.dropAt.Load()
	if now < due || !t.dropAt.CompareAndSwap(due, now+dropInterval) {
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

// sweep removes the expired entries. The caller holds s.mu.
func (s *shard) sweep(now int64) {
	s.sweepAt = now + sweepInterval
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
		// The map is replaced, because a map never frees unused space. maps.Clone would
		// copy the unused space, too.
		small := make(map[uint64]entry, len(s.entries))
		maps.Copy(small, s.entries)
		s.entries, s.peak = small, len(small)
	}
}

// dropOldest removes the oldest sixteenth of the entries, but at least one entry. The
// caller holds s.mu.
func (s *shard) dropOldest() {
	var buf [2 * shardSize]uint64 // on the stack, unless the capacity is huge
	numbers := buf[:0]
	for _, e := range s.entries {
		numbers = append(numbers, e.number)
	}
	slices.Sort(numbers)
	newestDropped := numbers[(len(numbers)-1)/16]
	maps.DeleteFunc(s.entries, func(_ uint64, e entry) bool {
		old := e.number <= newestDropped
		if old {
			s.size -= e.size()
		}
		return old
	})
}
