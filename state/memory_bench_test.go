package state_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
)

// syncMap is a simple alternative to Memory, without expiry and without a limit.
type syncMap struct{ m sync.Map }

func (s *syncMap) Put(_ context.Context, key string, value []byte, _ time.Duration) error {
	s.m.Store(key, value)
	return nil
}

func (s *syncMap) Take(_ context.Context, key string) ([]byte, bool, error) {
	v, ok := s.m.Load(key)
	if !ok {
		return nil, false, nil
	}
	s.m.Delete(key)
	return v.([]byte), true, nil
}

const million = 1_000_000

var (
	liveKeys  = sync.OnceValue(func() []string { return newKeys(million) })
	freshKeys = sync.OnceValue(func() []string { return newKeys(1 << 16) })
)

// BenchmarkPutTake measures one login: a Put and a Take of the same key.
func BenchmarkPutTake(b *testing.B) {
	stores := []struct {
		name string
		new  func() state.Store
	}{
		{"Memory", func() state.Store { return state.NewMemory(2 * million) }},
		{"SyncMap", func() state.Store { return new(syncMap) }},
	}
	for _, live := range []int{0, million} {
		for _, s := range stores {
			store, value := s.new(), make([]byte, 200)
			for _, key := range liveKeys()[:live] {
				store.Put(context.Background(), key, value, time.Hour)
			}
			b.Run(fmt.Sprintf("%s/serial/live=%d", s.name, live), func(b *testing.B) { benchmarkSerial(b, store) })
			b.Run(fmt.Sprintf("%s/parallel8/live=%d", s.name, live), func(b *testing.B) { benchmarkParallel(b, store) })
		}
	}
}

func benchmarkSerial(b *testing.B, store state.Store) {
	keys, value := freshKeys(), make([]byte, 200)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		putTake(b, store, keys[i%len(keys)], value)
	}
}

func benchmarkParallel(b *testing.B, store state.Store) {
	keys, value := freshKeys(), make([]byte, 200)
	b.ReportAllocs()
	b.SetParallelism(4) // times GOMAXPROCS, so 8 goroutines on two processors
	var started atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		// Each goroutine uses every 64th key, so no two goroutines use the same key.
		for i := int(started.Add(1)); pb.Next(); i += 64 {
			putTake(b, store, keys[i%len(keys)], value)
		}
	})
}

func putTake(b *testing.B, store state.Store, key string, value []byte) {
	ctx := context.Background()
	store.Put(ctx, key, value, 5*time.Minute)
	if _, found, _ := store.Take(ctx, key); !found {
		b.Error("a state was lost")
	}
}

// BenchmarkPutFlooded measures a Put into a full store.
func BenchmarkPutFlooded(b *testing.B) {
	ctx := context.Background()
	value := make([]byte, 200)
	keys := liveKeys()
	store := state.NewMemory(0)
	for _, key := range keys {
		store.Put(ctx, key, value, time.Hour)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		store.Put(ctx, keys[i%million], value, time.Hour)
	}
}

// BenchmarkPutLatency measures single Puts into a store with a million entries. In
// Memory/expired, all of these entries have just expired, so the Puts also free the memory
// of the expired entries. In the other two cases, which are for comparison, the entries
// have not expired.
//
// The maximum includes interruptions by the operating system. A garbage collection would
// add milliseconds to a Put of any store, so the benchmark calls runtime.GC beforehand.
func BenchmarkPutLatency(b *testing.B) {
	const puts = 200_000
	const ttl = 3 * time.Second
	ctx := context.Background()
	value := make([]byte, 200)
	fresh := newKeys(puts)
	latencies := make([]int64, 0, puts)

	for _, bench := range []struct {
		name  string
		store func() state.Store
		ttl   time.Duration
	}{
		{"Memory/expired", func() state.Store { return state.NewMemory(2 * million) }, ttl},
		{"Memory/live", func() state.Store { return state.NewMemory(2 * million) }, time.Hour},
		{"SyncMap/live", func() state.Store { return new(syncMap) }, time.Hour},
	} {
		b.Run(bench.name, func(b *testing.B) {
			latencies = latencies[:0]
			for b.Loop() {
				store := bench.store()
				for _, key := range liveKeys() {
					store.Put(ctx, key, slices.Clone(value), bench.ttl)
				}
				runtime.GC()
				time.Sleep(ttl)
				for _, key := range fresh {
					start := time.Now()
					store.Put(ctx, key, value, time.Hour)
					latencies = append(latencies, int64(time.Since(start)))
				}
			}
			slices.Sort(latencies)
			b.ReportMetric(0, "ns/op") // hidden, because it includes the time for filling and waiting
			b.ReportMetric(float64(latencies[len(latencies)/2]), "p50-ns")
			b.ReportMetric(float64(latencies[len(latencies)*999/1000]), "p99.9-ns")
			b.ReportMetric(float64(latencies[len(latencies)-1]), "max-ns")
		})
	}
}
