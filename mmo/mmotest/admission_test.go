package mmotest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

// refused checks that a login with key is refused. Over UDP there is no answer, so refused
// waits until the edge has counted the login.
func refused(t *testing.T, e *mmotest.Edge, protocol, key string) {
	t.Helper()
	before := e.Stats().RefusedLogins
	p := connectVia(t, e, protocol, e.DialContext)
	p.startLogin(key)
	p.ended()
	require.Equal(t, before+1, e.Stats().RefusedLogins)
}

func TestAdmit(t *testing.T) {
	long := strings.Repeat("k", edge.MaxConnectKey)
	inBubbles(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		login := func(key string) {
			t.Helper()
			connectVia(t, e, protocol, e.DialContext).login(key)
		}
		refused(t, e, protocol, "unknown")
		e.Admit("room", "once", "1")
		require.Equal(t, []string{"1"}, e.Members("room"))
		login("once")
		refused(t, e, protocol, "once")

		e.Admit("room", "moved", "2")
		e.Admit("other", "moved", "3")
		require.Equal(t, []string{"1"}, e.Members("room"))
		login("moved")
		require.Equal(t, []string{"3"}, e.Members("other"))

		e.Admit("room", long, "4")
		login(long)
		e.Admit("room", long+"k", "5")
		refused(t, e, protocol, long+"k")
		e.Admit("room", "", "6")
		refused(t, e, protocol, "")
		require.Equal(t, []string{"1", "4"}, e.Members("room"))
	})
}

func TestAdmitKeepsNewestKeys(t *testing.T) {
	e := inMemory(t)
	key := make([]byte, 3)
	for i := range 100_001 {
		key[0], key[1], key[2] = byte(i), byte(i>>8), byte(i>>16)
		e.Admit("room", string(key), "1")
	}
	refused(t, e, "udp", "\x00\x00\x00")
	p := connectVia(t, e, "udp", e.DialContext)
	p.login("\x01\x00\x00")
}

func TestTestRoom(t *testing.T) {
	inBubbles(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		ann, bob := connectVia(t, e, protocol, e.DialContext), connectVia(t, e, protocol, e.DialContext)
		ann.login(mmotest.TestRoom)
		bob.login(mmotest.TestRoom)
		require.Empty(t, e.Members(mmotest.TestRoom))
		ann.announce("1", "Ann")
		bob.expect(announcement("1", "Ann"))
		require.Equal(t, []string{"1"}, e.Members(mmotest.TestRoom))
		e.Kick(mmotest.TestRoom, "1")
		ann.expect(edge.Closed)
		bob.expect(leaving("1"))

		// Admit can't move the key of the test room to another room.
		e.Admit("elsewhere", mmotest.TestRoom, "9")
		connectVia(t, e, protocol, e.DialContext).login(mmotest.TestRoom)
		require.Empty(t, e.Members("elsewhere"))
	})
}

// A recorded login does not let its sender into the shared test room.
func TestTestRoomReplay(t *testing.T) {
	inBubbles(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		first := connectVia(t, e, protocol, e.DialContext)
		login := first.seal(mmotest.TestRoom)
		require.NoError(t, first.wire.start(first.seed))
		require.NoError(t, first.wire.write(login))
		first.expect(edge.AuthOK)
		e.CloseRoom(mmotest.TestRoom)
		first.expect(edge.Closed)

		replay := connectVia(t, e, protocol, e.DialContext)
		replay.seed = first.seed
		require.NoError(t, replay.wire.start(replay.seed))
		require.NoError(t, replay.wire.write(login))
		replay.ended()
		require.EqualValues(t, 1, e.Stats().RefusedLogins)
	})
}
