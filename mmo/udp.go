package mmo

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// udpTransport sends one message in each datagram. After the login, a failed read or write
// counts as a lost datagram, because the failure may be temporary, for example while the
// network changes. If the failure lasts, the silence ends the connection.
type udpTransport struct {
	redial func(context.Context) (net.Conn, error) // a new local port, the same edge
	buf    []byte
	alive  context.Context // ends with close
	stop   context.CancelFunc

	mu     sync.Mutex
	conn   net.Conn
	id     uint64 // the connect id; 0 until the edge has answered
	lastID uint64 // of the datagram that was read last
}

// newUDP makes a transport of a connection. redial connects to the same address again.
func newUDP(conn net.Conn, redial func(context.Context) (net.Conn, error)) *udpTransport {
	// A datagram over IPv6 can be longer than MaxDatagram. Windows fails to read what does
	// not fit.
	t := &udpTransport{redial: redial, conn: conn, buf: make([]byte, 64<<10)}
	t.alive, t.stop = context.WithCancel(context.Background())
	return t
}

func (t *udpTransport) login(_ context.Context, seed [edge.SeedSize]byte, payload []byte) error {
	packet := append(edge.AppendAuthHeader(nil, seed), payload...)
	_, err := t.current().Write(packet)
	return err
}

// accept takes the connect id from the datagram. The edge never assigns the id 0.
func (t *udpTransport) accept() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.id = t.lastID
	return t.id != 0
}

func (t *udpTransport) header(dst []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return edge.AppendHeader(dst, t.id)
}

func (t *udpTransport) maxData() int {
	return edge.MaxDatagram - edge.DatagramHeader - edge.Overhead
}

func (t *udpTransport) hasMore() bool { return false }
func (t *udpTransport) isLossy() bool { return true }

func (t *udpTransport) send(_ context.Context, packet []byte) error {
	_, _ = t.current().Write(packet)
	return nil
}

func (t *udpTransport) read() ([]byte, error) {
	for {
		conn := t.current()
		n, err := conn.Read(t.buf)
		if err != nil {
			if err := t.readFailed(conn, err); err != nil {
				return nil, err
			}
			continue
		}
		id, payload, ok := edge.ParseDatagram(t.buf[:n])
		if !ok {
			return nil, nil // dropped and counted, as an empty payload
		}
		t.mu.Lock()
		t.lastID = id
		t.mu.Unlock()
		return payload, nil
	}
}

// readFailed returns an error if reading is over. Otherwise it waits a little before the
// next read. If the port has changed, it does not wait.
func (t *udpTransport) readFailed(conn net.Conn, err error) error {
	t.mu.Lock()
	isOver, hasMoved := t.alive.Err() != nil || t.id == 0, t.conn != conn
	t.mu.Unlock()
	switch {
	case hasMoved:
		return nil
	case isOver:
		return err
	}
	select {
	case <-t.alive.Done():
	case <-time.After(100 * time.Millisecond):
	}
	return nil
}

// move changes to a new local port, because a router may have forgotten the old port. If no
// new port is available, move keeps the old one.
func (t *udpTransport) move() {
	ctx, cancel := context.WithTimeout(t.alive, heartbeat) // which waits meanwhile
	defer cancel()
	conn, err := t.redial(ctx)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.alive.Err() != nil {
		_ = conn.Close()
		return
	}
	_ = t.conn.Close()
	t.conn = conn
}

func (t *udpTransport) current() net.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conn
}

func (t *udpTransport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stop()
	_ = t.conn.Close()
}
