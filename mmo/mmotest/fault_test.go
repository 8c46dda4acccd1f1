package mmotest_test

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

// numbers makes ann send numbers over UDP, and returns the numbers that bob gets.
func numbers(t *testing.T, f mmotest.Faults, count int) (got []string) {
	synctest.Test(t, func(t *testing.T) {
		e := inMemory(t)
		ann, bob := joinInMemory(t, e, "udp", "room", "1"), joinInMemory(t, e, "udp", "room", "2")
		e.SetFaults(f)
		for i := range count {
			ann.write(fmt.Sprint(i))
			synctest.Wait()
		}
		time.Sleep(time.Second) // what is held back
		e.SetFaults(mmotest.Faults{})
		ann.write("end")
		for {
			data := bob.read()
			if data == "end" {
				return
			}
			got = append(got, data)
		}
	})
	return got
}

func TestDatagramFaults(t *testing.T) {
	tests := []struct {
		name string
		d    mmotest.Datagrams
		in   []string
		out  []string
	}{
		{"none", mmotest.Datagrams{}, []string{"0", "1", "2", "3"}, []string{"0", "1", "2", "3"}},
		{"lose next", mmotest.Datagrams{LoseNext: 3}, []string{"3"}, []string{"3"}},
		{"lose all", mmotest.Datagrams{Loss: 1}, nil, nil},
		{"reorder", mmotest.Datagrams{Reorder: 1}, []string{"1", "0", "3", "2"}, []string{"1", "0", "3", "2"}},
		// The edge drops the second copy of a datagram.
		{"duplicate", mmotest.Datagrams{Duplicates: 1}, []string{"0", "1", "2", "3"}, []string{"0", "0", "1", "1", "2", "2", "3", "3"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.in, numbers(t, mmotest.Faults{In: test.d}, 4))
			require.Equal(t, test.out, numbers(t, mmotest.Faults{Out: test.d}, 4))
		})
	}
}

// A datagram that is held back arrives even if no datagram follows it.
func TestReorderLast(t *testing.T) {
	reorder := mmotest.Datagrams{Reorder: 1}
	require.Equal(t, []string{"0"}, numbers(t, mmotest.Faults{In: reorder}, 1))
	require.Equal(t, []string{"0"}, numbers(t, mmotest.Faults{Out: reorder}, 1))
}

func TestDatagramShares(t *testing.T) {
	some := mmotest.Datagrams{Loss: 0.05, Duplicates: 0.05, Reorder: 0.2}
	got := numbers(t, mmotest.Faults{Out: some, Seed: 7}, 200)
	require.Equal(t, got, numbers(t, mmotest.Faults{Out: some, Seed: 7}, 200), "the same seed")
	require.NotEqual(t, got, numbers(t, mmotest.Faults{Out: some, Seed: 8}, 200))
	require.False(t, slices.IsSorted(got))
	distinct := make(map[string]int)
	for _, n := range got {
		distinct[n]++
	}
	require.InDelta(t, 190, len(distinct), 9)
	require.Greater(t, len(got), len(distinct))
}

// A client logs in although its first login, or the answer, is lost.
func TestLostLogin(t *testing.T) {
	for name, f := range map[string]mmotest.Faults{
		"login": {In: mmotest.Datagrams{LoseNext: 1}}, "answer": {Out: mmotest.Datagrams{LoseNext: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			e := mmotest.NewEdge(t)
			e.SetFaults(f)
			e.Admit("room", "key", "1")
			p := connect(t, e, "udp")
			p.startLogin("key")
			p.startLogin("key")
			p.expect(edge.AuthOK)
			require.EqualValues(t, 1, e.Stats().Logins)
			require.EqualValues(t, 1, e.Stats().Lost)
		})
	}
}

