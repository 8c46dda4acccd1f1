package mmo

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Protocols of a room's edge. The platform's API knows TCP and WebSocket. How it would
// name a UDP port is unknown, so a connection over UDP begins with [Dial].
const (
	ProtocolTCP       = "tcp"
	ProtocolWebSocket = "websocket"
	ProtocolUDP       = "udp"
)

// Room is one client's way into a room: what the platform answers to a new room, and to
// each join. It prints without its connect key. It is safe for concurrent use as long as
// nobody changes its fields.
type Room struct {
	ID       string // opaque
	EdgeURL  string // where [Room.Dial] connects to
	Protocol string // one of the constants, or "", which means TCP

	// AssignedUID is the uid of this connection if one account is in the room more than
	// once, and otherwise "".
	AssignedUID string

	// connectKey lets one connection in. Whether it works twice, and how long it lives,
	// is unknown. Package fmt does not follow a pointer in a struct.
	connectKey *string
}

// String names the room, the protocol and the address, without the query: that may be
// secret.
func (r Room) String() string {
	address, _, _ := strings.Cut(r.EdgeURL, "?")
	return fmt.Sprintf("room %q, protocol %q, edge %q", r.ID, r.Protocol, address)
}

// Format prints the text of String for every verb.
func (r Room) Format(f fmt.State, verb rune) { formatText(f, verb, r.String()) }

// MarshalJSON writes the exported fields, so a Room that was stored can't be dialed.
func (r Room) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{
		"ID": r.ID, "EdgeURL": r.EdgeURL, "Protocol": r.Protocol, "AssignedUID": r.AssignedUID,
	})
}

// formatText writes text for any verb. Package fmt would print unexported fields.
func formatText(f fmt.State, verb rune, text string) {
	if verb == 'q' {
		text = strconv.Quote(text)
	}
	_, _ = io.WriteString(f, text)
}
