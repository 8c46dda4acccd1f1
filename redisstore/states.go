package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/redis/go-redis/v9"
)

// takeScript does the same as GETDEL, for servers before version 6.2.
const takeScript = `local v = redis.call('GET', KEYS[1])
if v then redis.call('DEL', KEYS[1]) end
return v`

// States is a [state.Store] in Redis. [NewStates] makes it. It is safe for concurrent use,
// by any number of machines. Entries expire by the server's clock.
//
// A login costs one command when it starts and one when the browser returns. The default
// prefix of keys is "oauth2login:states:". A call without a deadline ends after 10
// seconds. While Redis is down, every call is an error. Take also returns an error if its
// answer is lost. The login is then refused, and the user has to start again.
type States struct {
	client
	noGetDel atomic.Bool // the server is older than 6.2
}

var _ state.Store = (*States)(nil)

// NewStates returns a store that uses r. It does not connect, and it never closes r.
func NewStates(r redis.UniversalClient, opts ...Option) *States {
	s := &States{}
	s.init(r, "states", opts)
	return s
}

// Put implements [state.Store]. The time to live is rounded up to milliseconds. Keys may
// contain any bytes.
func (s *States) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	args := []any{"set", s.prefix + key, value, "px", milliseconds(ttl)}
	if ttl <= 0 {
		args = []any{"del", s.prefix + key}
	}
	_, err := s.do(ctx, "put", func(ctx context.Context) (any, error) { return s.send(ctx, args...) })
	return err
}

// Take implements [state.Store].
func (s *States) Take(ctx context.Context, key string) (value []byte, found bool, err error) {
	const op = "take"
	answer, err := s.do(ctx, op, func(ctx context.Context) (any, error) {
		if !s.noGetDel.Load() {
			answer, err := s.sendOnce(ctx, "getdel", s.prefix+key)
			if !isUnknownCommand(err) {
				return answer, err
			}
			s.noGetDel.Store(true)
		}
		return s.sendOnce(ctx, "eval", takeScript, 1, s.prefix+key)
	})
	if answer == nil || err != nil {
		return nil, false, err
	}
	text, err := s.text(op, answer)
	if err != nil {
		return nil, false, err
	}
	return []byte(text), true, nil
}

// Format prints the prefix, whatever the verb.
func (s *States) Format(f fmt.State, _ rune) {
	var c *client
	if s != nil {
		c = &s.client
	}
	c.format(f, "States")
}

// milliseconds returns d in milliseconds, rounded up. The result is at least 1.
func milliseconds(d time.Duration) int64 { return int64((max(d, 1)-1)/time.Millisecond) + 1 }

func isUnknownCommand(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && strings.HasPrefix(strings.ToLower(reply.Error()), "err unknown command")
}
