package mmotest

import "sync/atomic"

// Stats counts what happened since the edge began.
type Stats struct {
	Logins        int64 // of all transports
	RefusedLogins int64 // wrong or late
	Relayed       int64 // messages from clients for the others in their room
	Refused       int64 // messages from clients that are not relayed, and mean nothing
	Garbled       int64 // payloads that do not decrypt, and what is no payload
	Untimely      int64 // payloads whose time is too far from the clock of the edge
	Replayed      int64 // payloads that arrived again
	Lost          int64 // what faults lose, or what does not fit in a datagram
	Slow          int64 // connections that were ended because they did not keep up
}

// Stats returns the counts.
func (e *Edge) Stats() Stats {
	s := &e.stats
	return Stats{
		Logins: s.logins.Load(), RefusedLogins: s.refusedLogins.Load(),
		Relayed: s.relayed.Load(), Refused: s.refused.Load(),
		Garbled: s.garbled.Load(), Untimely: s.untimely.Load(), Replayed: s.replayed.Load(),
		Lost: s.lost.Load(), Slow: s.slow.Load(),
	}
}

type counters struct {
	logins, refusedLogins, relayed, refused, garbled, untimely, replayed, lost, slow atomic.Int64
}
