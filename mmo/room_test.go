package mmo_test

import (
	"context"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/stretchr/testify/require"
)

// TestRoom uses the platform's calls and the edge together.
func TestRoom(t *testing.T) {
	for _, protocol := range []string{mmo.ProtocolTCP, mmo.ProtocolWebSocket} {
		t.Run(protocol, func(t *testing.T) {
			platform := newPlatform(t)
			platform.SetEdge(mmotest.NewEdge(t))
			owner, guest := newClient(t, platform, ownerUID), newClient(t, platform, guestUID)
			room, err := owner.Create(t.Context(), protocol)
			require.NoError(t, err)
			conn, err := room.Dial(t.Context(), &mmo.DialOptions{UID: "10001", Nickname: "owner"})
			require.NoError(t, err)
			defer conn.Close()

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var reason error
			session := mmo.Session{
				Join:    func(ctx context.Context) (*mmo.Room, error) { return guest.Join(ctx, room.ID, protocol) },
				Options: &mmo.DialOptions{UID: "10002", Nickname: "guest"},
				Use: func(ctx context.Context, conn *mmo.Conn) error {
					if err := conn.Broadcast(ctx, "hello", ""); err != nil {
						return err
					}
					return readAll(ctx, conn)
				},
				Waiting: func(err error, _ time.Duration) { reason = err; cancel() },
			}
			done := make(chan error)
			go func() { done <- session.Run(ctx) }()
			require.Equal(t, mmo.MemberJoined{UID: "10002", Nickname: "guest"}, next[mmo.MemberJoined](t, conn))
			require.Equal(t, mmo.Broadcast{UID: "10002", Message: "hello"}, next[mmo.Broadcast](t, conn))
			require.NoError(t, owner.Kick(t.Context(), room.ID, "10002"))
			require.Equal(t, mmo.MemberLeft{UID: "10002"}, next[mmo.MemberLeft](t, conn))
			require.ErrorIs(t, <-done, context.Canceled)
			require.ErrorIs(t, reason, mmo.ErrClosedByEdge)

			_, err = room.Dial(t.Context(), nil)
			require.ErrorIs(t, err, mmo.ErrRefused, "the test edge takes a connect key once")
		})
	}
}

// A uid that the platform has assigned is announced instead of the application's.
func TestRoomAssignedUID(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		e.Admit("room", "key", "1")
		url, protocol := e.URL("tcp")
		room := mmo.NewRoom("room", url, protocol, "key")
		room.AssignedUID = "1-2"
		conn, err := room.Dial(t.Context(), options(e, "1"))
		require.NoError(t, err)
		defer conn.Close()
		require.Equal(t, []mmo.Member{{UID: "1-2", Nickname: "nick of 1"}}, conn.Members())
	})
}
