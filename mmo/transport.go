package mmo

import (
	"context"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

const (
	maxDrift = edge.MaxDrift

	// writeTimeout ends a connection whose edge takes nothing.
	writeTimeout = 10 * time.Second

	// keepBuffer is the largest buffer that a connection keeps after a message.
	keepBuffer = 64 << 10
)

// transport carries the payloads of one connection. One goroutine at a time reads, one at
// a time writes. close may be called at any time, and again.
type transport interface {
	// login sends the seed and the payload of the connect key.
	login(ctx context.Context, seed [edge.SeedSize]byte, payload []byte) error

	// accept is told that the payload that was read last is the first one that
	// decrypts. It reports whether that one can be the edge's answer.
	accept() bool

	// header appends what precedes a payload.
	header(dst []byte) []byte

	// send sends a header and its payload. It may use the storage of both.
	send(ctx context.Context, packet []byte) error

	// read returns the next payload, valid until the next call.
	read() ([]byte, error)

	// hasMore reports that the next read will not wait. It may be false without need.
	hasMore() bool

	// maxData is the length of the longest message.
	maxData() int

	// isLossy is true if what is sent can get lost, or arrive twice.
	isLossy() bool

	// close ends the connection, and read and send with it.
	close()
}
