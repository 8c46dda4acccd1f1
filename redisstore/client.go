package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// callLimit is the time limit of a call whose context has no deadline.
const callLimit = 10 * time.Second

// An Option changes a store. See [WithPrefix].
type Option func(*client)

// WithPrefix sets the text with which all keys begin. Two stores have no keys in common if
// neither prefix is the beginning of the other. In a Cluster, the prefix of tokens must
// not contain braces.
func WithPrefix(prefix string) Option { return func(c *client) { c.prefix = prefix } }

// client is the common part of States and Tokens.
type client struct {
	// The client contains a password. Package fmt does not follow an atomic.Pointer, so no
	// verb prints the password.
	redis  atomic.Pointer[redis.UniversalClient]
	kind   string // "states" or "tokens", for errors
	prefix string
	obeys  bool // go-redis itself ends a command at its context's deadline
}

func (c *client) init(r redis.UniversalClient, kind string, opts []Option) {
	c.redis.Store(&r)
	c.kind, c.prefix = kind, "oauth2login:"+kind+":"
	switch r := r.(type) {
	case *redis.Client: // includes a FailoverClient
		c.obeys = r.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		c.obeys = r.Options().ContextTimeoutEnabled
	}
	for _, opt := range opts {
		opt(c)
	}
}

func (c *client) format(f fmt.State, typeName string) {
	text := "redisstore." + typeName + "(none)"
	if c != nil {
		text = fmt.Sprintf("redisstore.%s(%q)", typeName, c.prefix)
	}
	_, _ = io.WriteString(f, text)
}

// send sends a command. go-redis repeats it after a network error.
func (c *client) send(ctx context.Context, args ...any) (any, error) {
	return (*c.redis.Load()).Do(ctx, args...).Result()
}

// sendOnce sends a command that must not be sent twice.
func (c *client) sendOnce(ctx context.Context, args ...any) (any, error) {
	cmd := onceCmd{redis.NewCmd(ctx, args...)}
	if err := (*c.redis.Load()).Process(ctx, cmd); err != nil {
		return nil, err
	}
	return cmd.Result()
}

// onceCmd is a command that go-redis does not repeat after a network error, because the
// server may have executed it. go-redis still follows the redirects of a Cluster.
type onceCmd struct{ *redis.Cmd }

func (onceCmd) NoRetry() bool { return true }

// do runs a call and returns as soon as ctx is done. Without ContextTimeoutEnabled,
// go-redis would return later. If Redis has no value (redis.Nil), do returns nil and no
// error.
func (c *client) do(ctx context.Context, op string, call func(context.Context) (any, error)) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, c.failed(op, err, err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callLimit)
		defer cancel()
	}
	run := call
	if !c.obeys {
		run = func(ctx context.Context) (any, error) { return inBackground(ctx, call) }
	}
	answer, err := run(ctx)
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case err != nil:
		return nil, c.failed(op, err, ctx.Err())
	}
	return answer, nil
}

func inBackground(ctx context.Context, call func(context.Context) (any, error)) (any, error) {
	type result struct {
		answer any
		err    error
	}
	done := make(chan result, 1)
	go func() {
		answer, err := call(ctx)
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// text returns answer as a string. If it has another type, the server is not Redis.
func (c *client) text(op string, answer any) (string, error) {
	s, ok := answer.(string)
	if !ok {
		return "", c.error(op, "the server's answer has another type")
	}
	return s, nil
}

// storeError is a failed call. Its text contains no secret. The causes are not printed:
// when Redis does not know a command, the error quotes the command's arguments.
type storeError struct {
	text   string
	causes []error
}

func (c *client) error(op, text string, causes ...error) error {
	return &storeError{c.kind + ": " + op + ": " + text, causes}
}

func (e *storeError) Error() string   { return "redisstore: " + e.text }
func (e *storeError) Unwrap() []error { return e.causes }

// SafeText lets package oauth2login print the text.
func (e *storeError) SafeText() string { return e.text }

// Format prints the text for every verb. Without Format, %#v would print the causes.
func (e *storeError) Format(f fmt.State, verb rune) {
	text := e.Error()
	if verb == 'q' {
		text = strconv.Quote(text)
	}
	_, _ = io.WriteString(f, text)
}

func (c *client) failed(op string, err, ctxErr error) error {
	return c.error(op, describe(err, ctxErr), err, ctxErr)
}

// replyCode matches the code at the beginning of an error reply, such as NOAUTH, NOPERM,
// OOM or READONLY.
var replyCode = regexp.MustCompile(`^[A-Z]{2,20}\b`)

// remedies maps error codes to advice for the operator.
var remedies = map[string]string{
	"NOAUTH":    "give the client the password",
	"WRONGPASS": "the user name or the password is wrong",
	"NOPERM":    "docs/redis.md lists the rights that the user needs",
	"READONLY":  "the client must use the server that accepts writes",
	"OOM":       "the server's memory is full",
}

// describe describes an error without quoting secrets.
func describe(err, ctxErr error) string {
	var (
		reply  redis.Error
		netErr *net.OpError
	)
	switch {
	case errors.Is(ctxErr, context.Canceled):
		return "given up by the caller"
	case ctxErr != nil:
		return "timed out"
	case errors.Is(err, redis.ErrClosed), errors.Is(err, redis.ErrPoolTimeout):
		return strings.TrimPrefix(err.Error(), "redis: ")
	case errors.As(err, &reply):
		return describeReply(reply.Error())
	case errors.As(err, &netErr) && netErr.Timeout():
		return "timed out"
	case errors.As(err, &netErr):
		return netErr.Error()
	case errors.Is(err, io.EOF):
		return "the connection was closed"
	}
	return "the command failed"
}

func describeReply(text string) string {
	code := replyCode.FindString(text)
	if code == "" {
		return "the command failed"
	}
	text = "the server answered " + code
	if remedy := remedies[code]; remedy != "" {
		text += " (" + remedy + ")"
	}
	return text
}
