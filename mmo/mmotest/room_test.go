package mmotest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

func TestRelay(t *testing.T) {
	e := inMemory(t)
	ann, bob := joinInMemory(t, e, "udp", "room", "1"), joinInMemory(t, e, "udp", "room", "2")
	for _, data := range []string{
		"a", "\x00", "not \xff UTF-8", " __hb__", "__hb__ ", "__pong", "{", "{}", "[]", `{"type":8}`,
		`{"uid":"1","message":"hi","extra":""}`, `{"message":"__leave__"}`,
		`{"type":"__sync_var__","uid":"1","vars":{"x":"1.5"},"interp":["x"]}`,
		`{"type":"__join__"}`, `{"type":"__join__","uid":""}`, `{"type":"__join__","uid":"1"`,
	} {
		ann.write(data)
		require.Equal(t, data, bob.read())
	}
	require.Equal(t, `__pong__:0:[]`, ann.pong())
}

func TestRelayRefuses(t *testing.T) {
	e := inMemory(t)
	ann, bob := joinInMemory(t, e, "tcp", "room", "1"), joinInMemory(t, e, "tcp", "room", "2")
	texts := []string{
		"", edge.AuthOK, edge.Closed, edge.PongPrefix, `__pong__:1:[{"uid":"9"}]`,
		"__CLOSED__", "__Ping__", "__HB__", "__PONG__:0:[]", // the Unreal client ignores case
		leaving("2"), `{"uid":"2","type":"__leave__"}`, `{"type":"\u005f\u005fleave__","uid":"2"}`, `{"TYPE":"__LEAVE__","uid":"2"}`,
	}
	for _, data := range texts {
		ann.write(data)
	}
	ann.quiet()
	bob.quiet()
	require.EqualValues(t, len(texts), e.Stats().Refused)
	require.Zero(t, e.Stats().Relayed)
}

func TestAnnouncements(t *testing.T) {
	e := inMemory(t)
	first, second := joinInMemory(t, e, "udp", "room", "a"), joinInMemory(t, e, "udp", "room", "b")
	third := joinInMemory(t, e, "udp", "room", "c")
	first.announce("1", "one")
	second.announce("2", "two")
	third.expect(announcement("1", "one"), announcement("2", "two"))
	require.Equal(t, `__pong__:2:[{"uid":"1","nickname":"one"},{"uid":"2","nickname":"two"}]`, third.pong())

	first.announce("1", "eins") // a new nickname
	third.expect(announcement("1", "eins"))
	second.announce("1", "also one") // a new uid, which the first has, too
	third.expect(leaving("2"), announcement("1", "also one"))
	require.Equal(t, `__pong__:1:[{"uid":"1","nickname":"also one"}]`, third.pong())

	e.Cut("room", "b")
	third.quiet() // the first is still there
	require.Equal(t, `__pong__:1:[{"uid":"1","nickname":"eins"}]`, third.pong())
	e.Cut("room", "a")
	third.expect(leaving("1"))
	require.Equal(t, `__pong__:0:[]`, third.pong())

	third.write(`{"type":"__join__","uid":10001,"nickname":null}`) // as from Godot
	require.Equal(t, `__pong__:1:[{"uid":"10001","nickname":""}]`, third.pong())
}

func TestAnnouncementTooLong(t *testing.T) {
	e := inMemory(t)
	ann, bob := joinInMemory(t, e, "tcp", "room", "1"), joinInMemory(t, e, "tcp", "room", "2")
	long := announcement("1", strings.Repeat("n", 4096))
	ann.write(long)
	bob.expect(long)
	require.Equal(t, `__pong__:0:[]`, bob.pong())
}

