package tests

import (
	"crypto/rand"
	"errors"
	"testing"
)

// benchmarkState measures logins one after another, and many at a time.
func benchmarkState(b *testing.B, name string, login func(key string) error) {
	b.Run(name+"/serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := login(rand.Text()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(name+"/parallel", func(b *testing.B) {
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

func mustFind(found bool, err error) error {
	if err == nil && !found {
		return errors.New("a state was lost")
	}
	return err
}
