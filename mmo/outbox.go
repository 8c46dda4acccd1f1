package mmo

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// outbox is the state that sending goroutines share. lock guards the other fields.
type outbox struct {
	lock        chan struct{} // a mutex that a context can interrupt
	buf         []byte
	nonce       [edge.NonceSize]byte
	vars        map[string]string // what SetVars has sent
	interpolate []string          // sorted
}

func newOutbox() *outbox {
	return &outbox{lock: make(chan struct{}, 1)}
}

// Send sends text, unchanged, to the others in the room. The text has to be UTF-8 and not
// empty. It must not be one of the protocol's control messages. It may have at most
// 1,048,540 bytes, and over UDP at most 65,463 bytes. Otherwise the error is [ErrMessage].
// By default macOS sends only 9,172 bytes over UDP; it loses a longer message.
//
// If the text looks like a broadcast, an announcement or variables, the others take it for
// that. So send what users type with [Conn.Broadcast].
//
// Send returns when the operating system has taken the message, not when the message has
// arrived. If ctx ends while a message is half sent, the connection ends. After the end of
// the connection, Send returns the error of [Conn.Read].
func (c *Conn) Send(ctx context.Context, text string) error {
	if err := c.check(text); err != nil {
		return err
	}
	return c.send(ctx, text)
}

// Broadcast sends a message and an extra to the others in the room. The extra may be any
// text. Without a UID in [DialOptions], the extra must not be empty, because the others
// would not recognize the broadcast. Otherwise Broadcast is like [Conn.Send].
func (c *Conn) Broadcast(ctx context.Context, message, extra string) error {
	if c.self.UID == "" && extra == "" {
		return failed(ErrMessage, "a broadcast needs a UID in DialOptions, or an extra")
	}
	if !utf8.ValidString(message) || !utf8.ValidString(extra) {
		return failed(ErrMessage, "it is not UTF-8")
	}
	text := edge.Encode(edge.Broadcast{UID: c.self.UID, Message: message, Extra: extra})
	if err := c.check(text); err != nil {
		return err
	}
	return c.send(ctx, text)
}

// SetVars changes some of this client's variables, and sends all of them to the others in
// the room, as the official clients do. The names in interpolate are added to those whose
// values the others should move smoothly. Variables can't be removed: see
// [Conn.ClearVars]. Names should not differ in the case of letters alone.
//
// SetVars needs a UID in [DialOptions]. Otherwise it is like [Conn.Send]. After an error
// the variables are unchanged.
func (c *Conn) SetVars(ctx context.Context, vars map[string]string, interpolate ...string) error {
	if c.self.UID == "" {
		return failed(ErrMessage, "variables need a UID in DialOptions")
	}
	if err := checkVars(vars, interpolate); err != nil {
		return err
	}
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	merged := make(map[string]string, len(c.outbox.vars)+len(vars))
	maps.Copy(merged, c.outbox.vars)
	maps.Copy(merged, vars)
	names := append(append([]string{}, c.outbox.interpolate...), interpolate...) // not nil: [] in JSON
	slices.Sort(names)
	names = slices.Compact(names)
	text := edge.Encode(edge.Vars{Type: edge.TypeVars, UID: c.self.UID, Vars: merged, Interpolate: names})
	if err := c.check(text); err != nil {
		return err
	}
	if err := c.write(ctx, text); err != nil {
		return err
	}
	c.outbox.vars, c.outbox.interpolate = merged, names
	return nil
}

func checkVars(vars map[string]string, interpolate []string) error {
	for name, value := range vars {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return failed(ErrMessage, "a variable is not UTF-8")
		}
	}
	for _, name := range interpolate {
		if !utf8.ValidString(name) {
			return failed(ErrMessage, "the name of a variable is not UTF-8")
		}
	}
	return nil
}

// ClearVars forgets the variables that SetVars has sent. The next SetVars then sends only
// its own variables. ClearVars itself sends nothing.
func (c *Conn) ClearVars(ctx context.Context) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	c.outbox.vars, c.outbox.interpolate = nil, nil
	return nil
}

// RequestMembers asks the edge who is in the room. The answer is a [Members] event, which
// also updates [Conn.Members]. Over UDP, the question or the answer can get lost.
func (c *Conn) RequestMembers(ctx context.Context) error {
	c.isRequested.Store(true)
	return c.send(ctx, edge.Ping)
}

// check returns ErrMessage for a text that receivers would drop or misread, or that would
// end their connections.
func (c *Conn) check(text string) error {
	switch {
	case text == "":
		return failed(ErrMessage, "it is empty")
	case len(text) > c.transport.maxData():
		return failed(ErrMessage, fmt.Sprintf("it is longer than %d bytes", c.transport.maxData()))
	case !utf8.ValidString(text):
		return failed(ErrMessage, "it is not UTF-8")
	case edge.IsControl(text):
		return failed(ErrMessage, "it is a control message")
	}
	return nil
}

// send sends text, which has been checked.
func (c *Conn) send(ctx context.Context, text string) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	return c.write(ctx, text)
}

// acquire waits for the right to write.
func (c *Conn) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mmo: send: %w", err)
	}
	select {
	case c.outbox.lock <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("mmo: send: %w", ctx.Err())
	case <-c.done:
		return c.err
	}
	if c.isOver() {
		c.release()
		return c.err
	}
	return nil
}

func (c *Conn) release() { <-c.outbox.lock }

// write seals and sends text. The caller holds the lock. A message that was not sent as a
// whole ends the connection.
func (c *Conn) write(ctx context.Context, text string) error {
	o := c.outbox
	_, _ = rand.Read(o.nonce[:]) // never fails
	o.buf = c.transport.header(o.buf[:0])
	o.buf = c.cipher.Seal(o.buf, o.nonce, time.Now(), text)
	err := c.transport.send(ctx, o.buf)
	if cap(o.buf) > keepBuffer {
		o.buf = nil
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		c.end(failed(ErrNoConnection, "the context of a message ended while it was being sent", ctx.Err()))
		return fmt.Errorf("mmo: send: %w", ctx.Err())
	}
	c.end(failed(ErrNoConnection, "send: "+describe(err), err))
	return c.err
}
