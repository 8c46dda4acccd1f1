package oauth2login

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// These tests are inside the package for three reasons. Tests outside cannot set the
// machine's clock, cannot forge a pending login, and would need too long for 110,000
// logins.

// TestMoment sets the wall clock and the monotonic clock apart. A token has expired as
// soon as one of them says so.
func TestMoment(t *testing.T) {
	start := time.Now()
	for _, c := range []struct {
		name       string
		wall, mono time.Duration // time until each clock shows the expiry
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

	// A token from a store has no monotonic clock reading.
	m := momentAt(start.Add(time.Minute).Round(0), start)
	assert.False(t, m.reached(start))
	assert.True(t, m.reached(start.Add(time.Minute)))
	assert.True(t, m.mono == start.Add(time.Minute), "but gets one")
	for years, want := range map[int]bool{-5000: true, -500: true, 500: false, 7000: false} {
		assert.Equal(t, want, momentAt(start.AddDate(years, 0, 0), start).reached(start), "in %d years", years)
	}
	m.wall += int64(time.Hour) // the wall clock is set back by an hour
	assert.True(t, m.reached(start.Add(time.Minute)), "a wall clock revives no token")
}

// The clock at the end of a login may differ from the clock at the start. The login may
// end on another machine. Or the clock was set, or stood still while the machine was
// suspended.
func TestUnderWay(t *testing.T) {
	const lifetime = 5 * time.Minute
	start := time.Now()
	l := &pendingLogin{Expires: start.Add(lifetime).UnixMilli()}
	for _, c := range []struct {
		ahead          time.Duration // how far the clock at the end is ahead of the start
		stored, sealed bool
	}{
		{-24 * time.Hour, false, false},
		{-301 * time.Second, false, false},
		{-299 * time.Second, true, false},
		{-61 * time.Second, true, false},
		{-59 * time.Second, true, true},
		{0, true, true},
		{299 * time.Second, true, true},
		{301 * time.Second, true, false}, // the store's own expiry has ended the login by then
		{599 * time.Second, true, false},
		{601 * time.Second, false, false},
		{24 * time.Hour, false, false},
	} {
		now := start.Add(c.ahead)
		assert.Equal(t, c.stored, l.underWay(now, lifetime, storeSkew, storeSkew), "stored, %v", c.ahead)
		assert.Equal(t, c.sealed, l.underWay(now, lifetime, sealedSkew, 0), "sealed, %v", c.ahead)
	}
}

func TestNotUnderWay(t *testing.T) {
	const lifetime = 5 * time.Minute
	start := time.Now().Truncate(time.Second)
	l := &pendingLogin{Expires: start.Add(lifetime).UnixMilli()}
	for ahead, want := range map[time.Duration]string{
		time.Hour:       "too late: the login expired 55m0s ago by this machine's clock",
		-time.Hour:      "the login began 1h0m0s in the future of this machine's clock",
		5 * time.Minute: "too late: the login expired 0s ago by this machine's clock",
	} {
		err := l.notUnderWay(start.Add(ahead), lifetime)
		assert.EqualError(t, err, want)
		assert.ErrorIs(t, err, ErrStateNotFound)
	}
}

// An expired sealed login stays expired when the wall clock is set back, whether the
// login was used or not. The process that sealed the login measures its age with the
// monotonic clock.
func TestSealedClockSetBack(t *testing.T) {
	const lifetime = 5 * time.Minute
	keys, err := seal.New([][]byte{{31: 1}})
	require.NoError(t, err)
	for back, found := range map[time.Duration]bool{0: true, lifetime: false, 24 * time.Hour: false} {
		synctest.Test(t, func(t *testing.T) {
			s, other := newSealedLogins(keys, lifetime), newSealedLogins(keys, lifetime)
			time.Sleep(time.Hour)
			// Expires is later by back. So after time.Sleep(back), the wall clock seems
			// to have been set back by this duration.
			l := &pendingLogin{Verifier: "v", Expires: time.Now().Add(back + lifetime).UnixMilli()}
			sealed, err := s.keep(t.Context(), place{key: "key"}, l)
			require.NoError(t, err)
			time.Sleep(back)
			_, err = s.redeem(t.Context(), place{key: "key"}, sealed)
			if found {
				require.NoError(t, err)
				_, err = s.redeem(t.Context(), place{key: "key"}, sealed)
			}
			assert.ErrorIs(t, err, ErrStateNotFound, back)
			_, err = other.redeem(t.Context(), place{key: "key"}, sealed)
			assert.NoError(t, err, "another process goes by the wall clock only")
		})
	}
}

// An unsafe return path is not used, even if a pending login contains it.
func TestReturnToIsCheckedOnTheWayOut(t *testing.T) {
	for name, options := range map[string]*Options{"stored": nil, "sealed": {StateKeys: [][]byte{{31: 1}}}} {
		p, err := New(&oauth2.Config{
			ClientID: "id", ClientSecret: "s", RedirectURL: "https://app.example/callback",
			Endpoint: oauth2.Endpoint{AuthURL: "https://provider.example/a", TokenURL: "https://provider.example/t"},
		}, options)
		require.NoError(t, err)
		for _, path := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "javascript:alert(1)", "/a\r\nb"} {
			at := p.browserPlace("secret" + path)
			l := &pendingLogin{ReturnTo: path, Expires: time.Now().Add(time.Minute).UnixMilli()}
			carry, err := p.pending.keep(t.Context(), at.place, l)
			require.NoError(t, err)
			l, err = p.pending.redeem(t.Context(), at.place, carry)
			require.NoError(t, err)
			require.Equal(t, path, l.ReturnTo, "the test's own premise")
			_, err = p.finish(t.Context(), callback{err: &CallbackError{Code: "access_denied"}}, l)
			failed, ok := errors.AsType[*LoginError](err)
			require.True(t, ok)
			assert.Equal(t, "/", failed.ReturnTo, name)
		}
	}
}

// TestRedeemedFlood finishes more logins than a process remembers. Anybody can do that
// without the platform. Still, no state works twice: the process refuses a state if it
// can't know whether the state was used. TestRedeemedFlood_logins, a long test, does the
// same with whole logins.
func TestRedeemedFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lifetime = 5 * time.Minute
		r := newRedeemed(lifetime)
		expires := func() int64 { return time.Now().Add(lifetime).UnixMilli() }
		begun := expires()
		require.True(t, r.first("first", begun))
		time.Sleep(10 * time.Second)
		require.False(t, r.first("first", begun))
		for i := range maxRedeemed + maxRedeemed/10 {
			time.Sleep(time.Microsecond)
			if !r.first(strconv.Itoa(i), expires()) {
				t.Fatal("a login of now is refused")
			}
		}
		assert.LessOrEqual(t, len(r.byKey), maxRedeemed)
		assert.False(t, r.first("first", begun), "after the flood")
		assert.True(t, r.first("last", expires()), "a login of now is finished")
	})
}
