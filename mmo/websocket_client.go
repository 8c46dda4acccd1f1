//go:build !js

package mmo

import (
	"net/http"

	"github.com/coder/websocket"
)

func handshakeOptions(hc *http.Client) *websocket.DialOptions {
	return &websocket.DialOptions{HTTPClient: hc}
}
