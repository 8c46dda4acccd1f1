package mmo

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Protocols of a room's edge. The platform's API knows TCP and WebSocket. It is unknown how
// the API would name a UDP port, so connections over UDP need [Dial].
const (
	ProtocolTCP       = "tcp"
	ProtocolWebSocket = "websocket"
	ProtocolUDP       = "udp"
)

// Room lets one client connect to a room. The platform returns it when a client creates or
// joins a room. It prints without its connect key. It is safe for concurrent use as long as
// nobody changes its fields.
type Room struct {
	ID       string // opaque
	EdgeURL  string // where [Room.Dial] connects to
	Protocol string // one of the constants, or "", which means TCP

	// AssignedUID is the uid of this connection if the account is in the room more than
	// once. Otherwise it is "".
	AssignedUID string

	// connectKey lets one connection in. It is unknown whether the key works twice, and how
	// long it lives. It is a pointer because package fmt does not follow a pointer in a
	// struct.
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

// MarshalJSON writes only the exported fields. So a Room that was stored as JSON can't be
// dialed.
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
