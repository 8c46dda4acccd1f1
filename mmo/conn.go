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

// The times of a connection. The first two are the official clients' own.
const (
	heartbeat   = 3 * time.Second  // "every 1–5 s or the server disconnects" (MMO.md)
	moveAfter   = 15 * time.Second // of silence: a new port, on UDP
	askAfter    = 9 * time.Second  // of silence: asks for the members, to hear something
	silentLimit = 45 * time.Second // of silence: the connection is lost

	// On UDP the announcement is repeated with the first heartbeats as long as it seems
	// to be lost. Later, every so many heartbeats, the edge is asked for the members.
	announceBeats = 5
	askBeats      = 10
)

// Conn is a connection to a room. [Room.Dial] and [Dial] make it. It is safe for
// concurrent use. Usually one goroutine calls Read in a loop, and any number send.
//
// A Conn holds what it received until Read takes it: at most 1,024 events or 4 MiB of
// messages. When it is full, a Conn over TCP or WebSocket stops reading. The edge then has
// to wait, and may end the connection. Over UDP what arrives meanwhile is dropped and
// counted. So an application has to call Read, even if it only wants to send.
//
// A Conn sends a heartbeat every 3 seconds. If it hears nothing for 9 seconds, it asks the
// edge for the members, to hear something. Over UDP it changes its local port every 15
// seconds of silence. After 45 seconds of silence it ends with [ErrNoConnection].
//
// UDP loses, duplicates and reorders. Duplicates are dropped. Nothing that the application
// sends is repeated, but the announcement is. The list of members is asked for every 30
// seconds.
type Conn struct {
	transport transport
	cipher    *edge.Cipher
	self      Member // UID is "" if nobody is announced

	// Package fmt does not follow a pointer or an interface in a struct, so no verb
	// prints a message.
	inbox  *inbox
	outbox *outbox
	roster *roster
	// For the goroutine that reads the connection.
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

// Read returns the next event. It waits until there is one, ctx ends, or the connection
// has ended. What arrived before the end is returned first, unless this side called Close.
// Then the error matches [ErrClosedByEdge], [ErrNoConnection] or [net.ErrClosed], each time. If
// ctx ends, nothing is lost: a later Read goes on.
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

// Members returns the members that are known now, sorted by UID. The list is kept up to
// date by what arrives. Clients that announced nothing are missing, and those beyond 16
// MiB. Over UDP a change that got lost is seen some 30 seconds later, or after
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

// Format prints nothing of the connection for any verb.
func (c *Conn) Format(f fmt.State, verb rune) { formatText(f, verb, "mmo.Conn") }

// end ends the connection with the first error that it is called with. Later calls do not
// wait until the transport is closed.
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
	if offset := time.Duration(c.offset.Load()); offset.Abs() > maxDrift {
		return &ClockError{offset}
	}
	return nil
}

// read is the goroutine that reads the connection. It ends with it.
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

// open decrypts and handles a payload. It returns false if that is dropped. Only the last
// one of those that arrived together is compared with the clock: clocks are slow.
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

// receive handles what decrypted. It returns false to drop the message.
func (c *Conn) receive(m edge.Message) bool {
	if !c.isIn && string(m.Data) != edge.Closed {
		// "Nothing else may be sent before" __auth_ok__ (MMO.md). But UDP can lose it,
		// and the official clients take any datagram for it.
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

// deliver hands an event to the application. If that is slow, it waits, or drops the event
// on a lossy transport.
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

// sendBeat sends the n-th heartbeat and what has to be sent with it. An error has ended
// the connection.
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
