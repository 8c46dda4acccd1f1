package mmo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/coder/websocket"
)

// Errors of a connection to a room's edge, for errors.Is. A connection that this side
// closed gives [net.ErrClosed].
var (
	// ErrEdgeURL means that an edge URL can't be used. Nothing was sent.
	ErrEdgeURL = errors.New("mmo: unusable edge URL")

	// ErrPlaintext means that the edge is another machine, and that the connection would
	// not be encrypted. [DialOptions] can allow it. Nothing was sent.
	ErrPlaintext = errors.New("mmo: the edge URL is not wss://, so anyone on the way can read and change everything")

	// ErrRefused means that the edge did not let the client in: it closed the connection
	// during the login, or did not answer. The edge does not say why. The connect key may
	// be unknown, used or too old: join again. Or this machine's clock may be wrong. If the
	// clock is known to be wrong, the error also is a [*ClockError].
	ErrRefused = errors.New("mmo: the edge did not accept the login")

	// ErrClosedByEdge means that the edge ended the connection on purpose. It is unknown
	// whether the edge does so for a kick.
	ErrClosedByEdge = errors.New("mmo: the edge closed the connection")

	// ErrNoConnection means that the edge could not be reached, or that the connection
	// broke. A connection breaks if it ends without a closing message, if the edge is
	// silent for 45 seconds or reads nothing for 10 seconds, or if the edge violates the
	// protocol.
	ErrNoConnection = errors.New("mmo: no connection to the edge")

	// ErrMessage means that a message, or another text of the application, can't be sent.
	// It is empty, too long, not UTF-8, or looks like a control message. It was not sent,
	// and the connection goes on.
	ErrMessage = errors.New("mmo: the message can't be sent")
)

// ClockError says that this machine's clock differs from the edge's by more than the 20
// seconds that the edge allows.
type ClockError struct {
	Offset time.Duration // by how much the edge's clock is ahead of this one
}

// Error says which clock is ahead, and by how much.
func (e *ClockError) Error() string {
	where, offset := "behind", e.Offset.Abs()
	if e.Offset < 0 {
		where = "ahead of"
	}
	return fmt.Sprintf("this machine's clock is %v %s the edge's; at most %v are allowed", offset.Round(time.Second), where, edge.MaxDrift)
}

// failure is an error that does not print the text of its causes, because that text could
// quote a URL or data from the edge. Its first cause is one of the errors above.
type failure struct {
	detail string
	causes []error
}

func failed(kind error, detail string, causes ...error) error {
	return &failure{detail, append([]error{kind}, causes...)}
}

func (e *failure) Error() string   { return e.causes[0].Error() + ": " + e.detail }
func (e *failure) Unwrap() []error { return e.causes }

// Format prints the text of Error for every verb. Without it %#v would print the causes.
func (e *failure) Format(f fmt.State, verb rune) { formatText(f, verb, e.Error()) }

// describe returns harmless words for an error of the network.
func describe(err error) string {
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && cert != nil {
		return "the edge's certificate is not valid for its name, not trusted, or not valid now by this machine's clock"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Error()
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.Error()
	}
	switch timeout, ok := errors.AsType[net.Error](err); {
	case errors.Is(err, context.Canceled):
		return "given up by the caller"
	case ok && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	case errors.Is(err, edge.ErrFrame), errors.Is(err, websocket.ErrMessageTooBig):
		return edge.ErrFrame.Error()
	case errors.Is(err, io.EOF), errors.Is(err, ErrClosedByEdge):
		return "the edge closed it"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "it ended within a message"
	}
	return "the connection failed"
}
