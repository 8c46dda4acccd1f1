package mmotest

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Faults are the faults of the network. The zero value is a perfect network. Shares are
// from 0 to 1.
type Faults struct {
	// In applies to datagrams from clients, and Out to datagrams to clients. Both apply
	// only to UDP.
	In, Out Datagrams

	// Delay holds back every message to a client. The messages keep their order. When the
	// edge ends a connection, the delay ends.
	Delay time.Duration

	// Mute discards all messages to clients. Their connections stay.
	Mute bool

	// Garbled is the share of messages to clients that get a wrong bit. Such a message does
	// not decrypt.
	Garbled float64

	// Segment limits how many bytes one write sends over TCP, also below a WebSocket. If 1,
	// a client gets one byte at a time. If 0, there is no limit.
	Segment int

	// CutAfter cuts each connection over TCP, also below a WebSocket, when the edge has
	// sent this many more bytes on it. The cut may be in the middle of a message. If 0, no
	// connection is cut.
	CutAfter int

	// Seed is the seed of the random numbers.
	Seed uint64
}

// Datagrams is what happens to datagrams in one direction.
type Datagrams struct {
	// LoseNext is how many of the next datagrams of all clients are lost. The shares
	// apply to the others.
	LoseNext int

	// Loss is the share that is lost. Duplicates is the share that arrives twice.
	Loss, Duplicates float64

	// Reorder is the share of datagrams that arrive late: after the client's next datagram.
	// If there is no next datagram within a tenth of a second, they arrive then.
	Reorder float64
}

// reorderTimeout is how long a datagram waits for the next.
const reorderTimeout = 100 * time.Millisecond

// SetFaults replaces the faults. They apply from the next message on, to connections that
// exist, too. SetFaults(Faults{}) repairs the network.
func (e *Edge) SetFaults(f Faults) {
	if f == (Faults{}) {
		e.faults.Store(nil)
		return
	}
	active := &faults{Faults: f, random: rand.New(rand.NewPCG(f.Seed, 0))}
	active.in = direction{Datagrams: f.In, lose: f.In.LoseNext}
	active.out = direction{Datagrams: f.Out, lose: f.Out.LoseNext}
	e.faults.Store(active)
}

// faults are the active faults.
type faults struct {
	Faults

	// mu guards the fields below.
	mu      sync.Mutex
	random  *rand.Rand
	in, out direction
}

type direction struct {
	Datagrams
	lose int // how many to lose still
}

// chance returns true for the given share of its calls.
func (f *faults) chance(share float64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.random.Float64() < share
}

// loses reports whether to lose a datagram.
func (f *faults) loses(d *direction) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.lose > 0 {
		d.lose--
		return true
	}
	return f.random.Float64() < d.Loss
}

// pass applies the faults to a datagram. It delivers the datagram once, twice, later or
// never. It returns false if the datagram is lost.
func (f *faults) pass(r *route, d *direction, deliver func()) bool {
	if f.loses(d) {
		return false
	}
	if f.chance(d.Duplicates) {
		once := deliver
		deliver = func() { once(); once() }
	}
	if f.chance(d.Reorder) && r.hold(deliver) {
		return true
	}
	deliver()
	r.release()
	return true
}

// route holds back one datagram of a client in one direction.
type route struct {
	mu   sync.Mutex
	held *held
}

type held struct {
	deliver func()
	timer   *time.Timer
}

// hold keeps a datagram until release. If route keeps a datagram already, hold returns
// false.
func (r *route) hold(deliver func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held != nil {
		return false
	}
	r.held = &held{deliver, time.AfterFunc(reorderTimeout, r.release)}
	return true
}

// release delivers the datagram that is held, if any.
func (r *route) release() {
	if h := r.take(); h != nil {
		h.deliver()
	}
}

// take removes and returns the datagram that is held, or returns nil.
func (r *route) take() *held {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.held
	if r.held = nil; h != nil {
		h.timer.Stop()
	}
	return h
}
