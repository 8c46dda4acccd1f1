package mmo

// NewRoom returns a Room like those that the platform's answers give.
func NewRoom(id, edgeURL, protocol, connectKey string) *Room {
	return &Room{ID: id, EdgeURL: edgeURL, Protocol: protocol, connectKey: &connectKey}
}

// ParseEdge returns protocol, address, and whether it is encrypted and on this machine.
func ParseEdge(edgeURL, protocol string) (spoken, address string, isSecure, isLocal bool, err error) {
	a, err := parseEdge(edgeURL, protocol)
	return a.protocol, a.address, a.isSecure, isLoopback(a.host), err
}

// ParseEvent parses data as a Conn does.
func ParseEvent(data []byte) Event { return parseEvent(data) }

// Roster is the list of members of a Conn.
type Roster struct{ roster }

func (r *Roster) Join(m Member)           { r.join(m) }
func (r *Roster) Leave(uid string)        { r.leave(uid) }
func (r *Roster) Replace(m []Member) bool { return r.replace(m) }
func (r *Roster) List() []Member          { return r.list() }

// Inbox is the queue of a Conn.
type Inbox struct{ *inbox }

func NewInbox() Inbox { return Inbox{newInbox()} }

func (b Inbox) Put(event Event) bool { return b.put(event, 1) }
func (b Inbox) Take() (Event, bool)  { return b.take() }
func (b Inbox) Close()               { b.close() }
