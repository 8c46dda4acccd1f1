package mmo

// NewRoom returns what the platform would answer.
func NewRoom(id, edgeURL, protocol, connectKey string) *Room {
	return &Room{ID: id, EdgeURL: edgeURL, Protocol: protocol, connectKey: &connectKey}
}

// ParseEdge returns protocol, address, and whether it is encrypted and on this machine.
func ParseEdge(edgeURL, protocol string) (spoken, address string, isSecure, isLocal bool, err error) {
	a, err := parseEdge(edgeURL, protocol)
	return a.protocol, a.address, a.isSecure, isLoopback(a.host), err
}

// ParseEvent is what a Conn does with data.
func ParseEvent(data []byte) Event { return parseEvent(data) }
