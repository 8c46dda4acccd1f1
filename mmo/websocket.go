package mmo

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/coder/websocket"
)

// closeWait is how long a WebSocket waits for the edge to answer its close message.
const closeWait = time.Second

// wsTransport sends the seed, then payloads. Each is a binary message in one frame.
type wsTransport struct {
	conn    *websocket.Conn
	socket  net.Conn // below conn; nil if the HTTP client does not tell it
	buf     bytes.Buffer
	reading context.Context // of all reads; ends after close
	stop    context.CancelFunc
}

// dialWebSocket also returns the edge's clock, or the zero time. Redirects are not
// followed: they would take the connect key to another host.
func dialWebSocket(ctx context.Context, url string, hc *http.Client) (*wsTransport, time.Time, error) {
	client := *http.DefaultClient
	if hc != nil {
		client = *hc
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t := new(wsTransport)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { t.socket = info.Conn },
	})
	conn, res, err := websocket.Dial(ctx, url, handshakeOptions(&client))
	if err != nil {
		if res != nil && res.StatusCode != http.StatusSwitchingProtocols {
			err = failed(ErrRefused, "it answered with status "+strconv.Itoa(res.StatusCode), err)
		}
		return nil, time.Time{}, err
	}
	conn.SetReadLimit(edge.MaxPayload)
	clock, _ := http.ParseTime(res.Header.Get("Date"))
	t.conn = conn
	t.reading, t.stop = context.WithCancel(context.Background())
	return t, clock, nil
}

func (t *wsTransport) login(ctx context.Context, seed [edge.SeedSize]byte, payload []byte) error {
	if err := t.send(ctx, seed[:]); err != nil {
		return err
	}
	return t.send(ctx, payload)
}

func (t *wsTransport) accept() bool             { return true }
func (t *wsTransport) header(dst []byte) []byte { return dst }
func (t *wsTransport) maxData() int             { return edge.MaxData }
func (t *wsTransport) hasMore() bool            { return false }
func (t *wsTransport) isLossy() bool            { return false }

func (t *wsTransport) send(ctx context.Context, packet []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return t.conn.Write(ctx, websocket.MessageBinary, packet)
}

// read returns an empty payload for a text message, because the protocol has only binary
// messages.
func (t *wsTransport) read() ([]byte, error) {
	if t.buf.Cap() > keepBuffer {
		t.buf = bytes.Buffer{}
	}
	t.buf.Reset()
	kind, r, err := t.conn.Reader(t.reading)
	if err == nil {
		_, err = t.buf.ReadFrom(r)
	}
	if err != nil {
		if websocket.CloseStatus(err) != -1 {
			err = failed(ErrClosedByEdge, "it sent a close frame", err)
		}
		return nil, err
	}
	if kind != websocket.MessageBinary {
		return nil, nil
	}
	return t.buf.Bytes(), nil
}

// close says goodbye with status 1000 and an empty reason, as the official clients do. After
// closeWait it closes the socket: Close alone can wait for the rest of a message forever.
func (t *wsTransport) close() {
	timer := time.AfterFunc(closeWait, func() {
		t.stop()
		if t.socket != nil {
			_ = t.socket.Close()
		}
	})
	defer timer.Stop()
	_ = t.conn.Close(websocket.StatusNormalClosure, "")
	t.stop()
}
