package mmo

import (
	"net/http"

	"github.com/coder/websocket"
)

// handshakeOptions has no use for the client: in a browser, the browser makes the handshake.
func handshakeOptions(*http.Client) *websocket.DialOptions { return nil }