func TestDelay(t *testing.T) {
	inBubbles(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		ann, bob := joinInMemory(t, e, protocol, "room", "1"), joinInMemory(t, e, protocol, "room", "2")
		e.SetFaults(mmotest.Faults{Delay: 3 * time.Second})
		begin := time.Now()
		ann.write("first")
		time.Sleep(time.Second)
		ann.write("second")
		bob.expect("first")
		require.Equal(t, 3*time.Second, time.Since(begin))
		bob.expect("second")
		require.Equal(t, 4*time.Second, time.Since(begin))
		ann.write("third")
		synctest.Wait()
		e.CloseRoom("room")
		bob.expect("third", edge.Closed)
		require.Equal(t, 4*time.Second, time.Since(begin))
	})
}

func TestMute(t *testing.T) {
	inBubbles(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		ann, bob := joinInMemory(t, e, protocol, "room", "1"), joinInMemory(t, e, protocol, "room", "2")
		e.SetFaults(mmotest.Faults{Mute: true})
		ann.write("lost")
		synctest.Wait()
		e.Admit("room", "key", "3")
		p := connectVia(t, e, protocol, e.DialContext)
		p.startLogin("key")
		synctest.Wait()
		if protocol == "udp" {
			p.startLogin("key")
		}
		synctest.Wait()
		e.SetFaults(mmotest.Faults{})
		require.Equal(t, []string{"1", "2", "3"}, e.Members("room"))
		ann.write("heard")
		bob.expect("heard")
	})
}

func TestGarbled(t *testing.T) {
	overAll(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		ann := join(t, e, protocol, "room", "1")
		e.SetFaults(mmotest.Faults{Garbled: 1})
		e.Send("room", "garbled")
		_, err := ann.next()
		require.ErrorIs(t, err, edge.ErrPayload)
		e.SetFaults(mmotest.Faults{})
		e.Send("room", "good")
		ann.expect("good")
	})
}

// A client gets its messages one byte at a time.
func TestSegment(t *testing.T) {
	for _, protocol := range []string{"tcp", "websocket"} {
		synctest.Test(t, func(t *testing.T) {
			e := inMemory(t)
			e.SetFaults(mmotest.Faults{Segment: 1})
			ann := joinInMemory(t, e, protocol, "room", "1")
			e.Send("room", "piece by piece")
			if protocol == "tcp" {
				buf := make([]byte, 100)
				n, err := ann.conn.Read(buf) // past the player's buffer, which is empty
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.Zero(t, buf[0])
				rest := io.MultiReader(&oneZero{}, ann.conn)
				payload, err := edge.ReadFrame(rest, nil)
				require.NoError(t, err)
				m, err := ann.cipher.Open(payload)
				require.NoError(t, err)
				require.Equal(t, "piece by piece", string(m.Data))
				return
			}
			ann.expect("piece by piece")
		})
	}
}

// oneZero is a reader that returns a single zero byte.
type oneZero struct{ done bool }

func (r *oneZero) Read(p []byte) (int, error) {
	if r.done {
		return 0, io.EOF
	}
	p[0], r.done = 0, true
	return 1, nil
}

// A connection is cut at any byte of a frame.
func TestCutAfter(t *testing.T) {
	const size = edge.FrameHeader + edge.Overhead + 1
	for after := 1; after <= 2*size; after++ {
		e := inMemory(t)
		ann, bob := joinInMemory(t, e, "tcp", "room", "1"), joinInMemory(t, e, "udp", "room", "2")
		ann.announce("1", "")
		bob.read()
		e.SetFaults(mmotest.Faults{CutAfter: after})
		e.Send("room", "x")
		e.Send("room", "y")
		if after >= size {
			ann.expect("x")
		}
		if after == 2*size {
			ann.expect("y")
		}
		_, err := ann.next()
		if after%size == 0 {
			require.ErrorIs(t, err, io.EOF)
		} else {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, after)
		}
		bob.expect("x", "y", leaving("1"))
		require.NoError(t, e.Close())
	}
}

func TestCutAfterWebSocket(t *testing.T) {
	e := mmotest.NewEdge(t)
	ann := join(t, e, "websocket", "room", "1")
	e.SetFaults(mmotest.Faults{CutAfter: 10, Segment: 3})
	e.Send("room", "hello")
	_, err := ann.next()
	require.Error(t, err)
	e.SetFaults(mmotest.Faults{})
	join(t, e, "websocket", "room", "2")
}
