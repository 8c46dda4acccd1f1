package mmo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// The times of a connection. The first two are those of the official clients.
const (
	heartbeat   = 3 * time.Second  // "every 1–5 s or the server disconnects" (MMO.md)
	moveAfter   = 15 * time.Second // of silence: a new port, on UDP
	askAfter    = 9 * time.Second  // of silence: asks for the members, to hear something
	silentLimit = 45 * time.Second // of silence: the connection is lost

	// Over UDP, the first announceBeats heartbeats repeat the announcement while it seems
	// to be lost. Later, every askBeats-th heartbeat asks the edge for the members.
	announceBeats = 5
	askBeats      = 10
)

// Conn is a connection to a room. [Room.Dial] and [Dial] make it. It is safe for
// concurrent use. Usually one goroutine calls Read in a loop, and any number send.
//
// A Conn holds what it received until Read takes it: at most 1,024 events or 4 MiB of
// messages. When it is full, a Conn over TCP or WebSocket stops reading. The edge then has
// to wait, and may end the connection. A full Conn over UDP drops and counts the messages
// that arrive. So an application has to call Read, even if it only wants to send.
//
// A Conn sends a heartbeat every 3 seconds. If it hears nothing for 9 seconds, it asks the
// edge for the members, because the edge answers that. Over UDP it changes its local port
// every 15 seconds of silence. After 45 seconds of silence it ends with [ErrNoConnection].
//
// Over UDP, messages can get lost, arrive twice, or change their order. A Conn drops
// duplicates. It repeats its announcement, but never a message of the application. It asks
// for the list of members every 30 seconds.
type Conn struct {
	transport transport
	cipher    *edge.Cipher
	self      Member // UID is "" if nobody is announced

	// Package fmt does not follow a pointer or an interface in a struct, so no verb
	// prints a message.
	inbox  *inbox
	outbox *outbox
	roster *roster
	// Only the goroutine that reads the connection uses these fields.
	window *edge.Window // nil unless the transport is lossy
	isIn   bool         // loggedIn is closed

	loggedIn chan struct{}
	done     chan struct{} // closed when the connection ends, after err is set
	err      error
	isEnding atomic.Bool
	running  sync.WaitGroup

	began       time.Time
	heard       atomic.Int64 // when something decrypted, since began
	isFull      atomic.Bool  // the reading goroutine waits for Read
	hasMembers  atomic.Bool  // the edge has answered a ping
	isRequested atomic.Bool  // the application waits for Members
	offset      atomic.Int64 // by how much the edge's clock is ahead, at least
	dropped     atomic.Uint64
}

func newConn(t transport, self Member) *Conn {
	c := &Conn{
		transport: t, self: self,
		inbox: newInbox(), outbox: newOutbox(), roster: new(roster),
		loggedIn: make(chan struct{}), done: make(chan struct{}),
		began: time.Now(),
	}
	if t.isLossy() {
		c.window = new(edge.Window)
	}
	return c
}

// Read returns the next event. It waits until there is an event, ctx ends, or the
// connection has ended. After the end of the connection, Read first returns the events that
// arrived before, unless this side called Close. Then every Read returns an error that
// matches [ErrClosedByEdge], [ErrNoConnection] or [net.ErrClosed]. If ctx ends, no event is
// lost: a later Read returns it.
func (c *Conn) Read(ctx context.Context) (Event, error) {
	for {
		if err := ctx.Err(); err != nil {
			c.inbox.wake() // another reader, if this one was woken
			return nil, fmt.Errorf("mmo: read: %w", err)
		}
		if event, ok := c.inbox.take(); ok {
			return event, nil
		}
		select {
		case <-c.inbox.ready:
		case <-ctx.Done():
		case <-c.done:
			if event, ok := c.inbox.take(); ok {
				return event, nil
			}
			return nil, c.err
		}
	}
}

// Members returns the members that are known now, sorted by UID. Arriving events keep the
// list up to date. The list lacks clients that announced nothing, and members beyond 16
// MiB. Over UDP, a change that got lost appears some 30 seconds later, or after
// [Conn.RequestMembers].
func (c *Conn) Members() []Member { return c.roster.list() }

// Dropped counts the messages that arrived and were not delivered: they did not decrypt,
// were empty, came twice, or found the Conn full.
func (c *Conn) Dropped() uint64 { return c.dropped.Load() }

// Close ends the connection and waits until its goroutines are gone. Over WebSocket it
// waits up to a second for the edge's goodbye. Events that were not read are lost. The
// error is always nil.
func (c *Conn) Close() error {
	c.end(net.ErrClosed)
	c.inbox.close()
	c.running.Wait()
	return nil
}

// Format prints only the name of the type, for every verb.
func (c *Conn) Format(f fmt.State, verb rune) { formatText(f, verb, "mmo.Conn") }

// end ends the connection. Only the error of the first call counts. Later calls do not wait
// until the transport is closed.
func (c *Conn) end(err error) {
	if c.isEnding.Swap(true) {
		<-c.done
		return
	}
	if clock := c.clockError(); clock != nil && err != net.ErrClosed {
		err = failed(err, clock.Error(), clock)
	}
	c.err = err
	close(c.done)
	c.transport.close()
}

func (c *Conn) isOver() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// clockError returns nil unless the edge's clock is known and too far off.
func (c *Conn) clockError() *ClockError {
	if offset := time.Duration(c.offset.Load()); offset.Abs() > edge.MaxDrift {
		return &ClockError{offset}
	}
	return nil
}

