package mmotest_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

// lengths returns the header of a frame.
func lengths(size uint32) []byte { return binary.BigEndian.AppendUint32(nil, size) }

func TestFrames(t *testing.T) {
	e := mmotest.NewEdge(t)
	bob := join(t, e, "tcp", "room", "bob")
	enter := func() *player {
		p := join(t, e, "tcp", "room", "1")
		p.announce("1", "")
		bob.expect(announcement("1", ""))
		return p
	}

	for name, size := range map[string]uint32{"0": 0, "35": 35, "1 MiB, which does not decrypt": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			p := enter()
			_, err := p.conn.Write(append(lengths(size), make([]byte, size)...))
			require.NoError(t, err)
			p.write("after")
			bob.expect("after")
			p.leave()
			bob.expect(leaving("1"))
		})
	}
	for name, sent := range map[string][]byte{
		"1 MiB and a byte": lengths(1<<20 + 1), "4 GiB": lengths(1<<32 - 1),
	} {
		t.Run(name, func(t *testing.T) {
			p := enter()
			_, err := p.conn.Write(sent)
			require.NoError(t, err)
			p.ended()
			bob.expect(leaving("1"))
		})
	}
	for name, sent := range map[string][]byte{"no frame": nil, "half a length": {0, 0}, "half a payload": append(lengths(50), 1, 2, 3)} {
		t.Run("the client closes after "+name, func(t *testing.T) {
			p := enter()
			_, err := p.conn.Write(sent)
			require.NoError(t, err)
			require.NoError(t, p.conn.(*net.TCPConn).CloseWrite())
			p.ended()
			bob.expect(leaving("1"))
		})
	}
	t.Run("the longest message", func(t *testing.T) {
		p := enter()
		longest := strings.Repeat("x", edge.MaxData)
		p.write(longest)
		bob.expect(longest)
	})
	require.EqualValues(t, 3, e.Stats().Garbled)
}

// Seed, length and payload arrive byte by byte.
func TestFramesInPieces(t *testing.T) {
	e := mmotest.NewEdge(t)
	e.Admit("room", "key", "1")
	p := connect(t, e, "tcp")
	payload := p.seal("key")
	for _, b := range append(append(p.seed[:], lengths(uint32(len(payload)))...), payload...) {
		_, err := p.conn.Write([]byte{b})
		require.NoError(t, err)
	}
	p.expect(edge.AuthOK)
}

func TestLoginTimeout(t *testing.T) {
	parts := map[string]func(p *player){
		"nothing": func(p *player) {},
		"the seed": func(p *player) {
			require.NoError(t, p.wire.start(p.seed))
		},
		"a part of the key": func(p *player) {
			require.NoError(t, p.wire.start(p.seed))
			if p.conn != nil {
				_, err := p.conn.Write(append(lengths(50), 1, 2, 3))
				require.NoError(t, err)
			}
		},
	}
	for name, send := range parts {
		for _, protocol := range []string{"tcp", "websocket"} {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					e := inMemory(t)
					begin := time.Now()
					p := connectVia(t, e, protocol, e.DialContext)
					send(p)
					p.ended()
					require.Equal(t, 10*time.Second, time.Since(begin))
				})
			})
		}
	}
}

// A login is short. The edge refuses a longer frame at once, before the whole frame has
// arrived.
func TestLoginFrameTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := inMemory(t)
		begin := time.Now()
		p := connectVia(t, e, "tcp", e.DialContext)
		require.NoError(t, p.wire.start(p.seed))
		_, err := p.conn.Write(append(lengths(1<<20), make([]byte, edge.Overhead+edge.MaxConnectKey)...))
		require.NoError(t, err)
		p.ended()
		require.Zero(t, time.Since(begin))
	})
}

// A client may go on sending after the edge has ended the connection. The client still
// receives __closed__.
func TestClosedIsReadAfterWrites(t *testing.T) {
	e := mmotest.NewEdge(t)
	ann := join(t, e, "tcp", "room", "1")
	e.Kick("room", "1")
	for range 50 {
		ann.write("more")
		runtime.Gosched()
	}
	ann.expect(edge.Closed)
	ann.ended()
}

