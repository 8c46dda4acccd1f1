package shangcloud_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// refuseStreams speaks as much HTTP/2 (RFC 9113) as it takes to say of each request,
// when all of it has been read, that it has not been looked at.
func refuseStreams(c net.Conn, bodies *atomic.Int32) {
	const data, headers, rstStream, settings, refusedStream, endStream, ack = 0, 1, 3, 4, 7, 1, 1
	defer c.Close()
	out := make(chan []byte, 100) // neither side waits for the other to read
	defer close(out)
	go func() {
		for frame := range out {
			_, _ = c.Write(frame)
		}
	}()
	frame := func(kind, flags byte, stream uint32, payload ...byte) {
		head := binary.BigEndian.AppendUint32([]byte{0, 0, byte(len(payload)), kind, flags}, stream)
		out <- append(head, payload...)
	}
	if _, err := io.ReadFull(c, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	frame(settings, 0, 0)
	for {
		var head [9]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if _, err := io.CopyN(io.Discard, c, int64(length)); err != nil {
			return
		}
		switch kind, flags := head[3], head[4]; {
		case kind == settings && flags&ack == 0:
			frame(settings, ack, 0)
		case kind == data && flags&endStream != 0:
			bodies.Add(1)
			frame(rstStream, 0, binary.BigEndian.Uint32(head[5:]), 0, 0, 0, refusedStream)
		}
	}
}

// TestRefusedStreams: package http sends what HTTP/2 says was refused again, and again,
// which a server that lies can use to be sent a code many times.
func TestRefusedStreams(t *testing.T) {
	for _, e := range endpoints {
		t.Run(e.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bodies atomic.Int32
				n := newNetwork(t, nil)
				n.Protocols = new(http.Protocols)
				n.Protocols.SetUnencryptedHTTP2(true)
				n.DialContext = func(context.Context, string, string) (net.Conn, error) {
					client, server := net.Pipe()
					n.serving.Go(func() { refuseStreams(server, &bodies) })
					n.conns = append(n.conns, client, server)
					return client, nil
				}
				conf := valid()
				conf.ClientSecret = "secret-" + hush
				conf.HTTPClient = &http.Client{Transport: n}
				conf.BaseURL = "http://127.0.0.1:8000"
				p, err := shangcloud.New(conf)
				require.NoError(t, err)

				start := time.Now()
				err = e.call(t.Context(), p)
				assert.ErrorIs(t, err, shangcloud.ErrUnavailable)
				assertPrintsNoSecret(t, err.Error(), err)
				if e.token || e.name == "device" {
					assert.EqualValues(t, 1, bodies.Load(), "a code is sent once, whatever the answer")
					assert.Zero(t, time.Since(start))
				} else { // a call of the API holds nothing that is for once
					assert.Positive(t, bodies.Load())
					assert.LessOrEqual(t, time.Since(start), 10*time.Second)
				}
			})
		})
	}
}
