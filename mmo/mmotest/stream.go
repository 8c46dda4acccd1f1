package mmotest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// listener accepts connections. It counts them, and applies the edge's faults to them.
type listener struct {
	net.Listener
	e *Edge
}

// Accept waits if the system has no more file descriptors. It returns an error only after
// Close.
func (l *listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err == nil {
			if c := l.e.visit(accepted); c != nil {
				return c, nil
			}
			_ = accepted.Close()
			continue
		}
		if errors.Is(err, net.ErrClosed) || !l.e.pause() {
			return nil, net.ErrClosed
		}
	}
}

// pause waits a little after an error of the system. After Close it reports false.
func (e *Edge) pause() bool {
	select {
	case <-e.closing:
		return false
	case <-time.After(10 * time.Millisecond):
		return true
	}
}

// visit counts a connection that has not logged in. If there are too many, it returns nil.
func (e *Edge) visit(accepted net.Conn) *conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(e.visitors) >= maxVisitors {
		return nil
	}
	c := &conn{Conn: accepted, e: e}
	e.visitors[c] = struct{}{}
	return c
}

// conn is a TCP connection. A WebSocket uses one, too.
type conn struct {
	net.Conn
	e *Edge

	mu     sync.Mutex
	faults *faults // those that sent is for
	sent   int     // bytes
}

func (c *conn) Close() error {
	c.e.mu.Lock()
	delete(c.e.visitors, c)
	c.e.mu.Unlock()
	return c.Conn.Close()
}

// Write sends with faults.
func (c *conn) Write(p []byte) (n int, err error) {
	f := c.e.faults.Load()
	if f == nil || f.Segment <= 0 && f.CutAfter <= 0 {
		return c.Conn.Write(p)
	}
	for n < len(p) {
		size, last := c.allow(f, len(p)-n)
		sent, err := c.Conn.Write(p[n : n+size])
		n += sent
		if last {
			c.cut()
			err = net.ErrClosed
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// allow returns how many of size bytes the next write sends, and whether a cut follows that
// write.
func (c *conn) allow(f *faults, size int) (allowed int, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.faults != f {
		c.faults, c.sent = f, 0
	}
	if f.Segment > 0 {
		size = min(size, f.Segment)
	}
	if f.CutAfter > 0 {
		size = min(size, f.CutAfter-c.sent)
		last = c.sent+size == f.CutAfter
	}
	c.sent += size
	return size, last
}

// cut is Close for callers that hold Edge.mu.
func (c *conn) cut() { _ = c.Conn.Close() }

func (c *conn) expire() { _ = c.SetDeadline(time.Now().Add(farewellTimeout)) }

// stream is a transport over TCP.
type stream interface {
	link
	// readSeed reads the seed, which comes first.
	readSeed() ([edge.SeedSize]byte, error)
	// read reads a payload. It reuses the memory of buf if that is large enough.
	read(buf []byte, limit int) ([]byte, error)
}

// serveStream serves a connection until it ends.
func (e *Edge) serveStream(conn *conn, s stream) {
	_ = conn.SetReadDeadline(time.Now().Add(loginTimeout))
	c, err := e.loginStream(conn, s)
	if err != nil {
		e.stats.refusedLogins.Add(1)
		return
	}
	var payload []byte
	for {
		if payload, err = s.read(small(payload), edge.MaxPayload); err != nil {
			break
		}
		c.receive(payload, nil)
	}
	e.end(c, clientLeft)
	<-c.written
}

// small returns buf for the next message. If a long message has made buf large, small
// returns nil instead.
func small(buf []byte) []byte {
	if cap(buf) > 64<<10 {
		return nil
	}
	return buf[:0]
}

var errLogin = errors.New("the login is refused")

func (e *Edge) loginStream(conn *conn, s stream) (*client, error) {
	seed, err := s.readSeed()
	if err != nil {
		return nil, err
	}
	payload, err := s.read(nil, edge.Overhead+edge.MaxConnectKey)
	if err != nil {
		return nil, err
	}
	c := &client{e: e, cipher: edge.NewCipher(seed), link: s, conn: conn, maxData: edge.MaxData}
	m, err := c.cipher.Open(payload)
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Time{}) // now, because the end of a client sets it again
	if !e.settings.Load().inTime(m.Time) || !e.login(c, m) {
		return nil, errLogin
	}
	return c, nil
}

func (e *Edge) acceptTCP() {
	for {
		accepted, err := e.acceptor.Accept()
		if err != nil {
			return
		}
		if !e.begin() {
			_ = accepted.Close()
			return
		}
		go func() {
			defer e.serving.Done()
			defer accepted.Close()
			c := accepted.(*conn)
			e.serveStream(c, &tcpStream{conn: c, r: bufio.NewReader(c), w: bufio.NewWriter(c)})
		}()
	}
}

// tcpStream speaks in frames.
type tcpStream struct {
	*conn
	r *bufio.Reader
	w *bufio.Writer
}

func (s *tcpStream) readSeed() (seed [edge.SeedSize]byte, err error) {
	_, err = io.ReadFull(s.r, seed[:])
	return seed, err
}

func (s *tcpStream) read(buf []byte, limit int) ([]byte, error) {
	if limit >= edge.MaxPayload {
		return edge.ReadFrame(s.r, buf)
	}
	return edge.ReadFrame(io.LimitReader(s.r, int64(edge.FrameHeader+limit)), buf)
}

func (s *tcpStream) header(packet []byte) []byte { return append(packet, 0, 0, 0, 0) }

func (s *tcpStream) send(packet []byte) error {
	edge.PutFrameHeader(packet)
	_, err := s.w.Write(packet)
	return err
}

func (s *tcpStream) flush() error { return s.w.Flush() }

// finish lets the client read the last packet. If the edge closed the connection at once,
// the system would discard the packet when the client sends something.
func (s *tcpStream) finish() {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = s.Close()
}
