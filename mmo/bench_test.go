package mmo_test

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// BenchmarkTCP compares a Conn with the hand-written client byHand, over TCP and with texts
// of 100 bytes:
//
//	go test -run '^$' -bench TCP -benchmem -count 5 .
//
// "send" ends when the system has taken the message. "receive" ends when the application
// has the text. "echo" measures both.
func BenchmarkTCP(b *testing.B) {
	text := strings.Repeat("x", 100)
	for name, c := range map[string]struct {
		edge func(conn net.Conn, c *edge.Cipher)
		run  func(b *testing.B, send func(string), receive func() string)
	}{
		"send": {discard, func(b *testing.B, send func(string), _ func() string) {
			for b.Loop() {
				send(text)
			}
		}},
		"receive": {flood(text), func(b *testing.B, send func(string), receive func() string) {
			for b.Loop() {
				receive()
			}
		}},
		"echo": {echo, func(b *testing.B, send func(string), receive func() string) {
			for b.Loop() {
				send(text)
				receive()
			}
		}},
	} {
		b.Run(name+"/conn", func(b *testing.B) {
			conn, err := mmo.Dial(b.Context(), "tcp", listen(b, c.edge), "key", nil)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			ctx := context.Background()
			c.run(b, func(text string) {
				if err := conn.Send(ctx, text); err != nil {
					b.Fatal(err)
				}
			}, func() string {
				event, err := conn.Read(ctx)
				if err != nil {
					b.Fatal(err)
				}
				return string(event.(mmo.Text))
			})
		})
		b.Run(name+"/by hand", func(b *testing.B) {
			conn, err := net.Dial("tcp", listen(b, c.edge))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			h := newByHand(conn)
			h.send("key")
			if h.receive() != "__auth_ok__" {
				b.Fatal("the edge refuses")
			}
			c.run(b, h.send, h.receive)
		})
	}
}

// listen serves one connection after its login.
func listen(b *testing.B, serve func(net.Conn, *edge.Cipher)) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		c := logIn(conn)
		say(conn, c, time.Now(), "__auth_ok__")
		serve(conn, c)
	}()
	b.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func discard(conn net.Conn, _ *edge.Cipher) { _, _ = io.Copy(io.Discard, conn) }

// flood sends the same frame as fast as it can, with many frames in one write.
func flood(text string) func(net.Conn, *edge.Cipher) {
	return func(conn net.Conn, c *edge.Cipher) {
		go discard(conn, c)
		var frames []byte
		for range 400 {
			frame := c.Seal(make([]byte, edge.FrameHeader), [edge.NonceSize]byte{}, time.Now(), text)
			edge.PutFrameHeader(frame)
			frames = append(frames, frame...)
		}
		for {
			if _, err := conn.Write(frames); err != nil {
				return
			}
		}
	}
}

// echo sends texts back. It ignores heartbeats and pings.
func echo(conn net.Conn, c *edge.Cipher) {
	r := bufio.NewReader(conn)
	var buf, frame []byte
	for {
		var err error
		if buf, err = edge.ReadFrame(r, buf); err != nil {
			return
		}
		m, err := c.Open(buf)
		if err != nil || edge.IsControl(string(m.Data)) {
			continue
		}
		m.Nonce[0]++
		frame = c.Seal(append(frame[:0], 0, 0, 0, 0), m.Nonce, m.Time, string(m.Data))
		edge.PutFrameHeader(frame)
		if _, err := conn.Write(frame); err != nil {
			return
		}
	}
}

// byHand is a client that uses only the standard library and one goroutine. It reuses its
// buffers, sets deadlines for an edge that sends or reads nothing, and handles control
// messages.
type byHand struct {
	conn    net.Conn
	r       *bufio.Reader
	aead    cipher.AEAD
	in, out []byte
	head    []byte
}

func newByHand(conn net.Conn) *byHand {
	seed := make([]byte, 32)
	_, _ = rand.Read(seed)
	key := sha256.Sum256(seed)
	block, _ := aes.NewCipher(key[:])
	aead, _ := cipher.NewGCM(block)
	_, _ = conn.Write(seed)
	return &byHand{conn: conn, r: bufio.NewReader(conn), aead: aead, head: make([]byte, 4)}
}

func (h *byHand) send(text string) {
	h.out = append(binary.BigEndian.AppendUint32(h.out[:0], uint32(36+len(text))), make([]byte, 12)...)
	_, _ = rand.Read(h.out[4:])
	h.out = binary.BigEndian.AppendUint64(h.out, uint64(time.Now().UnixMilli()))
	h.out = append(h.out, text...)
	h.out = h.aead.Seal(h.out[:16], h.out[4:16], h.out[16:], nil)
	_ = h.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := h.conn.Write(h.out); err != nil {
		panic(err)
	}
}

func (h *byHand) receive() string {
	for {
		_ = h.conn.SetReadDeadline(time.Now().Add(45 * time.Second))
		if _, err := io.ReadFull(h.r, h.head); err != nil {
			panic(err)
		}
		size := int(binary.BigEndian.Uint32(h.head))
		if size < 36 || size > 1<<20 {
			panic("size")
		}
		if cap(h.in) < size {
			h.in = make([]byte, size)
		}
		h.in = h.in[:size]
		if _, err := io.ReadFull(h.r, h.in); err != nil {
			panic(err)
		}
		plain, err := h.aead.Open(h.in[12:12], h.in[:12], h.in[12:], nil)
		if err != nil {
			continue
		}
		switch data := string(plain[8:]); data {
		case "__hb__":
		case "__closed__":
			panic("closed")
		default:
			return data
		}
	}
}
