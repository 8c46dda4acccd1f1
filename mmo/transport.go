package mmo

import (
	"context"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

const (
	// writeTimeout is how long a write waits for an edge that reads nothing. Then the
	// connection ends.
	writeTimeout = 10 * time.Second

	// keepBuffer is the largest buffer that a connection keeps after a message.
	keepBuffer = 64 << 10
)

// transport carries the payloads of one connection. One goroutine at a time may read, and
// one at a time may write. close may be called at any time, and more than once.
type transport interface {
	// login sends the seed and the payload of the connect key.
	login(ctx context.Context, seed [edge.SeedSize]byte, payload []byte) error

	// accept is called during the login, when the payload that was read last has decrypted.
	// It reports whether that payload can be the edge's answer.
	accept() bool

	// header appends what precedes a payload.
	header(dst []byte) []byte

	// send sends a header and its payload. It may reuse the memory of packet.
	send(ctx context.Context, packet []byte) error

	// read returns the next payload, valid until the next call.
	read() ([]byte, error)

	// hasMore reports that the next read will not wait. Even if it returns false, the next
	// read may return at once.
	hasMore() bool

	// maxData is the length of the longest message.
	maxData() int

	// isLossy is true if what is sent can get lost, or arrive twice.
	isLossy() bool

	// close ends the connection. Calls of read and send then return.
	close()
}
