package mmotest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"

	"github.com/coder/websocket"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// connKey is the key of the *conn in a request's context.
type connKey struct{}

func (e *Edge) webServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", e.serveWebSocket)
	s := &http.Server{
		Handler:        mux,
		ReadTimeout:    loginTimeout, // like WriteTimeout, not for a WebSocket
		WriteTimeout:   loginTimeout,
		MaxHeaderBytes: 8 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	s.SetKeepAlivesEnabled(false)
	return s
}

// serveWebSocket serves a client. A page of another origin is refused.
func (e *Edge) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	if !e.begin() {
		return
	}
	defer e.serving.Done()
	w.Header().Set("Date", e.settings.Load().now().UTC().Format(http.TimeFormat))
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	c := r.Context().Value(connKey{}).(*conn)
	defer c.Close() // CloseNow does not reach conn
	defer ws.CloseNow()
	ws.SetReadLimit(edge.MaxPayload)
	e.serveStream(c, &webSocket{c, ws})
}

// webSocket speaks in binary messages.
type webSocket struct {
	*conn
	ws *websocket.Conn
}

func (s *webSocket) readSeed() (seed [edge.SeedSize]byte, err error) {
	message, err := s.read(nil, edge.SeedSize)
	if err == nil && len(message) != edge.SeedSize {
		err = errLogin
	}
	if err == nil {
		seed = [edge.SeedSize]byte(message)
	}
	return seed, err
}

// read returns no payload for a text message, so that it counts as garbled.
func (s *webSocket) read(buf []byte, limit int) ([]byte, error) {
	kind, r, err := s.ws.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	message := bytes.NewBuffer(buf[:0])
	n, err := message.ReadFrom(io.LimitReader(r, int64(limit)+1))
	switch {
	case err != nil:
		return nil, err
	case n > int64(limit):
		return nil, edge.ErrFrame
	case kind != websocket.MessageBinary:
		return message.Bytes()[:0], nil
	}
	return message.Bytes(), nil
}

func (s *webSocket) header(packet []byte) []byte { return packet }

func (s *webSocket) send(packet []byte) error {
	return s.ws.Write(context.Background(), websocket.MessageBinary, packet)
}

func (s *webSocket) flush() error { return nil }

func (s *webSocket) finish() { _ = s.ws.Close(websocket.StatusNormalClosure, "") }
