package mmo_test

import (
	"net"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/stretchr/testify/require"
)

func TestParseEdge(t *testing.T) {
	for _, c := range []struct{ url, protocol, spoken, address string }{
		{"edge.example:9000", "tcp", "tcp", "edge.example:9000"},
		{"tcp://edge.example:9000", "", "tcp", "edge.example:9000"},
		{"TCP://Edge.Example:9000", "TCP", "tcp", "Edge.Example:9000"},
		{" tcp://edge.example:9000\n", " tcp ", "tcp", "edge.example:9000"},
		{"anything://edge.example:9000", "quic", "tcp", "edge.example:9000"},
		{"udp://edge.example:9000", "udp", "udp", "edge.example:9000"},
		{"udp://edge.example:9000", "tcp", "tcp", "edge.example:9000"}, // the protocol decides
		{"192.0.2.1:1", "UDP", "udp", "192.0.2.1:1"},
		{"[2001:db8::1]:65535", "tcp", "tcp", "[2001:db8::1]:65535"},
		{"tcp://[fe80::1%eth0]:1", "tcp", "tcp", "[fe80::1%eth0]:1"},
		{"云.example:9000", "tcp", "tcp", "云.example:9000"},
		{"under_score-1.example.:9000", "tcp", "tcp", "under_score-1.example.:9000"},

		{"edge.example:9000", "websocket", "websocket", "ws://edge.example:9000/ws"},
		{"tcp://[2001:db8::1]:9000", "ws", "websocket", "ws://[2001:db8::1]:9000/ws"},
		{"ws://edge.example/ws", "websocket", "websocket", "ws://edge.example/ws"},
		{"WSS://edge.example/a/../b?x=1&y=%20", "WebSocket", "websocket", "wss://edge.example/a/../b?x=1&y=%20"},
		{"wss://edge.example:443", "ws", "websocket", "wss://edge.example:443"},
		{"wss://[2001:db8::1]:9000/ws", "wss", "websocket", "wss://[2001:db8::1]:9000/ws"},
		{"wss://edge.example/ws", "", "websocket", "wss://edge.example/ws"},
		{"ws://edge.example/ws", "quic", "websocket", "ws://edge.example/ws"},
		{"ws://edge.example:9000/ws", "tcp", "tcp", "edge.example:9000"}, // as the official clients
		{"ws://edge.example:9000/ws", "udp", "udp", "edge.example:9000"},
	} {
		spoken, address, isSecure, isLocal, err := mmo.ParseEdge(c.url, c.protocol)
		require.NoError(t, err, c.url)
		require.Equal(t, c.spoken, spoken, c.url)
		require.Equal(t, c.address, address, c.url)
		require.Equal(t, strings.HasPrefix(c.address, "wss:"), isSecure, c.url)
		require.False(t, isLocal, c.url)
	}
	for _, local := range []string{"localhost:1", "LOCALHOST:1", "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "ws://localhost", "ws://[::1]/ws"} {
		_, _, _, isLocal, err := mmo.ParseEdge(local, "")
		require.NoError(t, err, local)
		require.True(t, isLocal, local)
	}
}

func TestParseEdgeRefuses(t *testing.T) {
	for _, protocol := range []string{"tcp", "udp", "websocket", ""} {
		for _, bad := range []string{
			"", " ", ":", "://", "host", "tcp://host", "host:", ":1", "tcp://:1", "host:0", "host:65536", "host:-1", "host:+1", "host:http",
			"::1:80", "[::1]", "[::1", "[]:1", "user@host:1", "user:secret@host:1", "ho st:1", "ho\tst:1", "host :1", "host\x00:1", "host: 1",
			"tcp://host:1/", "tcp://host:1/path", "tcp://host:1?x", "host:1#x", `ho\st:1`, "tcp://tcp://host:1", ".host:1", "a..b:1", "{host}:1", "//host:1",
			"ws://", "ws:///ws", "ws://:1/ws", "ws://host:/ws", "ws://host:0/", "ws://host:65536/", "ws://host:x/", "ws://user@host/", "wss://u:secret@host/",
			"ws://host/#x", "wss://host/#", "ws://ho st/", "ws://host/a b", "ws://[::1/", "ws://{host}/", "ws://a..b/", "ws:host", "ws:/host", "ws://host/\x00",
		} {
			_, _, _, _, err := mmo.ParseEdge(bad, protocol)
			require.ErrorIs(t, err, mmo.ErrEdgeURL, "%q, %s", bad, protocol)
			require.NotContains(t, err.Error(), "secret")
		}
	}
	for _, protocol := range []string{"tcp", "udp"} {
		_, _, _, _, err := mmo.ParseEdge("wss://host:1/ws", protocol)
		require.ErrorIs(t, err, mmo.ErrEdgeURL, "the encryption would get lost")
		_, _, _, _, err = mmo.ParseEdge("ws://host/ws", protocol)
		require.ErrorIs(t, err, mmo.ErrEdgeURL, "no port")
	}
}

func FuzzParseEdge(f *testing.F) {
	for _, seed := range []string{"host:1", "tcp://[::1]:9000", "wss://h/ws?x#y", "ws://u:p@h:1", "a:b:c", "ws://[fe80::1%25eth0]:1/"} {
		for _, protocol := range []string{"", "tcp", "udp", "websocket"} {
			f.Add(seed, protocol)
		}
	}
	f.Fuzz(func(t *testing.T, edgeURL, protocol string) {
		spoken, address, isSecure, isLocal, err := mmo.ParseEdge(edgeURL, protocol)
		if err != nil {
			require.ErrorIs(t, err, mmo.ErrEdgeURL)
			return
		}
		hostPort := address
		if spoken == mmo.ProtocolWebSocket {
			u, err := url.Parse(address)
			require.NoError(t, err)
			require.Nil(t, u.User)
			require.Equal(t, isSecure, u.Scheme == "wss")
			if hostPort = u.Host; u.Port() == "" {
				hostPort += ":80"
			}
		} else {
			require.False(t, isSecure)
			require.NotRegexp(t, `(?i)^\s*wss://`, edgeURL)
		}
		host, _, err := net.SplitHostPort(hostPort)
		require.NoError(t, err)
		require.NotEmpty(t, host)
		require.False(t, strings.ContainsFunc(host, unicode.IsSpace))
		if isLocal {
			ip := net.ParseIP(host)
			require.True(t, strings.EqualFold(host, "localhost") || ip.IsLoopback(), host)
		}
	})
}
