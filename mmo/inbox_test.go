package mmo_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/stretchr/testify/require"
)

// An event that arrives while Close runs is gone, too.
func TestInboxClosed(t *testing.T) {
	b := mmo.NewInbox()
	require.True(t, b.Put(mmo.Text("before")))
	b.Close()
	require.True(t, b.Put(mmo.Text("after")))
	_, ok := b.Take()
	require.False(t, ok)
}

// A reader whose context ends just as an event arrives leaves it to another one.
func TestConnReadersWakeEachOther(t *testing.T) {
	for range 20 { // what the first one sees first is random
		inMemory(t, func(t *testing.T, e *mmotest.Edge) {
			e.Configure(func(s *mmotest.Settings) { s.SilentHeartbeats = true })
			conn := join(t, e, mmo.ProtocolTCP, "")
			read(t, conn) // the list of members
			got := make(chan mmo.Event, 1)
			readOne := func(ctx context.Context) {
				if event, err := conn.Read(ctx); err == nil {
					got <- event
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			go readOne(ctx)
			synctest.Wait() // it waits first, so it is the one to be woken
			go readOne(t.Context())
			synctest.Wait()
			e.Send("room", "for one of them")
			cancel()
			synctest.Wait()
			require.Len(t, got, 1)
			require.NoError(t, conn.Close())
		})
	}
}
