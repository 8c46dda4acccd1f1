package mmo_test

import (
	"context"
	"sync/atomic"
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

// endsUnseen is a context that ends without a word.
type endsUnseen struct {
	context.Context
	over *atomic.Bool
}

func (c endsUnseen) Err() error {
	if c.over.Load() {
		return context.Canceled
	}
	return nil
}

// A reader whose context ends just as an event arrives leaves the event to another one.
func TestConnReadersWakeEachOther(t *testing.T) {
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
		over := new(atomic.Bool)
		go readOne(endsUnseen{t.Context(), over})
		synctest.Wait() // it waits first, so it is the one to be woken
		go readOne(t.Context())
		synctest.Wait()
		over.Store(true)
		e.Send("room", "for one of them")
		synctest.Wait()
		require.Len(t, got, 1)
	})
}
