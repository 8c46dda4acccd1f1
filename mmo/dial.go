package mmo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

const (
	// connectTimeout and loginTimeout limit the two halves of Dial. The official clients
	// wait 10 seconds for a login over UDP.
	connectTimeout = 10 * time.Second
	loginTimeout   = 10 * time.Second
)

// loginPauses are the waits before a login over UDP is sent again. The official clients
// send it once.
var loginPauses = []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}

// DialOptions are the settings of [Dial] and [Room.Dial]. The zero value, or nil, announces
// nobody, and allows only wss:// and edges on this machine.
type DialOptions struct {
	// UID and Nickname are announced to the room after the login. Each is UTF-8, 1 KiB at
	// most. Without a UID nothing is announced. The connection can then send neither
	// variables nor a broadcast without an extra. [Room.Dial] prefers the Room's
	// AssignedUID. Some other clients ignore the case of letters, so two uids should not
	// differ only in case.
	UID, Nickname string

	// AllowPlaintext allows TCP, UDP and ws:// to other machines. Such a connection sends
	// its encryption key in the clear. So anyone on the network path can read and change
	// everything, including the connect key. Without AllowPlaintext, the error for such an
	// edge is [ErrPlaintext].
	AllowPlaintext bool

	// HTTPClient makes the handshake of a WebSocket. Its transport decides which proxy to
	// use, and which certificates to trust. It follows no redirect. If nil, it is
	// http.DefaultClient, or a client that uses DialContext.
	HTTPClient *http.Client

	// DialContext makes the connections, for example through a proxy. network is "tcp"
	// or "udp". It has to end with ctx, and its connections have to support deadlines. If
	// nil, it is that of a [net.Dialer].
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

// Dial connects to the room's edge and logs in. It returns when the edge has let the client
// in.
//
// It is unknown whether a Room can be dialed twice. After a lost connection, join again, as
// [Session] does.
func (r *Room) Dial(ctx context.Context, opts *DialOptions) (*Conn, error) {
	if r.connectKey == nil {
		return nil, failed(ErrMessage, "the room has no connect key; Client.Create and Client.Join return one that has")
	}
	var o DialOptions
	if opts != nil {
		o = *opts
	}
	if r.AssignedUID != "" {
		o.UID = r.AssignedUID
	}
	return Dial(ctx, r.Protocol, r.EdgeURL, *r.connectKey, &o)
}

// Dial is like [Room.Dial], but takes an edge URL and a connect key from elsewhere. It also
// supports UDP. The protocol is one of the constants. Any other value means WebSocket if
// the URL begins with ws:// or wss://, and otherwise TCP. The edge URL is "host:port" with
// or without a scheme, or a ws:// or wss:// URL.
//
// Connecting takes at most 10 seconds, and the login at most another 10 seconds. Over UDP
// the login is repeated after 1, 3 and 6 seconds, in case it was lost.
func Dial(ctx context.Context, protocol, edgeURL, connectKey string, opts *DialOptions) (*Conn, error) {
	var o DialOptions
	if opts != nil {
		o = *opts
	}
	addr, err := parseEdge(edgeURL, protocol)
	switch {
	case err != nil:
		return nil, err
	case !addr.isSecure && !isLoopback(addr.host) && !o.AllowPlaintext:
		return nil, failed(ErrPlaintext, "DialOptions.AllowPlaintext accepts that")
	case connectKey == "":
		return nil, failed(ErrMessage, "the connect key is empty")
	case addr.protocol == ProtocolUDP && len(connectKey) > edge.MaxConnectKey, len(connectKey) > edge.MaxData:
		return nil, failed(ErrMessage, "the connect key is too long")
	case !isName(o.UID) || !isName(o.Nickname):
		return nil, failed(ErrMessage, "UID or Nickname is not UTF-8, or longer than 1 KiB")
	}
	t, clock, err := connect(ctx, addr, &o)
	if err != nil {
		return nil, err
	}
	c := newConn(t, Member{o.UID, o.Nickname})
	if !clock.IsZero() {
		c.offset.Store(int64(time.Until(clock)))
	}
	if err := c.login(ctx, connectKey); err != nil {
		return nil, err
	}
	return c, nil
}

func isName(s string) bool { return utf8.ValidString(s) && len(s) <= 1<<10 }

// connect also returns the edge's clock if the transport tells it.
func connect(ctx context.Context, addr edgeAddr, o *DialOptions) (t transport, clock time.Time, err error) {
	limited, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	dialNet, hc := o.DialContext, o.HTTPClient
	if hc == nil && dialNet != nil {
		// This client is for one connection. A Transport goes on dialing after the end of
		// ctx. So dialOnce uses the context limited, which ends.
		dialOnce := func(_ context.Context, network, address string) (net.Conn, error) {
			return o.DialContext(limited, network, address)
		}
		hc = &http.Client{Transport: &http.Transport{DialContext: dialOnce, DisableKeepAlives: true}}
	}
	if dialNet == nil {
		dialNet = new(net.Dialer).DialContext
	}
	switch addr.protocol {
	case ProtocolWebSocket:
		// ws is a separate variable, because an interface that holds a nil *wsTransport is
		// not nil.
		var ws *wsTransport
		if ws, clock, err = dialWebSocket(limited, addr.address, hc); err == nil {
			t = ws
		}
	case ProtocolUDP:
		var conn net.Conn
		if conn, err = dialNet(limited, "udp", addr.address); err == nil {
			t = newUDP(conn, func(ctx context.Context) (net.Conn, error) {
				return dialNet(ctx, "udp", conn.RemoteAddr().String())
			})
		}
	default:
		var conn net.Conn
		if conn, err = dialNet(limited, "tcp", addr.address); err == nil {
			t = newTCP(conn)
		}
	}
	switch {
	case err == nil:
		return t, clock, nil
	case ctx.Err() != nil:
		return nil, clock, fmt.Errorf("mmo: connect: %w", ctx.Err())
	case errors.Is(err, ErrRefused):
		return nil, clock, err
	}
	return nil, clock, failed(ErrNoConnection, "connect: "+describe(err), err)
}

// login sends the connect key and waits until the edge has let the client in. If the login
// fails, it closes the connection.
func (c *Conn) login(ctx context.Context, connectKey string) (err error) {
	defer func() {
		if err != nil {
			c.end(net.ErrClosed)
			c.running.Wait()
		}
	}()
	var seed [edge.SeedSize]byte
	_, _ = rand.Read(seed[:]) // never fails
	c.cipher = edge.NewCipher(seed)
	c.running.Go(c.read)

	limit := time.NewTimer(loginTimeout)
	defer limit.Stop()
	for try := 0; ; try++ {
		var nonce [edge.NonceSize]byte
		_, _ = rand.Read(nonce[:])
		if err := c.transport.login(ctx, seed, c.cipher.Seal(nil, nonce, time.Now(), connectKey)); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("mmo: login: %w", ctx.Err())
			}
			return c.refused(describe(err), err)
		}
		var again <-chan time.Time
		if c.transport.isLossy() && try < len(loginPauses) {
			again = time.After(loginPauses[try])
		}
		select {
		case <-c.loggedIn:
			c.running.Go(c.beat)
			return c.announce(ctx)
		case <-c.done:
			return c.refused(describe(c.err), c.err)
		case <-ctx.Done():
			return fmt.Errorf("mmo: login: %w", ctx.Err())
		case <-limit.C:
			return c.refused("no answer within 10 seconds", context.DeadlineExceeded)
		case <-again:
		}
	}
}

// refused explains a login that failed. If a wrong clock may be the reason, it says so.
func (c *Conn) refused(detail string, cause error) error {
	if clock := c.clockError(); clock != nil {
		return failed(ErrRefused, clock.Error(), clock, cause)
	}
	return failed(ErrRefused, fmt.Sprintf("%s; the connect key may be used or too old, or this machine's clock (%s) wrong",
		detail, time.Now().UTC().Format(time.RFC3339)), cause)
}