// Over UDP, a list that does not fit in a datagram is null. Over TCP, the same list is
// complete.
func TestLongMemberList(t *testing.T) {
	e := inMemory(t)
	udp, tcp := joinInMemory(t, e, "udp", "list", "udp"), joinInMemory(t, e, "tcp", "list", "tcp")
	for i := range 20 {
		p := joinInMemory(t, e, "udp", "list", fmt.Sprint(i))
		p.announce(fmt.Sprint(i), strings.Repeat("n", 4000))
		tcp.read()
	}
	for range 20 {
		udp.read()
	}
	require.Equal(t, "__pong__:20:null", udp.pong())
	count, members, listed := edge.ParsePong(tcp.pong())
	require.True(t, listed)
	require.Equal(t, 20, count)
	require.Len(t, members, 20)
}

func TestKick(t *testing.T) {
	overAll(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		first, second := join(t, e, protocol, "room", "1"), join(t, e, protocol, "room", "1")
		other, elsewhere := join(t, e, protocol, "room", "2"), join(t, e, protocol, "elsewhere", "1")
		first.announce("someone", "")
		for _, p := range []*player{second, other} {
			p.expect(announcement("someone", ""))
		}
		e.Admit("room", "unused", "1")
		e.Admit("elsewhere", "good", "1")

		e.Kick("room", "1")
		first.expect(edge.Closed)
		first.ended()
		second.read() // the other one's leave
		second.expect(edge.Closed)
		other.expect(leaving("someone"))
		elsewhere.quiet()
		require.Equal(t, []string{"2"}, e.Members("room"))
		connect(t, e, protocol).login("good")

		e.Kick("room", "nobody")
		e.Kick("no room", "1")
		other.quiet()
	})
}

func TestCloseRoom(t *testing.T) {
	overAll(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		ann, bob := join(t, e, protocol, "room", "1"), join(t, e, protocol, "room", "2")
		other := join(t, e, protocol, "other", "3")
		e.Admit("room", "unused", "1")
		e.CloseRoom("room")
		e.CloseRoom("no room")
		for _, p := range []*player{ann, bob} {
			p.expect(edge.Closed)
			p.ended()
		}
		require.Empty(t, e.Members("room"))
		other.quiet()
	})
}

func TestCut(t *testing.T) {
	overAll(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		ann, bob := join(t, e, protocol, "room", "1"), join(t, e, protocol, "room", "2")
		ann.announce("1", "")
		bob.expect(announcement("1", ""))
		e.Cut("room", "1")
		ann.ended()
		bob.expect(leaving("1"))
		require.Equal(t, []string{"2"}, e.Members("room"))
	})
}

// A client that closes its connection leaves the room.
func TestClientCloses(t *testing.T) {
	for _, protocol := range []string{"tcp", "websocket"} {
		e := mmotest.NewEdge(t)
		ann, bob := join(t, e, protocol, "room", "1"), join(t, e, protocol, "room", "2")
		ann.announce("1", "")
		bob.expect(announcement("1", ""))
		ann.leave()
		bob.expect(leaving("1"))
	}
}

func TestSend(t *testing.T) {
	overAll(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		ann := join(t, e, protocol, "room", "1")
		other := join(t, e, protocol, "other", "2")
		garbage := []string{"", edge.AuthOK, "__pong__:x:[", "__pong__:-1:{}", "__pong__:99999999999999999999:null", leaving("1")}
		for _, data := range garbage {
			e.Send("room", data)
		}
		e.Send("no room", "x")
		ann.expect(garbage...)
		other.quiet()
	})
}

// Data of the maximum length arrives. Data that is one byte longer is lost.
func TestSendLong(t *testing.T) {
	for protocol, most := range map[string]int{"tcp": edge.MaxData, "websocket": edge.MaxData, "udp": edge.MaxDatagram - 44} {
		e := mmotest.NewEdge(t)
		ann := join(t, e, protocol, "room", "1")
		long := "__pong__:100000:[" + strings.Repeat(`{"uid":1},`, 100_000) + `{}]`
		e.Send("room", strings.Repeat(" ", most+1))
		if most > len(long) {
			e.Send("room", long)
			ann.expect(long)
		}
		e.Send("room", strings.Repeat(" ", most))
		ann.expect(strings.Repeat(" ", most))
		require.EqualValues(t, 1, e.Stats().Lost, protocol)
	}
}
