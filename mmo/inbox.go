package mmo

import "sync"

// The limits of an inbox. A parsed event can take several times the memory of its message.
const (
	inboxEvents = 1024
	inboxBytes  = 4 << 20
)

// inbox is the bounded queue between the goroutine that reads the connection and the
// application.
type inbox struct {
	mu       sync.Mutex
	queue    []queued // from first on
	first    int
	bytes    int
	isWanted bool          // put has found no space
	isClosed bool          // put discards
	ready    chan struct{} // holds a value if the queue may not be empty
	space    chan struct{} // holds a value if there is space again
}

type queued struct {
	event Event
	size  int
}

func newInbox() *inbox {
	return &inbox{ready: make(chan struct{}, 1), space: make(chan struct{}, 1)}
}

// put adds an event unless the queue is full. A message of any size fits into an empty
// queue. put wakes nobody: call wake afterwards.
func (b *inbox) put(event Event, size int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isClosed {
		return true
	}
	n := len(b.queue) - b.first
	if n > 0 && (n >= inboxEvents || b.bytes+size > inboxBytes) {
		b.isWanted = true
		return false
	}
	if b.first > 0 && len(b.queue) == cap(b.queue) { // move to the front instead of growing
		n := copy(b.queue, b.queue[b.first:])
		clear(b.queue[n:])
		b.queue, b.first = b.queue[:n], 0
	}
	b.queue = append(b.queue, queued{event, size})
	b.bytes += size
	return true
}

// wake wakes a goroutine that waits for events.
func (b *inbox) wake() { signal(b.ready) }

func (b *inbox) take() (Event, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.first == len(b.queue) {
		return nil, false
	}
	q := b.queue[b.first]
	b.queue[b.first] = queued{}
	b.first++
	b.bytes -= q.size
	if b.first == len(b.queue) {
		b.queue, b.first = b.queue[:0], 0
	} else {
		signal(b.ready) // for another reader
	}
	if b.isWanted {
		b.isWanted = false
		signal(b.space)
	}
	return q.event, true
}

// close empties the queue for good.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue, b.first, b.bytes, b.isClosed = nil, 0, 0, true
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
