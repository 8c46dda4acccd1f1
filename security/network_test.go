package security_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A network has one server answer for every address, and records where requests went.
// It is in memory, so it works in a bubble, where waiting takes no time.
type network struct {
	*http.Transport
	answer func(c net.Conn, r *http.Request, body []byte) // of a request
	tls    *tls.Config                                    // of the server; nil: plain
	wrap   func(net.Conn) net.Conn                        // the client's end of a connection

	mu       sync.Mutex
	dialled  []string
	requests []sentRequest
	conns    []net.Conn // both ends: a handshake goes on for longer than its request
	serving  sync.WaitGroup
	open     atomic.Int32 // connections that the client has not closed
}

type sentRequest struct {
	*http.Request
	body []byte
}

// certificate is package httptest's: it is good for example.com and 127.0.0.1.
var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.TLS.Certificates[0], roots
})

func newNetwork(t *testing.T, answer func(net.Conn, *http.Request, []byte)) *network {
	n := &network{Transport: new(http.Transport), answer: answer}
	n.DialContext = n.dial
	n.DisableCompression = true
	n.MaxResponseHeaderBytes = 1 << 20 // net/http's own limit takes ten times as long
	t.Cleanup(n.close)
	return n
}

// close returns when nobody is left in the network.
func (n *network) close() {
	n.CloseIdleConnections()
	n.mu.Lock()
	for _, c := range n.conns {
		c.Close()
	}
	n.mu.Unlock()
	n.serving.Wait()
}

// secure has the server speak TLS.
func (n *network) secure(trusted bool) {
	cert, roots := certificate()
	if !trusted {
		roots = x509.NewCertPool()
	}
	n.tls = &tls.Config{Certificates: []tls.Certificate{cert}}
	n.TLSClientConfig = &tls.Config{RootCAs: roots}
}

func (n *network) dial(_ context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialled = append(n.dialled, address)
	client, server := net.Pipe()
	if n.tls != nil {
		server = tls.Server(server, n.tls)
	}
	n.serving.Go(func() { n.serve(server) })
	if n.wrap != nil {
		client = n.wrap(client)
	}
	n.conns = append(n.conns, server, client)
	n.open.Add(1)
	return &openConn{Conn: client, n: n}, nil
}

// openConn is open until it is closed.
type openConn struct {
	net.Conn
	n      *network
	closed sync.Once
}

func (c *openConn) Close() error {
	c.closed.Do(func() { c.n.open.Add(-1) })
	return c.Conn.Close()
}

// serve answers requests until the client or the answer closes the connection.
func (n *network) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		n.mu.Lock()
		n.requests = append(n.requests, sentRequest{r, body})
		n.mu.Unlock()
		out := &meter{Conn: c}
		n.answer(out, r, body)
		if out.closed {
			return
		}
	}
}

func (n *network) sent() (dialled []string, requests []sentRequest) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialled, n.requests
}

// meter fails after 64 MiB: what is endless ends, and the test with it.
type meter struct {
	net.Conn
	n      int
	closed bool
}

func (m *meter) Write(p []byte) (int, error) {
	if m.n += len(p); m.n > 64<<20 {
		return 0, io.ErrShortWrite
	}
	return m.Conn.Write(p)
}

func (m *meter) Close() error {
	m.closed = true
	return m.Conn.Close()
}

// trickle writes text a byte a second, then blanks, until nobody listens or an hour is over.
func trickle(w io.Writer, text string) {
	for i := range 3600 {
		b := byte(' ')
		if i < len(text) {
			b = text[i]
		}
		if _, err := w.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// flood writes blocks of b until nobody listens.
func flood(w io.Writer, b string) {
	block := bytes.Repeat([]byte(b), 64<<10/len(b))
	for {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// forget what was sent so far.
func (n *network) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialled, n.requests, n.conns = nil, nil, nil
}

func formOf(r sentRequest) url.Values {
	form, _ := url.ParseQuery(string(r.body))
	return form
}
