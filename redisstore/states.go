// Package redisstate keeps login states in Redis or Valkey, for applications on
// several machines.
//
//	client := redis.NewClient(&redis.Options{Addr: "redis:6379", ContextTimeoutEnabled: true}) // or NewFailoverClient, NewClusterClient
//	provider, err := shangcloud.New(shangcloud.Config{
//		States: redisstate.New(client),
//		…
//	})
//
// # Redis
//
// Version 6.2 and newer take a state with GETDEL, in one step. An older one answers
// that it does not know the command, and is from then on asked with a script (EVAL)
// that does the same, in one step as well. Valkey is the same in all of this. A
// Cluster will do: every command has one key.
//
// A user with an access list needs
//
//	ACL SETUSER login on >password resetkeys ~shangcloud:state:* resetchannels nocommands +set +getdel +del
//
// and +eval besides for a server before 6.2; go-redis itself would like +hello,
// +client|setinfo and, for a Cluster, +cluster|slots or +cluster|shards and +command.
//
// The policy for a full memory should be noeviction or one of volatile-*. With
// others, or if it evicts states, users whose login is under way have to start again.
//
// # What a login costs
//
// One round trip when it starts (SET … PX) and one when it comes back (GETDEL), and
// about 500 bytes for 5 minutes.
//
// go-redis by default does not look at a context while it waits for an answer. The
// store then does, which takes a goroutine for each call: up to a fifth of its time
// where nothing else goes on. With ContextTimeoutEnabled go-redis obeys deadlines by
// itself, and no goroutine is needed; a call that is cancelled before its deadline
// ends when the answer comes, or with the client's ReadTimeout.
//
// # When Redis is down
//
// Both calls fail, at the latest when their context ends, or after 10 seconds if it
// has no deadline. The login is refused with shangcloud.ErrStateStore, a reason to
// answer 503; it is never accepted, and never said not to be found. A Take whose
// answer was lost is not repeated, whatever the client's MaxRetries: it might have
// taken the state. The user starts again. When the server is back, so is the store.
//
// # What Redis itself does not promise
//
// It forgets what it has not written to its disk when it is killed, and replicates
// asynchronously: after a failover, states of the last moments may be missing, and
// one that was just taken may be there again. Then it is the cookie, which is
// cleared, and the platform, which has to refuse a code's second use, that stand
// between the login and a repetition by the same browser. If that is not enough,
// use state.SQL.
//
// # Tracing
//
// Values are secrets (they hold the PKCE verifier). An instrumentation of go-redis
// that records commands with their arguments should not: redisotel.WithDBStatement(false).
package redisstate

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

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/redis/go-redis/v9"
)

// DefaultPrefix is what keys begin with unless WithPrefix says otherwise.
const DefaultPrefix = "shangcloud:state:"

// callLimit ends a call whose context has no deadline.
const callLimit = 10 * time.Second

// takeScript is GETDEL for servers that do not have it.
const takeScript = `local v = redis.call('GET', KEYS[1])
if v then redis.call('DEL', KEYS[1]) end
return v`

// Store is a [state.Store] in Redis. It is made by [New] and safe for concurrent
// use, by any number of machines. Entries expire by the server's clock.
type Store struct {
	// Package fmt does not follow an atomic.Pointer, whatever the verb: the
	// client knows a password.
	client   atomic.Pointer[redis.UniversalClient]
	prefix   string
	obeys    bool        // the client ends a command with its context's deadline
	noGetDel atomic.Bool // the server is older than 6.2
}

var _ state.Store = (*Store)(nil)

// An Option changes a Store. See WithPrefix.
type Option func(*Store)

// WithPrefix sets what keys begin with. Stores with different prefixes, none of
// which begins with another one, have nothing in common.
func WithPrefix(prefix string) Option { return func(s *Store) { s.prefix = prefix } }

// New returns a store that uses client, which stays the caller's to close. It does
// not connect.
func New(client redis.UniversalClient, opts ...Option) *Store {
	s := &Store{prefix: DefaultPrefix}
	s.client.Store(&client)
	switch c := client.(type) {
	case *redis.Client: // a FailoverClient is one, too
		s.obeys = c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		s.obeys = c.Options().ContextTimeoutEnabled
	}
	for _, opt := range opts {
		opt(s)
	}
	return s
}

