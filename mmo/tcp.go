package mmo

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// tcpTransport sends the seed, then frames.
type tcpTransport struct {
	conn net.Conn
	r    *bufio.Reader
	buf  []byte
}

func newTCP(conn net.Conn) *tcpTransport {
	return &tcpTransport{conn: conn, r: bufio.NewReader(conn)}
}

func (t *tcpTransport) login(ctx context.Context, seed [edge.SeedSize]byte, payload []byte) error {
	packet := append(seed[:], t.header(nil)...)
	packet = append(packet, payload...)
	edge.PutFrameHeader(packet[edge.SeedSize:])
	return t.write(ctx, packet)
}

func (t *tcpTransport) accept() bool             { return true }
func (t *tcpTransport) header(dst []byte) []byte { return append(dst, 0, 0, 0, 0) }
func (t *tcpTransport) maxData() int             { return edge.MaxData }
func (t *tcpTransport) isLossy() bool            { return false }
func (t *tcpTransport) close()                   { _ = t.conn.Close() }

func (t *tcpTransport) send(ctx context.Context, packet []byte) error {
	edge.PutFrameHeader(packet)
	return t.write(ctx, packet)
}

func (t *tcpTransport) write(ctx context.Context, b []byte) error {
	if err := t.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if ctx.Done() != nil {
		interrupted := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(interrupted)
			_ = t.conn.SetWriteDeadline(time.Unix(1, 0))
		})
		defer func() {
			if !stop() {
				<-interrupted // it must not interrupt the next write
			}
		}()
	}
	_, err := t.conn.Write(b)
	return err
}

func (t *tcpTransport) read() (payload []byte, err error) {
	if cap(t.buf) > keepBuffer {
		t.buf = nil
	}
	t.buf, err = edge.ReadFrame(t.r, t.buf)
	return t.buf, err
}

func (t *tcpTransport) hasMore() bool {
	n := t.r.Buffered()
	if n < edge.FrameHeader {
		return false
	}
	header, _ := t.r.Peek(edge.FrameHeader)
	return n-edge.FrameHeader >= int(binary.BigEndian.Uint32(header))
}