// read is the goroutine that reads the connection. It ends with the connection.
func (c *Conn) read() {
	for {
		payload, err := c.transport.read()
		if err != nil {
			if !errors.Is(err, ErrClosedByEdge) {
				err = failed(ErrNoConnection, describe(err), err)
			}
			c.end(err)
			return
		}
		if c.isOver() {
			continue // until the transport ends: a WebSocket says goodbye
		}
		isLast := !c.transport.hasMore()
		if !c.open(payload, isLast) {
			c.dropped.Add(1)
		}
		if isLast {
			c.inbox.wake() // once for what arrived together
		}
	}
}

// open decrypts and handles a payload. It returns false if the payload is dropped. If
// several payloads arrived together, only the last one is compared with the clock, because
// reading the clock is slow.
func (c *Conn) open(payload []byte, isLast bool) bool {
	m, err := c.cipher.Open(payload)
	if err != nil || c.window != nil && !c.window.Fresh(m) {
		return false
	}
	if isLast || !c.isIn {
		now := time.Now()
		offset := int64(m.Time.Sub(now))
		if !c.isIn || offset > c.offset.Load() { // a message that waited says less
			c.offset.Store(offset)
		}
		c.heard.Store(int64(now.Sub(c.began)))
	}
	return len(m.Data) > 0 && c.receive(m)
}

// receive handles a decrypted message. It returns false to drop the message.
func (c *Conn) receive(m edge.Message) bool {
	if !c.isIn && string(m.Data) != edge.Closed {
		// "Nothing else may be sent before" __auth_ok__ (MMO.md). But over UDP, __auth_ok__
		// can get lost. So the official clients take any datagram as the answer.
		if !c.transport.accept() || string(m.Data) != edge.AuthOK && !c.transport.isLossy() {
			return false
		}
		c.isIn = true
		close(c.loggedIn)
	}
	switch string(m.Data) { // does not copy
	case edge.AuthOK, edge.Heartbeat:
		return true
	case edge.Ping:
		return false // only clients send it
	case edge.Closed:
		c.end(ErrClosedByEdge)
		return true
	}
	if len(m.Data) >= len(edge.PongPrefix) && string(m.Data[:len(edge.PongPrefix)]) == edge.PongPrefix {
		return c.receivePong(string(m.Data))
	}
	event := parseEvent(m.Data)
	switch event := event.(type) {
	case MemberJoined:
		c.roster.join(Member(event))
	case MemberLeft:
		c.roster.leave(event.UID)
	}
	return c.deliver(event, len(m.Data))
}

func (c *Conn) receivePong(data string) bool {
	count, entries, isListed := edge.ParsePong(data)
	isChanged := false
	if isListed {
		members := make([]Member, len(entries))
		for i, m := range entries {
			members[i] = Member(m)
		}
		isChanged = c.roster.replace(members)
	}
	isFirst := !c.hasMembers.Swap(true)
	if c.isRequested.Swap(false) || isFirst || isChanged {
		return c.deliver(Members{count, c.roster.list()}, len(data))
	}
	return true
}

// deliver hands an event to the application. If the application is slow, deliver waits. On
// a lossy transport, it drops the event instead.
func (c *Conn) deliver(event Event, size int) bool {
	for !c.inbox.put(event, size) {
		if c.transport.isLossy() {
			return false
		}
		c.isFull.Store(true)
		c.inbox.wake()
		select {
		case <-c.inbox.space:
		case <-c.done:
			return false
		}
		c.heard.Store(int64(time.Since(c.began)))
		c.isFull.Store(false)
	}
	return true
}

// beat is the goroutine that sends the heartbeats and watches the silence. It ends with
// the connection.
func (c *Conn) beat() {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	var moved time.Duration // when the port was changed, since began
	for n := 1; ; n++ {
		select {
		case <-ticker.C:
		case <-c.done:
			return
		}
		now := time.Since(c.began)
		silence := now - time.Duration(c.heard.Load())
		if c.isFull.Load() {
			silence = 0
		}
		switch udp, isUDP := c.transport.(*udpTransport); {
		case silence >= silentLimit:
			c.end(failed(ErrNoConnection, "the edge has been silent for 45 seconds"))
			return
		case isUDP && silence >= moveAfter && now-moved >= moveAfter:
			udp.move()
			moved = now
		}
		c.sendBeat(n, silence >= askAfter)
	}
}

// sendBeat sends the n-th heartbeat, and any request that is due with it. It ignores
// errors, because an error has ended the connection.
func (c *Conn) sendBeat(n int, isSilent bool) {
	ctx := context.Background()
	_ = c.send(ctx, edge.Heartbeat)
	isLossy := c.transport.isLossy()
	isMissing := c.self.UID != "" && !c.roster.has(c.self.UID)
	switch {
	case isLossy && n <= announceBeats && (isMissing || !c.hasMembers.Load()):
		_ = c.announce(ctx)
	case isSilent, isLossy && n%askBeats == 0:
		_ = c.send(ctx, edge.Ping)
	}
}

// announce tells the room who this is, and asks who is there.
func (c *Conn) announce(ctx context.Context) error {
	if c.self.UID != "" {
		c.roster.join(c.self)
		if err := c.send(ctx, edge.Encode(edge.Join{Type: edge.TypeJoin, UID: c.self.UID, Nickname: c.self.Nickname})); err != nil {
			return err
		}
	}
	return c.send(ctx, edge.Ping)
}