// The number of connections that have not logged in is limited. When one of them ends,
// another client can connect.
func TestTooManyVisitors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := inMemory(t)
		visitors := make([]*player, 4096)
		for i := range visitors {
			visitors[i] = connectVia(t, e, "tcp", e.DialContext)
		}
		synctest.Wait()
		refused := connectVia(t, e, "tcp", e.DialContext)
		_, err := refused.next()
		require.ErrorIs(t, err, io.EOF)
		visitors[0].leave()
		synctest.Wait()
		joinInMemory(t, e, "tcp", "room", "1")
		joinInMemory(t, e, "tcp", "room", "2")
	})
}

func TestWebSocketMessages(t *testing.T) {
	e := mmotest.NewEdge(t)
	bob := join(t, e, "websocket", "room", "2")
	enter := func() (*player, *websocket.Conn) {
		p := join(t, e, "websocket", "room", "1")
		p.announce("1", "")
		bob.expect(announcement("1", ""))
		return p, p.wire.(*socket).Conn
	}
	t.Run("text", func(t *testing.T) {
		p, ws := enter()
		require.NoError(t, ws.Write(t.Context(), websocket.MessageText, p.seal("as text")))
		p.write("after")
		bob.expect("after")
		require.EqualValues(t, 1, e.Stats().Garbled)
		p.leave()
		bob.expect(leaving("1"))
	})
	t.Run("fragments", func(t *testing.T) {
		p, ws := enter()
		w, err := ws.Writer(t.Context(), websocket.MessageBinary)
		require.NoError(t, err)
		for _, b := range p.seal("in pieces") {
			_, err = w.Write([]byte{b})
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		bob.expect("in pieces")
		p.leave()
		bob.expect(leaving("1"))
	})
	t.Run("longest", func(t *testing.T) {
		p, _ := enter()
		longest := strings.Repeat("x", edge.MaxData)
		p.write(longest)
		bob.expect(longest)
		p.leave()
		bob.expect(leaving("1"))
	})
	t.Run("too long", func(t *testing.T) {
		p, _ := enter()
		_ = p.wire.write(make([]byte, 1<<20+1)) // fails if the edge closes in the middle
		p.ended()
		bob.expect(leaving("1"))
	})
}

func TestWebSocketSeeds(t *testing.T) {
	tests := map[string]struct {
		kind websocket.MessageType
		seed []byte
	}{
		"short": {websocket.MessageBinary, make([]byte, 31)},
		"long":  {websocket.MessageBinary, make([]byte, 33)},
		"text":  {websocket.MessageText, make([]byte, 32)},
		"empty": {websocket.MessageBinary, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := inMemory(t)
				begin := time.Now()
				p := connectVia(t, e, "websocket", e.DialContext)
				require.NoError(t, p.wire.(*socket).Write(t.Context(), test.kind, test.seed))
				p.ended()
				require.Zero(t, time.Since(begin))
			})
		})
	}
}

// The edge serves only /ws, and refuses pages of other origins.
func TestWebSocketRequests(t *testing.T) {
	e := mmotest.NewEdge(t)
	url, _ := e.URL("websocket")
	page := "http" + strings.TrimPrefix(url, "ws")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for url, status := range map[string]int{page: 426, page + "/more": 404, strings.TrimSuffix(page, "ws"): 404} {
		res, err := client.Get(url)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, status, res.StatusCode, url)
	}
	_, res, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {"https://elsewhere.example"}},
	})
	require.Error(t, err)
	require.Equal(t, 403, res.StatusCode)
}

// If a client closes its WebSocket, the edge answers with the same code.
func TestWebSocketClose(t *testing.T) {
	e := mmotest.NewEdge(t)
	ws := join(t, e, "websocket", "room", "1").wire.(*socket).Conn
	e.CloseRoom("room")
	_, _, err := ws.Read(context.Background())
	require.NoError(t, err) // __closed__
	_, _, err = ws.Read(context.Background())
	require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(err))
}
