package state_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
)

// syncMap is what an application might use instead: no expiry, no bound.
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

// newKeys returns n keys as the library makes them: 32 random bytes in
// base64url, each a string of its own.
func newKeys(n int) []string {
	keys := make([]string, n)
	var b [32]byte
	for i := range keys {
		rand.Read(b[:])
		keys[i] = base64.RawURLEncoding.EncodeToString(b[:])
	}
	return keys
}

var (
	liveKeys  = sync.OnceValue(func() []string { return newKeys(million) })
	freshKeys = sync.OnceValue(func() []string { return newKeys(1 << 16) })
)

// BenchmarkPutTake is a whole login: a Put and the Take of the same key.
func BenchmarkPutTake(b *testing.B) {
	stores := []struct {
		name string
		new  func() state.Store
	}{
		{"Memory", func() state.Store { return state.NewMemory(2 * million) }},
		{"SyncMap", func() state.Store { return new(syncMap) }},
	}
	ctx := context.Background()
	value := make([]byte, 200)
	for _, live := range []int{0, million} {
		for _, s := range stores {
			keys := freshKeys()
			store := s.new()
			for _, key := range liveKeys()[:live] {
				store.Put(ctx, key, value, time.Hour)
			}
			login := func(b *testing.B, i int) {
				key := keys[i%len(keys)]
				store.Put(ctx, key, value, 5*time.Minute)
				if _, found, _ := store.Take(ctx, key); !found {
					b.Error("a state was lost")
				}
			}
			b.Run(fmt.Sprintf("%s/serial/live=%d", s.name, live), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					login(b, i)
				}
			})
			b.Run(fmt.Sprintf("%s/parallel8/live=%d", s.name, live), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(4) // times GOMAXPROCS, so 8 on two processors
				var part atomic.Int64
				b.RunParallel(func(pb *testing.PB) {
					// Every 64th key, so that no two goroutines meet on one.
					for i := int(part.Add(1)); pb.Next(); i += 64 {
						login(b, i)
					}
				})
			})
		}
	}
}

// BenchmarkPutFlooded is a Put into a store that is full of untaken states.
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

// BenchmarkPutLatency is the latency of each single Put into a store that has
// a million states. In Memory/expired, they have expired just now, and are let
// go meanwhile; in the other two they are alive, for comparison.
//
// The slowest Put is as slow as the machine's worst interruption. A cycle of
// the garbage collector that falls among the Puts adds milliseconds to one of
// them, whatever the store, hence the call of runtime.GC beforehand.
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
			b.ReportMetric(0, "ns/op") // of filling and waiting
			b.ReportMetric(float64(latencies[len(latencies)/2]), "p50-ns")
			b.ReportMetric(float64(latencies[len(latencies)*999/1000]), "p99.9-ns")
			b.ReportMetric(float64(latencies[len(latencies)-1]), "max-ns")
		})
	}
}
