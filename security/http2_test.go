package security_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/stretchr/testify/assert"
)

// resetsOfHTTP2 are HTTP/2 frames (RFC 9113, section 4.1). Each frame claims that the
// server has not processed the request. In truth the server has read the whole request.
var resetsOfHTTP2 = map[string]func(stream byte) []byte{
	"refused stream": func(stream byte) []byte { return []byte{0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 7} },
	"protocol error": func(stream byte) []byte { return []byte{0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 1} },
	"go away":        func(byte) []byte { return []byte{0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} },
}

// resetInHTTP2 is a minimal HTTP/2 server. It answers every request with the frame that
// reset returns.
func resetInHTTP2(c net.Conn, reset func(stream byte) []byte, requests *atomic.Int32) {
	const data, settings, endStream, ack = 0, 4, 1, 1
	defer c.Close()
	out := make(chan []byte, 1000) // a buffer, so that neither side waits for the other to read
	defer close(out)
	go func() {
		for frame := range out {
			_, _ = c.Write(frame)
		}
	}()
	if _, err := io.ReadFull(c, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	out <- []byte{0, 0, 0, settings, 0, 0, 0, 0, 0}
	for {
		var head [9]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		length := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
		if _, err := io.CopyN(io.Discard, c, length); err != nil {
			return
		}
		switch kind, flags := head[3], head[4]; {
		case kind == settings && flags&ack == 0:
			out <- []byte{0, 0, 0, settings, ack, 0, 0, 0, 0}
		case kind == data && flags&endStream != 0:
			if requests.Add(1) <= 20 { // a limit, so that a failing test ends
				out <- reset(head[8])
			}
		}
	}
}

// net/http resends a request if an HTTP/2 server claims that it has not processed the
// request. Even then, a code must be sent only once.
func TestAnswersInHTTP2(t *testing.T) {
	for name, reset := range resetsOfHTTP2 {
		for _, e := range endpoints {
			t.Run(e.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var requests atomic.Int32
					n := newNetwork(t, nil)
					n.Protocols = new(http.Protocols)
					n.Protocols.SetUnencryptedHTTP2(true)
					n.DialContext = func(context.Context, string, string) (net.Conn, error) {
						client, server := net.Pipe()
						n.mu.Lock()
						defer n.mu.Unlock()
						n.serving.Go(func() { resetInHTTP2(server, reset, &requests) })
						n.conns = append(n.conns, client, server)
						return client, nil
					}
					conf := valid()
					conf.ClientSecret = "secret-" + hush
					conf.HTTPClient = &http.Client{Transport: n}
					conf.Endpoint = shangcloud.EndpointAt("http://127.0.0.1:8000")
					p := conf.provider(t)

					start := time.Now()
					err := e.call(t.Context(), p)
					assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
					assertPrintsNoSecret(t, err.Error(), err)
					assert.LessOrEqual(t, time.Since(start), 10*time.Second)
					if e.token || e.name == "device" {
						assert.EqualValues(t, 1, requests.Load(), "a code is sent once, whatever the answer")
					} else {
						assert.Positive(t, requests.Load())
						assert.LessOrEqual(t, requests.Load(), int32(4), "an API call is not repeated for ever")
					}
				})
			})
		}
	}
}
