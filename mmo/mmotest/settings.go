package mmotest

import (
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// Settings are details of the edge that a test may change. The zero value has the defaults.
type Settings struct {
	// Now is the clock of the edge. The edge puts its time into payloads and into the
	// answer to a WebSocket's handshake, and compares it with the time in received
	// payloads. If nil, Now is time.Now. Now must be safe for concurrent use. Time-outs do
	// not use it.
	Now func() time.Time

	// HeartbeatTimeout is how long a connection may be without a heartbeat. If 0, it is
	// 15 seconds: three of the longest intervals that the platform allows. A change
	// applies from the next heartbeat of a connection on.
	HeartbeatTimeout time.Duration

	// SilentHeartbeats turns off the answers to heartbeats. A client over UDP that hears
	// nothing else then changes its port every 15 seconds.
	SilentHeartbeats bool
}

// Configure calls change with the settings to be changed. change must not call methods of
// the edge.
func (e *Edge) Configure(change func(*Settings)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := *e.settings.Load()
	change(&next)
	e.settings.Store(&next)
}

func (s *Settings) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *Settings) heartbeatTimeout() time.Duration {
	if s.HeartbeatTimeout == 0 {
		return 15 * time.Second
	}
	return s.HeartbeatTimeout
}

// inTime reports whether the time in a payload is close enough to the edge's clock.
func (s *Settings) inTime(at time.Time) bool { return s.now().Sub(at).Abs() <= edge.MaxDrift }
