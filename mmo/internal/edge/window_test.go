package edge_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/stretchr/testify/require"
)

// message returns the n-th message, with a time after that of the vectors.
func message(n int, after time.Duration) edge.Message {
	m := edge.Message{Time: sealed.Add(after)}
	binary.BigEndian.PutUint64(m.Nonce[:], uint64(n))
	return m
}

func TestWindow(t *testing.T) {
	var w edge.Window
	for i := range 100 { // one a second, each a second time as well
		at := time.Duration(i) * time.Second
		require.True(t, w.Fresh(message(i, at)), i)
		require.False(t, w.Fresh(message(i, at)), i)
		if i >= 19 {
			require.False(t, w.Fresh(message(i-19, at-19*time.Second)), i)
		}
		require.False(t, w.Fresh(message(0, 0)), "the first, after %v", at)
	}
	require.True(t, w.Fresh(message(1000, 80*time.Second)), "late, but new")
	require.False(t, w.Fresh(message(1001, 0)), "too old to be known")
}

func TestWindowFlood(t *testing.T) {
	var w edge.Window
	const n = 100_000
	for i := range n {
		require.True(t, w.Fresh(message(i, time.Duration(i)*10*time.Microsecond)))
	}
	for i := range n {
		if w.Fresh(message(i, time.Duration(i)*10*time.Microsecond)) {
			t.Fatalf("message %d passes twice", i)
		}
	}
}
