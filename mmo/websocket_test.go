package mmo_test

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/stretchr/testify/require"
)

// rawWebSocket is an edge's side of a WebSocket, in single bytes. It has taken the login
// with the connect key "key" and let the client in.
func rawWebSocket(conn net.Conn) (say func(data string)) {
	r := bufio.NewReader(conn)
	req, err := http.ReadRequest(r)
	if err != nil {
		return func(string) {}
	}
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	const header = 2 + 4 // and the mask
	var login [header + edge.SeedSize + header + edge.Overhead + len("key")]byte
	_, _ = io.ReadFull(r, login[:])
	var seed [edge.SeedSize]byte
	for i := range seed {
		seed[i] = login[header+i] ^ login[2+i%4]
	}
	c := edge.NewCipher(seed)
	say = func(data string) {
		var nonce [edge.NonceSize]byte
		_, _ = rand.Read(nonce[:])
		payload := c.Seal(nil, nonce, time.Now(), data)
		_, _ = conn.Write(append([]byte{0x82, byte(len(payload))}, payload...))
	}
	say(edge.AuthOK)
	return say
}

// A connection ends soon, whatever the edge makes of the goodbye.
func TestWebSocketEndsSoon(t *testing.T) {
	endless := []byte{0x82, 127, 0x40, 0, 0, 0, 0, 0, 0, 0} // the header of a frame with 2^62 bytes
	for name, serve := range map[string]func(conn net.Conn, say func(string)){
		"says nothing":    func(net.Conn, func(string)) {},
		"endless message": func(conn net.Conn, _ func(string)) { _, _ = conn.Write(endless) },
		"end":             func(_ net.Conn, say func(string)) { say(edge.Closed) },
		"end, then an endless message": func(conn net.Conn, say func(string)) {
			say(edge.Closed)
			_, _ = conn.Write(endless)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := fakeEdge(t, func(conn net.Conn) {
					time.AfterFunc(time.Minute, func() { _ = conn.Close() }) // also a client that hangs ends some time
					say := rawWebSocket(conn)
					time.AfterFunc(time.Second, func() { serve(conn, say) })
					_, _ = io.Copy(io.Discard, conn)
				})
				conn, err := mmo.Dial(t.Context(), mmo.ProtocolWebSocket, "127.0.0.1:1", "key", o)
				require.NoError(t, err)
				time.Sleep(2 * time.Second)
				began := time.Now()
				require.NoError(t, conn.Close())
				require.LessOrEqual(t, time.Since(began), time.Second)
			})
		})
	}
}
