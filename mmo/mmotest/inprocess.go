package mmotest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// DialContext connects to an edge from [New] without a network: it has the form of
// [net.Dialer].DialContext and of [net/http.Transport].DialContext. Use it in a
// testing/synctest bubble, because time does not advance there while a goroutine waits for
// the network. Create the edge in the same bubble, and close it there. network is "tcp" or
// "udp", and address is the host and port of one of the edge's URLs. The host is not this
// machine, so package mmo's DialOptions need AllowPlaintext.
func (e *Edge) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	l := e.inMemory[address]
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: memoryAddr(address),
			Err: fmt.Errorf("mmotest: an edge from New is only at %s and %s", e.address(e.tcp), e.address(e.ws))}
	}
	if network == "udp" {
		return newMemorySocket(e), nil
	}
	client, server := net.Pipe()
	select {
	case l.accepted <- server:
		return client, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: network, Addr: memoryAddr(address), Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// pipeListener is a listener in memory.
type pipeListener struct {
	accepted  chan net.Conn
	closeOnce sync.Once
	closed    chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{accepted: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return memoryAddr("edge.test") }

// memoryAddr is an address in memory.
type memoryAddr string

func (memoryAddr) Network() string  { return "memory" }
func (a memoryAddr) String() string { return string(a) }

// memorySocket is a client's socket over UDP.
type memorySocket struct {
	e *Edge

	mu       sync.Mutex
	changed  sync.Cond // of the fields below
	received [][]byte
	closed   bool
	expired  bool        // the deadline is over
	timer    *time.Timer // at the deadline; nil: none
}

// maxReceived is how many datagrams wait for a client. Others are lost.
const maxReceived = 256

var (
	_ net.Conn = (*memorySocket)(nil)
	_ peer     = (*memorySocket)(nil)
)

func newMemorySocket(e *Edge) *memorySocket {
	s := &memorySocket{e: e}
	s.changed.L = &s.mu
	return s
}

func (s *memorySocket) send(datagram []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.received) >= maxReceived {
		s.e.stats.lost.Add(1)
		return
	}
	s.received = append(s.received, bytes.Clone(datagram))
	s.changed.Signal()
}

// Read reads a datagram. What does not fit in p is lost.
func (s *memorySocket) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, net.ErrClosed
		case s.expired:
			return 0, os.ErrDeadlineExceeded
		case len(s.received) > 0:
			n := copy(p, s.received[0])
			s.received = s.received[1:]
			return n, nil
		}
		s.changed.Wait()
	}
}

// Write does not wait.
func (s *memorySocket) Write(p []byte) (int, error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	if len(p) > edge.MaxDatagram {
		return 0, fmt.Errorf("mmotest: a datagram of %d bytes is too long", len(p))
	}
	s.e.datagram(s, bytes.Clone(p))
	return len(p), nil
}

func (s *memorySocket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.received = true, nil
	s.setDeadline(time.Time{})
	return nil
}

func (s *memorySocket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.setDeadline(t)
	return nil
}

func (s *memorySocket) setDeadline(t time.Time) {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer, s.expired = nil, !t.IsZero() && time.Until(t) <= 0
	if !t.IsZero() && !s.expired {
		var timer *time.Timer
		timer = time.AfterFunc(time.Until(t), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.timer == timer {
				s.expired = true
				s.changed.Broadcast()
			}
		})
		s.timer = timer
	}
	s.changed.Broadcast()
}

func (s *memorySocket) SetDeadline(t time.Time) error    { return s.SetReadDeadline(t) }
func (s *memorySocket) SetWriteDeadline(time.Time) error { return nil }
func (s *memorySocket) LocalAddr() net.Addr              { return memoryAddr("client.test") }
func (s *memorySocket) RemoteAddr() net.Addr             { return memoryAddr(s.e.address(s.e.tcp)) }
