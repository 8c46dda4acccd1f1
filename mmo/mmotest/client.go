package mmotest

import (
	"crypto/rand"
	"net"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// maxBacklog limits the data that waits for one client, in bytes. Data that waits for
// several clients is in memory only once.
const maxBacklog = 4 << 20

// messageCost is the memory that a waiting message takes besides its data, in bytes.
const messageCost = 64

// client is a connection that is logged in.
type client struct {
	e       *Edge
	cipher  *edge.Cipher
	link    link
	conn    *conn // nil: UDP
	maxData int   // the longest data that the transport takes
	uid     string

	// These fields are used only over UDP.
	id                uint64 // 0: another transport
	seed              [edge.SeedSize]byte
	key               string
	arriving, leaving route

	// Edge.mu guards the fields below.
	room      *room
	announced *edge.Member // nil: nothing
	nonces    edge.Window
	alive     *time.Timer // ends the connection
	gone      bool

	outbox  outbox
	written chan struct{} // closed when nothing is sent any more
}

// link is a client's transport. Only cut and expire may be called while send or flush run.
type link interface {
	// header appends what comes before a payload.
	header(packet []byte) []byte
	// send sends a packet that begins with header.
	send(packet []byte) error
	flush() error
	// finish ends the connection after the last packet.
	finish()
	// expire ends all calls a moment later.
	expire()
	// cut ends all calls and the connection.
	cut()
}

// account returns the uid of the client for Members and Kick.
func (c *client) account() string {
	if c.uid == "" && c.announced != nil {
		return c.announced.UID
	}
	return c.uid
}

// ending is a way to end a connection.
type ending int

const (
	clientLeft ending = iota
	edgeCloses        // with __closed__
	cut               // without
)

// login begins to serve a client if the key in m is valid.
func (e *Edge) login(c *client, m edge.Message) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(e.clients) >= maxClients {
		return false
	}
	if c.id != 0 && (e.overUDP.byID[c.id] != nil || e.overUDP.bySeed[c.seed] != nil) {
		return false
	}
	a, ok := e.redeem(string(m.Data), m)
	if !ok {
		return false
	}
	delete(e.visitors, c.conn)
	c.uid = a.uid
	c.nonces.Fresh(m)
	c.outbox.ready = make(chan struct{}, 1)
	c.outbox.ended = make(chan struct{})
	c.written = make(chan struct{})
	c.alive = time.AfterFunc(e.settings.Load().heartbeatTimeout(), func() { e.end(c, edgeCloses) })
	e.enter(c, a.room)
	e.stats.logins.Add(1)
	e.serving.Go(c.write)
	return true
}

func (e *Edge) end(c *client, how ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endLocked(c, how)
}

// endLocked removes a client from its room and ends its connection. A second call does
// nothing.
func (e *Edge) endLocked(c *client, how ending) {
	if c.gone {
		return
	}
	c.gone = true
	c.alive.Stop()
	c.nonces = edge.Window{}
	if how == edgeCloses {
		c.outbox.finish(edge.Closed)
		c.link.expire()
	} else {
		c.outbox.abandon()
		c.link.cut()
	}
	e.leave(c)
}

// receive handles a payload from the client. from is nil if the transport is not UDP.
func (c *client) receive(payload []byte, from peer) {
	m, err := c.cipher.Open(payload)
	switch {
	case err != nil:
		c.e.stats.garbled.Add(1)
	case !c.e.settings.Load().inTime(m.Time):
		c.e.stats.untimely.Add(1)
	default:
		c.e.handle(c, m, from)
	}
}

// queue queues data for the client. If too much waits already, it reports false.
func (c *client) queue(data string) bool {
	if len(data) > c.maxData {
		c.e.stats.lost.Add(1)
		return true
	}
	var due time.Time
	if f := c.e.faults.Load(); f != nil && f.Delay > 0 {
		due = time.Now().Add(f.Delay)
	}
	return c.outbox.put(message{data, due})
}

// write sends what is queued until the connection ends.
func (c *client) write() {
	defer close(c.written)
	var packet []byte
	for {
		batch, more := c.outbox.take()
		var err error
		if packet, err = c.send(packet, batch); err != nil {
			c.e.end(c, clientLeft)
		}
		if !more {
			c.link.finish()
			return
		}
	}
}

// send sends the messages of batch. It reuses the memory of packet, and returns that memory
// for the next call.
func (c *client) send(packet []byte, batch []message) ([]byte, error) {
	for _, m := range batch {
		if !m.due.IsZero() {
			if err := c.link.flush(); err != nil {
				return packet, err
			}
			c.outbox.wait(m.due)
		}
		sealed := c.seal(small(packet), m.data)
		if sealed == nil {
			continue
		}
		if packet = sealed; c.link.send(packet) != nil {
			return packet, net.ErrClosed
		}
	}
	return packet, c.link.flush()
}

// seal returns a packet with the encrypted data. It reuses the memory of packet. If the
// edge is mute, it returns nil.
func (c *client) seal(packet []byte, data string) []byte {
	f := c.e.faults.Load()
	if f != nil && f.Mute {
		c.e.stats.lost.Add(1)
		return nil
	}
	var nonce [edge.NonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	packet = c.cipher.Seal(c.link.header(packet), nonce, c.e.settings.Load().now(), data)
	if f != nil && f.chance(f.Garbled) {
		packet[len(packet)-1] ^= 1
	}
	return packet
}

// outbox holds the messages that wait for a client.
type outbox struct {
	mu       sync.Mutex
	messages []message
	size     int           // of messages, and of those that are being sent
	sending  int           // their part of size
	ready    chan struct{} // has a value if there may be something to take
	finished bool
	ended    chan struct{} // closed when finished
}

type message struct {
	data string
	due  time.Time // not to be sent before
}

func (o *outbox) put(m message) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.finished {
		return true
	}
	cost := len(m.data) + messageCost
	if o.size > 0 && o.size+cost > maxBacklog {
		return false
	}
	o.size += cost
	o.add(m)
	return true
}

func (o *outbox) add(m message) {
	o.messages = append(o.messages, m)
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// finish adds a last message.
func (o *outbox) finish(last string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.add(message{data: last})
	o.finished = true
	close(o.ended)
}

// abandon removes all messages.
func (o *outbox) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.messages, o.finished = nil, true
	close(o.ended)
}

// take waits for messages and returns all of them. If more is false, no messages follow.
func (o *outbox) take() (batch []message, more bool) {
	for {
		select {
		case <-o.ready:
		case <-o.ended:
		}
		o.mu.Lock()
		batch, more = o.messages, !o.finished
		o.messages = nil
		o.size -= o.sending
		o.sending = o.size
		o.mu.Unlock()
		if len(batch) > 0 || !more {
			return batch, more
		}
	}
}

// wait waits until a time or the end of the connection.
func (o *outbox) wait(until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-o.ended:
	}
}
