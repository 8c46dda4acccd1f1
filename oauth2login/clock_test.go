//go:build unported

package shangcloud

import (
	"context"
	"encoding/json"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// These tests are inside the package, for no test can set the clock of the machine.

// TestMoment has the wall clock and the monotonic clock run apart: a token has
// expired as soon as one of them says so.
func TestMoment(t *testing.T) {
	start := time.Now()
	for _, c := range []struct {
		name       string
		wall, mono time.Duration // when each will show that the token has expired
		want       bool
	}{
		{"both before", time.Second, time.Second, false},
		{"both after", -time.Second, -time.Second, true},
		{"at the moment", 0, 0, true},
		{"clock set back by an hour", time.Hour, -time.Second, true},
		{"clock set back by a day", 24 * time.Hour, 0, true},
		{"suspended for an hour", -time.Second, time.Hour, true},
		{"clock set forward", -24 * time.Hour, time.Hour, true},
	} {
		m := moment{wall: start.Add(c.wall).UnixNano(), mono: start.Add(c.mono)}
		assert.Equal(t, c.want, m.reached(start), c.name)
	}
	assert.True(t, moment{}.reached(start), "the zero moment has been reached")
	assert.False(t, never.reached(start))

	// A token from a store brings no monotonic clock with it.
	m := momentAt(start.Add(time.Minute).Round(0), start)
	assert.False(t, m.reached(start))
	assert.True(t, m.reached(start.Add(time.Minute)))
	assert.True(t, m.mono == start.Add(time.Minute), "but gets one")
	for years, want := range map[int]bool{-5000: true, -500: true, 500: false, 7000: false} {
		assert.Equal(t, want, momentAt(start.AddDate(years, 0, 0), start).reached(start), "in %d years", years)
	}
	m.wall += int64(time.Hour) // as it looks from then on, by a clock that is set back
	assert.True(t, m.reached(start.Add(time.Minute)), "a wall clock revives no token")
}

// TestSealedAndClocks opens a sealed login by clocks that are not the one it was
// sealed by.
func TestSealedAndClocks(t *testing.T) {
	keys, err := seal.New([][]byte{{31: 1}})
	require.NoError(t, err)
	start := time.Now()
	for _, c := range []struct {
		ahead time.Duration // the opening clock
		want  bool
	}{
		{-24 * time.Hour, false},
		{-time.Hour, false},
		{-61 * time.Second, false},
		{-59 * time.Second, true}, // another machine's clock
		{0, true},
		{299 * time.Second, true},
		{301 * time.Second, false},
		{time.Hour, false},
		{24 * time.Hour, false},
	} {
		s := newSealedLogins(keys)
		sealed, err := s.seal("key", &pendingLogin{Verifier: "v"}, start)
		require.NoError(t, err)
		l, found := s.open(t.Context(), "key", sealed, start.Add(c.ahead))
		assert.Equal(t, c.want, found, c.ahead)
		if found {
			assert.Equal(t, "v", l.Verifier)
		}
	}
}

// TestStoredAndClocks takes a login from a store that still has it, by clocks that are
// not the one it was put by: the store's own clock was set back, or the machine was
// suspended, or the store never lets go.
func TestStoredAndClocks(t *testing.T) {
	p, err := New(Config{ClientID: "demo", RedirectURL: "https://app.example/callback"})
	require.NoError(t, err)
	for _, c := range []struct {
		ahead time.Duration // the taking clock
		want  bool
	}{
		{-24 * time.Hour, false},
		{-time.Hour, false},
		{-301 * time.Second, false},
		{-299 * time.Second, true}, // another machine's clock
		{0, true},
		{599 * time.Second, true}, // the store ends it after 300
		{601 * time.Second, false},
		{time.Hour, false},
		{24 * time.Hour, false},
	} {
		l := &pendingLogin{Verifier: "v"}
		l.begun(time.Now().Add(-c.ahead))
		value, err := json.Marshal(l)
		require.NoError(t, err)
		require.NoError(t, p.conf.States.Put(t.Context(), p.stateKey(browserLogin, "state"), value, time.Hour))
		l, err = p.take(t.Context(), browserLogin, "state")
		if c.want {
			require.NoError(t, err, c.ahead)
			assert.Equal(t, "v", l.Verifier)
		} else {
			assert.ErrorIs(t, err, ErrStateNotFound, c.ahead)
		}
	}
}

// TestSealedAndSteps sets the clock back: what has ended does not begin again when the
// clock shows the old times once more.
func TestSealedAndSteps(t *testing.T) {
	keys, err := seal.New([][]byte{{31: 1}})
	require.NoError(t, err)
	for _, back := range []time.Duration{4 * time.Minute, time.Hour, 24 * time.Hour} {
		for _, used := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				s := newSealedLogins(keys)
				time.Sleep(time.Hour)
				sealed, err := s.seal("key", &pendingLogin{Verifier: "v"}, time.Now())
				require.NoError(t, err)
				if used {
					_, found := s.open(t.Context(), "key", sealed, time.Now())
					require.True(t, found)
				}
				for elapsed := 5 * time.Minute; elapsed < back+10*time.Minute; elapsed += time.Minute {
					time.Sleep(time.Until(s.start.Add(time.Hour + elapsed)))
					_, found := s.open(t.Context(), "key", sealed, time.Now().Add(-back))
					assert.False(t, found, "%v after a step of %v", elapsed, back)
				}
			})
		}
	}
}

// TestSealedOnce has the memory of redeemed states dawdle.
func TestSealedOnce(t *testing.T) {
	keys, err := seal.New([][]byte{{31: 1}})
	require.NoError(t, err)
	s := newSealedLogins(keys)
	s.used = dawdling{s.used}
	sealed, err := s.seal("key", &pendingLogin{Verifier: "v"}, time.Now())
	require.NoError(t, err)
	var redeemed atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, found := s.open(t.Context(), "key", sealed, time.Now()); found {
				redeemed.Add(1)
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 1, redeemed.Load())
}

// dawdling lets others go first before it answers.
type dawdling struct{ state.Store }

func (d dawdling) Take(ctx context.Context, key string) ([]byte, bool, error) {
	value, found, err := d.Store.Take(ctx, key)
	for range 100 {
		runtime.Gosched()
	}
	return value, found, err
}
