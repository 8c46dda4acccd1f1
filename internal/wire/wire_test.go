package wire_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestParseURL(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://a.example/x?y=z": true, "http://127.0.0.1:80/": true, "http://localhost": true, "http://[::1]/": true,
		"http://a.example": false, "": false, "/x": false, "ftp://a.example": false, "https:a": false, "https://": false,
		"https://u@a.example": false, "https://a.example/#": false, "https://.example": false, "https://a..example": false,
		"https://a.example:": false, "https://a.example:99999": false, "https://a.example/{x}": false, "https://%": false,
		"http://127.0.0.1.example": false, "http://127.0.0.1@a.example": false, "http://localhost.example": false, "http://a-localhost": false,
	} {
		_, err := wire.ParseURL(address, false)
		assert.Equal(t, ok, err == nil, "%s: %v", address, err)
	}
	_, err := wire.ParseURL("http://a.example", true)
	assert.NoError(t, err)
}

func TestSend(t *testing.T) {
	req, err := http.NewRequest(http.MethodPost, "https://a.example", strings.NewReader("body"))
	require.NoError(t, err)
	_, err = wire.Send(roundTripper(func(r *http.Request) (*http.Response, error) { return respond(r, 101), nil }), req.Clone(t.Context()), 0)
	assert.ErrorIs(t, err, wire.ErrUnusable)

	resends := 0
	res, err := wire.Send(roundTripper(func(r *http.Request) (*http.Response, error) {
		_, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		for ; resends < 9; resends++ {
			if _, err := r.GetBody(); err != nil {
				break
			}
		}
		res := respond(r, 302)
		res.Header.Set("Location", "%hush")
		return res, nil
	}), req, 3)
	require.NoError(t, err)
	assert.Equal(t, 3, resends)
	assert.Empty(t, res.Header.Get("Location"))
}

// If net/http may resend a request, it sends header and body in one piece. If it must send
// the request only once, it sends header and body separately. The body must then still be
// unread if the connection turns out to be closed.
func TestSendInOnePiece(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer server.Close()
	for resends, pieces := range map[int32]int32{0: 2, 1: 1, 3: 1} {
		var writes atomic.Int32
		transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			return &countingConn{c, &writes}, err
		}}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("body"))
		require.NoError(t, err)
		res, err := wire.Send(transport, req, resends)
		require.NoError(t, err)
		assert.NoError(t, res.Body.Close())
		assert.Equal(t, pieces, writes.Load(), "%d resends", resends)
	}
}

type countingConn struct {
	net.Conn
	writes *atomic.Int32
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func TestFailed(t *testing.T) {
	refused := &oauth2.RetrieveError{Response: &http.Response{StatusCode: 400}, ErrorCode: "invalid_grant"}
	assert.NotErrorIs(t, wire.Failed(t.Context(), "place", "op", refused), wire.ErrUnavailable)
	refused.Response.StatusCode = 503
	assert.ErrorIs(t, wire.Failed(t.Context(), "place", "op", refused), wire.ErrUnavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, wire.Failed(ctx, "place", "op", io.EOF), context.Canceled)
	assert.EqualError(t, wire.Failed(ctx, "place", "op", io.EOF), "place: op: given up by the caller")
}

func TestClient(t *testing.T) {
	hc := wire.Client(nil)
	assert.NotNil(t, wire.Transport(hc))
	assert.Equal(t, http.ErrUseLastResponse, hc.CheckRedirect(nil, nil))
	assert.Equal(t, http.DefaultTransport, wire.Transport(new(http.Client)))
}

func TestLimited(t *testing.T) {
	req, err := http.NewRequest(http.MethodGet, "https://a.example", nil)
	require.NoError(t, err)
	var ctx context.Context
	res, err := wire.Limited(req, time.Hour, func(r *http.Request) (*http.Response, error) {
		ctx = r.Context()
		return respond(r, 200), nil
	})
	require.NoError(t, err)
	_, err = io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.NoError(t, ctx.Err(), "until the body is closed")
	require.NoError(t, res.Body.Close())
	assert.ErrorIs(t, ctx.Err(), context.Canceled)
}
