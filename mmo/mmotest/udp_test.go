package mmotest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

// move gives the player a new local port.
func (p *player) move() {
	p.t.Helper()
	conn, err := p.dial(p.t.Context(), "udp", p.address)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = conn.Close() })
	p.conn = conn
}

// overSocketsAndMemory runs a test over both kinds of UDP.
func overSocketsAndMemory(t *testing.T, test func(t *testing.T, e *mmotest.Edge, dial dialer)) {
	t.Run("sockets", func(t *testing.T) { test(t, mmotest.NewEdge(t), netDial) })
	t.Run("memory", func(t *testing.T) {
		e := inMemory(t)
		test(t, e, e.DialContext)
	})
}

// A login that is sent again gets the same answer, and makes no second member.
func TestRepeatedLogin(t *testing.T) {
	overSocketsAndMemory(t, func(t *testing.T, e *mmotest.Edge, dial dialer) {
		bob := joinVia(t, e, "udp", dial, "room", "2")
		e.Admit("room", "key", "1")
		p := connectVia(t, e, "udp", dial)
		datagram := append(edge.AppendAuthHeader(nil, p.seed), p.seal("key")...)
		sealedAgain := append(edge.AppendAuthHeader(nil, p.seed), p.seal("key")...)
		for _, d := range [][]byte{datagram, datagram, sealedAgain} {
			_, err := p.conn.Write(d)
			require.NoError(t, err)
			p.expect(edge.AuthOK) // read checks that the id is the same
		}
		require.Equal(t, []string{"2", "1"}, e.Members("room"))
		p.write("once")
		bob.expect("once")
		require.EqualValues(t, 2, e.Stats().Logins)
	})
}

func TestRepeatedLoginRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := inMemory(t)
		e.Admit("room", "key", "1")
		p := connectVia(t, e, "udp", e.DialContext)
		login := append(edge.AppendAuthHeader(nil, p.seed), p.seal("key")...)
		_, err := p.conn.Write(login)
		require.NoError(t, err)
		p.expect(edge.AuthOK)

		_, err = p.conn.Write(append(edge.AppendAuthHeader(nil, p.seed), p.seal("another key")...))
		require.NoError(t, err)
		p.quiet()
		time.Sleep(14 * time.Second)
		p.write(edge.Heartbeat)
		p.expect(edge.Heartbeat)
		time.Sleep(7 * time.Second)
		_, err = p.conn.Write(login) // too late
		require.NoError(t, err)
		p.quiet()
		e.Kick("room", "1")
		p.expect(edge.Closed)
		_, err = p.conn.Write(append(edge.AppendAuthHeader(nil, p.seed), p.seal("key")...))
		require.NoError(t, err)
		require.EqualValues(t, 3, e.Stats().RefusedLogins)
		require.Empty(t, e.Members("room"))
	})
}

// Somebody who recorded a login and repeats it does not receive the client's messages.
func TestRepeatedLoginFromElsewhere(t *testing.T) {
	overSocketsAndMemory(t, func(t *testing.T, e *mmotest.Edge, dial dialer) {
		e.Admit("room", "key", "1")
		p := connectVia(t, e, "udp", dial)
		login := append(edge.AppendAuthHeader(nil, p.seed), p.seal("key")...)
		_, err := p.conn.Write(login)
		require.NoError(t, err)
		p.expect(edge.AuthOK)

		thief := connectVia(t, e, "udp", dial)
		thief.cipher = p.cipher
		_, err = thief.conn.Write(login)
		require.NoError(t, err)
		thief.expect(edge.AuthOK) // the answer to the one datagram, and no more
		e.Send("room", "for the member")
		p.expect("for the member")
	})
}

func TestNewAddress(t *testing.T) {
	overSocketsAndMemory(t, func(t *testing.T, e *mmotest.Edge, dial dialer) {
		p := joinVia(t, e, "udp", dial, "room", "1")
		bob := joinVia(t, e, "udp", dial, "room", "2")
		old := p.conn
		late := append(edge.AppendHeader(nil, p.id), p.seal("late")...)
		seen := p.seal("from the new port")
		p.clock = func() time.Time { return time.Now().Add(time.Second) }

		p.move()
		p.write(edge.Heartbeat)
		p.expect(edge.Heartbeat)
		e.Send("room", "news")
		p.expect("news")
		bob.expect("news")

		_, err := old.Write(late) // is relayed, but does not lead back
		require.NoError(t, err)
		bob.expect("late")
		e.Send("room", "more news")
		p.expect("more news")
		bob.expect("more news")

		// An invalid payload does not change the address either.
		invalid := append([]byte(nil), seen...)
		invalid[30] ^= 1
		for _, payload := range [][]byte{invalid, nil, {1}} {
			_, err = old.Write(append(edge.AppendHeader(nil, p.id), payload...))
			require.NoError(t, err)
		}
		_, err = old.Write(late) // a replay
		require.NoError(t, err)
		bob.quiet()
		e.Send("room", "the last news")
		p.expect("the last news")
		require.EqualValues(t, 3, e.Stats().Garbled)
		require.EqualValues(t, 1, e.Stats().Replayed)
	})
}

func TestDatagrams(t *testing.T) {
	overSocketsAndMemory(t, func(t *testing.T, e *mmotest.Edge, dial dialer) {
		p := joinVia(t, e, "udp", dial, "room", "1")
		for _, datagram := range [][]byte{
			nil, {1}, make([]byte, 7),
			append(edge.AppendHeader(nil, p.id+1), p.seal("x")...),                // another id
			edge.AppendHeader(nil, p.id),                                          // no payload
			make([]byte, 8), make([]byte, 39), make([]byte, 76), make([]byte, 77), // logins
			make([]byte, 1472), make([]byte, edge.MaxDatagram),
		} {
			_, err := p.conn.Write(datagram)
			require.NoError(t, err)
		}
		p.quiet()
		require.EqualValues(t, 5, e.Stats().Garbled)
		require.EqualValues(t, 6, e.Stats().RefusedLogins)
	})
}

// A message from a client over TCP may be too long for a datagram. It does not reach the
// member over UDP.
func TestTooLongForDatagram(t *testing.T) {
	e := mmotest.NewEdge(t)
	tcp, udp := join(t, e, "tcp", "room", "1"), join(t, e, "udp", "room", "2")
	tcp.write(string(make([]byte, 65464)))
	tcp.write("short")
	udp.expect("short")
	require.EqualValues(t, 1, e.Stats().Lost)
	udp.write(string(make([]byte, 65463)))
	require.Len(t, tcp.read(), 65463)
}