// Put implements [state.Store], with a time to live in whole milliseconds, rounded
// up. A key is of any bytes.
func (s *Store) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	args := []any{"set", s.prefix + key, value, "px", (max(ttl, 0)-1)/time.Millisecond + 1}
	if ttl <= 0 {
		args = []any{"del", s.prefix + key}
	}
	_, err := s.do(ctx, "put", func(ctx context.Context) ([]byte, error) {
		return nil, (*s.client.Load()).Do(ctx, args...).Err()
	})
	return err
}

// Take implements [state.Store].
func (s *Store) Take(ctx context.Context, key string) (value []byte, found bool, err error) {
	value, err = s.do(ctx, "take", func(ctx context.Context) ([]byte, error) {
		if !s.noGetDel.Load() {
			value, err := s.once(ctx, "getdel", s.prefix+key)
			if !isUnknownCommand(err) {
				return value, err
			}
			s.noGetDel.Store(true)
		}
		return s.once(ctx, "eval", takeScript, 1, s.prefix+key)
	})
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	return value, err == nil, err
}

// Format prints s without its client, whatever the verb.
func (s *Store) Format(f fmt.State, _ rune) {
	if s == nil {
		_, _ = io.WriteString(f, "(*redisstate.Store)(nil)")
		return
	}
	_, _ = fmt.Fprintf(f, "redisstate.Store{Prefix:%q}", s.prefix)
}

// once sends a command that must not be sent twice.
func (s *Store) once(ctx context.Context, args ...any) ([]byte, error) {
	cmd := onceCmd{redis.NewStringCmd(ctx, args...)}
	if err := (*s.client.Load()).Process(ctx, cmd); err != nil {
		return nil, err
	}
	return cmd.Bytes()
}

// onceCmd is a command that go-redis does not repeat after a network error, when
// it is not known whether it was carried out. Redirects of a Cluster are followed.
type onceCmd struct{ *redis.StringCmd }

func (onceCmd) NoRetry() bool { return true }

func isUnknownCommand(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && strings.HasPrefix(strings.ToLower(reply.Error()), "err unknown command")
}

// do runs a call and returns as soon as ctx is done: go-redis does not look at ctx
// while it waits for an answer, unless it was told so. redis.Nil comes out as it is.
func (s *Store) do(ctx context.Context, op string, call func(context.Context) ([]byte, error)) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, failed(op, err, err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callLimit)
		defer cancel()
	}
	if s.obeys {
		value, err := call(ctx)
		if err == nil || errors.Is(err, redis.Nil) {
			return value, err
		}
		return nil, failed(op, err, ctx.Err())
	}
	type result struct {
		value []byte
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := call(ctx)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		if r.err == nil || errors.Is(r.err, redis.Nil) {
			return r.value, r.err
		}
		return nil, failed(op, r.err, ctx.Err())
	case <-ctx.Done():
		return nil, failed(op, ctx.Err(), ctx.Err())
	}
}

// callError is a call that failed. The causes are there for errors.Is and errors.As
// and are not printed: Redis quotes arguments of commands that it does not know.
type callError struct {
	text   string
	causes []error
}

func (e *callError) Error() string   { return "shangcloud: redis state store: " + e.text }
func (e *callError) Unwrap() []error { return e.causes }

// Format prints the text for every verb: %#v would dig out the causes.
func (e *callError) Format(f fmt.State, verb rune) {
	text := e.Error()
	if verb == 'q' {
		text = strconv.Quote(text)
	}
	_, _ = io.WriteString(f, text)
}

// replyCode is what error replies begin with: NOPERM, OOM, READONLY, …
var replyCode = regexp.MustCompile(`^[A-Z]{2,20}\b`)

func failed(op string, err, ctxErr error) error {
	var (
		reply  redis.Error
		netErr *net.OpError
		text   = "the command failed"
	)
	switch {
	case errors.Is(ctxErr, context.Canceled):
		text = "given up by the caller"
	case ctxErr != nil:
		text = "timed out"
	case errors.As(err, &reply):
		if code := replyCode.FindString(reply.Error()); code != "" {
			text = "the server answered " + code
		}
	case errors.As(err, &netErr) && netErr.Timeout():
		text = "timed out"
	case errors.As(err, &netErr):
		text = netErr.Error()
	case errors.Is(err, io.EOF):
		text = "the connection was closed"
	}
	return &callError{op + ": " + text, []error{err, ctxErr}}
}
