package state_test

import (
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
)

// FuzzKeys puts values under two different keys. Neither value may replace the other. The
// module tests runs the same test with the stores on servers.
func FuzzKeys(f *testing.F) {
	f.Add("a", "A")
	f.Add("", "\x00")
	f.Add("k", "k ")
	m := state.NewMemory(0)
	f.Fuzz(func(t *testing.T, one, two string) {
		if one == two {
			return
		}
		put(t, m, one, "one", time.Minute)
		put(t, m, two, "two", time.Minute)
		assertFound(t, m, one, "one")
		assertFound(t, m, two, "two")
		assertMissing(t, m, one)
		assertMissing(t, m, two)
	})
}
