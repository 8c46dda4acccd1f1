package mmo

import (
	"net/http"

	"github.com/coder/websocket"
)

// handshakeOptions ignores the HTTP client, because a browser makes the handshake itself.
func handshakeOptions(*http.Client) *websocket.DialOptions { return nil }
