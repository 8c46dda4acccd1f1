package state_test

import (
	"crypto/rand"
	"encoding/base64"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
)

// put fails the test if Put returns an error.
func put(t testing.TB, s state.Store, key, value string, ttl time.Duration) {
	if err := s.Put(t.Context(), key, []byte(value), ttl); err != nil {
		t.Helper()
		require.NoError(t, err) // called only after an error, because it is slow
	}
}

// take fails the test if Take returns an error. It also fails if Take returns a value
// and found is false.
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

// putMany puts value under n keys: prefix0, prefix1 and so on.
func putMany(t testing.TB, s state.Store, prefix string, n int, value string, ttl time.Duration) {
	t.Helper()
	for i := range n {
		put(t, s, prefix+strconv.Itoa(i), value, ttl)
	}
}

// takeMany takes the entries of putMany and returns how many of them it found.
func takeMany(t testing.TB, s state.Store, prefix string, n int, value string) (count int) {
	t.Helper()
	for i := range n {
		got, found := take(t, s, prefix+strconv.Itoa(i))
		if !found {
			continue
		}
		count++
		if got != value {
			t.Errorf("%s%d has another value", prefix, i)
		}
	}
	return count
}

// newKeys returns n keys like those of package oauth2login: 32 random bytes in base64url.
// Each key has its own memory.
func newKeys(n int) []string {
	keys := make([]string, n)
	var b [32]byte
	for i := range keys {
		rand.Read(b[:])
		keys[i] = base64.RawURLEncoding.EncodeToString(b[:])
	}
	return keys
}
