package mmotest

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// maxAnnouncement is the longest announcement that is remembered, in bytes.
const maxAnnouncement = 4 << 10

// room is a room with at least one connection. Edge.mu guards it.
type room struct {
	id      string
	clients []*client      // in the order in which they came
	uids    map[string]int // connections for each announced uid
	pong    string         // the list of members; "": to be made
}

// Members returns the accounts in a room, each once. It includes the accounts of unused
// keys. A connection without an account, as in the shared test room, appears with the uid
// that it announced.
func (e *Edge) Members(room string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var uids []string
	if r := e.rooms[room]; r != nil {
		for _, c := range r.clients {
			uids = append(uids, c.account())
		}
	}
	for _, a := range e.keys.in(room) {
		uids = append(uids, a.uid)
	}
	seen := make(map[string]bool)
	return slices.DeleteFunc(uids, func(uid string) bool {
		again := seen[uid] || uid == ""
		seen[uid] = true
		return again
	})
}

// Kick sends __closed__ to the connections of an account in a room and ends them. The
// account's unused keys for the room become invalid.
func (e *Edge) Kick(room, uid string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.keys.in(room) {
		if a.uid == uid {
			e.keys.take(a.key)
		}
	}
	e.endAccount(room, uid, edgeCloses)
}

// CloseRoom sends __closed__ to all connections of a room and ends them. The unused keys
// for the room become invalid.
func (e *Edge) CloseRoom(room string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.keys.in(room) {
		e.keys.take(a.key)
	}
	if r := e.rooms[room]; r != nil {
		for _, c := range slices.Clone(r.clients) {
			e.endLocked(c, edgeCloses)
		}
	}
}

// Cut ends the connections of an account without __closed__, as a broken network does. Over
// UDP the client just gets no more datagrams.
func (e *Edge) Cut(room, uid string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endAccount(room, uid, cut)
}

func (e *Edge) endAccount(room, uid string, how ending) {
	r := e.rooms[room]
	if r == nil {
		return
	}
	for _, c := range slices.Clone(r.clients) {
		if c.account() == uid {
			e.endLocked(c, how)
		}
	}
}

// Send sends data to all connections of a room in the name of the edge. data may be a
// control message. It may also be a message that the edge would never send: an empty
// message, a list of 100,000 members, or a list that is not JSON. Data that does not fit in
// a message is lost.
func (e *Edge) Send(room, data string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.rooms[room]; r != nil {
		e.sendAll(r, nil, data)
	}
}

// sendAll queues data for all clients of a room except one. It cuts off clients that are
// too slow.
func (e *Edge) sendAll(r *room, but *client, data string) {
	var slow []*client
	for _, c := range r.clients {
		if c != but && !c.queue(data) {
			slow = append(slow, c)
		}
	}
	for _, c := range slow {
		e.stats.slow.Add(1)
		e.endLocked(c, cut)
	}
}

// enter adds a client to its room and sends it __auth_ok__.
func (e *Edge) enter(c *client, id string) {
	r := e.rooms[id]
	if r == nil {
		r = &room{id: id, uids: make(map[string]int)}
		e.rooms[id] = r
	}
	if c.id != 0 {
		e.overUDP.byID[c.id], e.overUDP.bySeed[c.seed] = c, c
	}
	c.room = r
	r.clients = append(r.clients, c)
	e.clients[c] = struct{}{}
	c.queue(edge.AuthOK)
}

// leave removes a client from its room.
func (e *Edge) leave(c *client) {
	r := c.room
	delete(e.clients, c)
	if c.id != 0 {
		delete(e.overUDP.byID, c.id)
		delete(e.overUDP.bySeed, c.seed)
	}
	r.clients = slices.DeleteFunc(r.clients, func(other *client) bool { return other == c })
	if len(r.clients) == 0 {
		delete(e.rooms, r.id)
	}
	e.announce(c, nil)
}

// announce replaces what a client said about itself.
func (e *Edge) announce(c *client, m *edge.Member) {
	r, before := c.room, c.announced
	c.announced, r.pong = m, ""
	if m != nil {
		r.uids[m.UID]++
	}
	if before == nil {
		return
	}
	r.uids[before.UID]--
	if r.uids[before.UID] == 0 {
		delete(r.uids, before.UID)
		e.sendAll(r, c, edge.Encode(edge.Leave{Type: edge.TypeLeave, UID: before.UID}))
	}
}

// members answers a ping.
func (r *room) members(maxData int) string {
	if r.pong == "" {
		var list []edge.Member
		at := make(map[string]int)
		for _, c := range r.clients {
			if c.announced == nil {
				continue
			}
			if i, again := at[c.announced.UID]; again {
				list[i] = *c.announced // the newest connection's nickname
				continue
			}
			at[c.announced.UID] = len(list)
			list = append(list, *c.announced)
		}
		r.pong = edge.Pong(list)
	}
	if len(r.pong) > maxData {
		count, _, _ := strings.Cut(r.pong[len(edge.PongPrefix):], ":")
		return edge.PongPrefix + count + ":null"
	}
	return r.pong
}

// handle does what a client's message asks for. from is nil if the transport is not UDP.
func (e *Edge) handle(c *client, m edge.Message, from peer) {
	data := string(m.Data)
	said := parse(data)

	e.mu.Lock()
	defer e.mu.Unlock()
	if c.gone {
		return
	}
	if !c.nonces.Fresh(m) {
		e.stats.replayed.Add(1)
		return
	}
	if from != nil {
		c.link.(*datagramLink).follow(from, m.Time)
	}
	switch {
	case data == edge.Heartbeat:
		e.heartbeat(c)
	case data == edge.Ping:
		e.reply(c, c.room.members(c.maxData))
	case data == "" || edge.IsControl(data) || strings.EqualFold(said.Type, edge.TypeLeave):
		e.stats.refused.Add(1)
	default:
		if said.Type == edge.TypeJoin && said.UID != "" && len(data) <= maxAnnouncement {
			e.announce(c, &edge.Member{UID: said.UID, Nickname: said.Nickname})
		}
		e.stats.relayed.Add(1)
		e.sendAll(c.room, c, data)
	}
}

func (e *Edge) heartbeat(c *client) {
	settings := e.settings.Load()
	c.alive.Reset(settings.heartbeatTimeout())
	if !settings.SilentHeartbeats {
		e.reply(c, edge.Heartbeat)
	}
}

// reply queues data for one client.
func (e *Edge) reply(c *client, data string) {
	if !c.queue(data) {
		e.stats.slow.Add(1)
		e.endLocked(c, cut)
	}
}

// parse reads a message of a kind that the edge knows. For any other message, it returns
// the zero value.
func parse(data string) (said edge.Join) {
	// Only data that can be such a message is parsed: its "type" has two underscores, which
	// JSON can also write as \u escapes.
	if strings.HasPrefix(data, "{") && (strings.Contains(data, "__") || strings.Contains(data, `\u`)) {
		var message struct{ Type, UID, Nickname edge.Text }
		if json.Unmarshal([]byte(data), &message) == nil {
			said = edge.Join{Type: string(message.Type), UID: string(message.UID), Nickname: string(message.Nickname)}
		}
	}
	return said
}
