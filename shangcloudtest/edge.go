package shangcloudtest

import "slices"

// Edge is where the members of a room meet. The server tells it who may come in, and who
// has to leave. Package mmotest has one.
//
// The server calls one method at a time. Each must return soon, and must not call the
// [Server].
type Edge interface {
	// URL returns the "edge_url" and the "protocol" for a client that asks for a protocol.
	// protocol is "tcp", "websocket", or "" for the default of the edge.
	URL(protocol string) (edgeURL, spoken string)

	// Admit lets the holder of a key into a room as the member uid. The key is good
	// for one connection.
	Admit(room, connectKey, uid string)

	// Kick ends the connections of a member, and makes its unused keys invalid. If
	// there is no such member, Kick does nothing.
	Kick(room, uid string)

	// Members returns the UIDs in a room, each once: those that are connected, and
	// those that have been admitted and have not connected yet.
	Members(room string) []string
}

// SetEdge makes the rooms use an edge. Call it before the first call about a room. If e is
// nil, the rooms have no edge again.
//
// Without an edge the calls work, but nothing listens at "edge_url": it names port 1 of
// this machine. The members of a room are then all users who have joined and were not
// kicked.
func (s *Server) SetEdge(e Edge) {
	s.rooms.mu.Lock()
	defer s.rooms.mu.Unlock()
	if e == nil {
		e = noEdge{}
	}
	s.rooms.edge = e
}

// noEdge is an edge without connections. It only remembers the members of each room. The
// server's lock guards it.
type noEdge map[string][]string

var _ Edge = noEdge(nil)

func (noEdge) URL(protocol string) (edgeURL, spoken string) {
	if protocol == "websocket" {
		return "ws://127.0.0.1:1/ws", protocol
	}
	return "tcp://127.0.0.1:1", "tcp" // the real platform's default protocol is unknown
}

func (n noEdge) Admit(room, _, uid string) { n[room] = append(n[room], uid) }

func (n noEdge) Kick(room, uid string) {
	n[room] = slices.DeleteFunc(n[room], func(member string) bool { return member == uid })
	if len(n[room]) == 0 {
		delete(n, room)
	}
}

func (n noEdge) Members(room string) []string { return slices.Clone(n[room]) }
