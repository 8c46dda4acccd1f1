package edge

import "time"

// windowSize caps each half of a Window, at less than 1 MB.
const windowSize = 8 << 10

// Window recognizes a payload that arrives twice on one connection. It remembers nonces for
// 20 seconds or longer, by the time in the payloads. It refuses every payload that is not
// newer than the payloads it has forgotten. A flood of payloads makes it forget sooner, and
// so refuse sooner. The zero value is empty. It is not safe for concurrent use.
type Window struct {
	recent, older       map[[NonceSize]byte]struct{}
	recentMax, olderMax time.Time // the newest time in each half
	recentSince         time.Time
	forgotten           time.Time // the newest time that is in neither half
}

// Fresh reports whether the message arrives for the first time.
func (w *Window) Fresh(m Message) bool {
	_, inRecent := w.recent[m.Nonce]
	_, inOlder := w.older[m.Nonce]
	if inRecent || inOlder || !w.forgotten.IsZero() && !m.Time.After(w.forgotten) {
		return false
	}
	if w.recent == nil || len(w.recent) >= windowSize || m.Time.Sub(w.recentSince) >= MaxDrift {
		w.forgotten = later(w.forgotten, w.olderMax)
		w.older, w.olderMax = w.recent, w.recentMax
		w.recent, w.recentMax = make(map[[NonceSize]byte]struct{}), time.Time{}
		w.recentSince = m.Time
	}
	w.recent[m.Nonce] = struct{}{}
	w.recentMax = later(w.recentMax, m.Time)
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
