package tests

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"
)

// benchmarkState measures logins. A login is a Put and a Take. It compares a store with
// the same two commands on the store's client.
//
// In "alternating", store and client take turns after each login, so that a slow moment of
// the machine affects both. "ratio" is the ratio of the medians of store and client. The
// other benchmarks measure allocations, and many concurrent logins.
func benchmarkState(b *testing.B, store, client func(key string) error) {
	b.Run("alternating", func(b *testing.B) {
		var took [2][]time.Duration
		for i := 0; b.Loop(); i++ {
			for j := range 2 {
				which := (i + j) % 2
				key := rand.Text()
				begin := time.Now()
				if err := [2]func(string) error{store, client}[which](key); err != nil {
					b.Fatal(err)
				}
				took[which] = append(took[which], time.Since(begin))
			}
		}
		var medians [2]float64
		for which := range took {
			slices.Sort(took[which])
			medians[which] = float64(took[which][len(took[which])/2])
		}
		b.ReportMetric(0, "ns/op") // of both together
		b.ReportMetric(medians[0], "store-ns")
		b.ReportMetric(medians[1], "client-ns")
		b.ReportMetric(medians[0]/medians[1], "ratio")
	})
	for name, login := range map[string]func(string) error{"store": store, "client": client} {
		b.Run("parallel/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(8) // times GOMAXPROCS
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := login(rand.Text()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func mustFind(found bool, err error) error {
	if err == nil && !found {
		return errors.New("a state was lost")
	}
	return err
}
