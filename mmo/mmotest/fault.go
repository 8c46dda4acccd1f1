package mmotest

import "time"

type Faults struct {
	Delay   time.Duration
	Mute    bool
	Garbled float64
}
type faults struct{ Faults }

func (f *faults) chance(p float64) bool { return false }
func (e *Edge) SetFaults(f Faults)      {}
