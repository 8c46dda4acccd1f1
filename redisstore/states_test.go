package redisstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/redisstore"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestStates_commands checks that a login needs as many commands as documented.
func TestStates_commands(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string {
		if args[0] == "getdel" {
			return bulk("value")
		}
		return "+OK\r\n"
	})
	s := redisstore.NewStates(f.client(t), redisstore.WithPrefix("app:"))
	require.NoError(t, s.Put(t.Context(), "key", []byte("value"), 1500*time.Microsecond))
	value, found, err := s.Take(t.Context(), "key")
	require.NoError(t, err)
	assert.True(t, found)
	assert.Equal(t, "value", string(value))
	require.NoError(t, s.Put(t.Context(), "key", []byte("value"), 0))
	assert.Equal(t, [][]string{{"set", "app:key", "value", "px", "2"}, {"getdel", "app:key"}, {"del", "app:key"}}, f.seen)
}

func TestStates_time_to_live(t *testing.T) {
	f := newFakeRedis(t, func([]string) string { return "+OK\r\n" })
	s := redisstore.NewStates(f.client(t))
	for _, c := range []struct {
		ttl  time.Duration
		want string
	}{
		{1, "1"}, {time.Millisecond, "1"}, {time.Millisecond + 1, "2"}, {5 * time.Minute, "300000"}, {1<<63 - 1, "9223372036855"},
	} {
		f.seen = nil
		require.NoError(t, s.Put(t.Context(), "key", nil, c.ttl))
		assert.Equal(t, []string{"set", "oauth2login:states:key", "", "px", c.want}, f.seen[0])
	}
}

func TestStates_server_before_6_2(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string {
		switch args[0] {
		case "getdel":
			return "-ERR unknown command `getdel`, with args beginning with: `oauth2login:states:key`, \r\n"
		case "eval":
			if args[3] == "oauth2login:states:key" {
				return bulk("value")
			}
			return "$-1\r\n"
		}
		return "+OK\r\n"
	})
	s := redisstore.NewStates(f.client(t))
	for range 2 {
		value, found, err := s.Take(t.Context(), "key")
		require.NoError(t, err)
		assert.True(t, found)
		assert.Equal(t, "value", string(value))
	}
	_, found, err := s.Take(t.Context(), "other")
	require.NoError(t, err)
	assert.False(t, found)
	assert.Equal(t, []string{"getdel", "eval", "eval", "eval"}, f.commands(), "GETDEL is tried once")
}

// TestStates_lost_answer: if the answer of a Take is lost, the state may have been taken,
// so Take must return an error and not a miss. It must not send the command again: the
// second command would find nothing.
func TestStates_lost_answer(t *testing.T) {
	taken := false
	f := newFakeRedis(t, func([]string) string {
		if taken {
			return "$-1\r\n"
		}
		taken = true
		return ""
	})
	s := redisstore.NewStates(f.client(t, func(o *redis.Options) { o.MaxRetries = 3 }))
	value, found, err := s.Take(t.Context(), "key")
	assert.ErrorIs(t, err, io.EOF)
	assert.False(t, found)
	assert.Nil(t, value)
	assert.Equal(t, []string{"getdel"}, f.commands())

	// A Take on a server without GETDEL must also return an error.
	answers := 0
	f = newFakeRedis(t, func(args []string) string {
		if args[0] == "getdel" {
			return "-ERR unknown command\r\n"
		}
		if answers++; answers > 1 {
			return "$-1\r\n"
		}
		return ""
	})
	_, found, err = redisstore.NewStates(f.client(t)).Take(t.Context(), "key")
	assert.Error(t, err)
	assert.False(t, found)
}

func TestStates_silent_server(t *testing.T) {
	f := newFakeRedis(t, func([]string) string { return silence })
	s := redisstore.NewStates(f.client(t, func(o *redis.Options) { o.ReadTimeout = time.Hour; o.ContextTimeoutEnabled = false }))
	for name, call := range map[string]func(context.Context) error{
		"put": func(ctx context.Context) error { return s.Put(ctx, "key", []byte("value"), time.Minute) },
		"take": func(ctx context.Context) error {
			_, found, err := s.Take(ctx, "key")
			assert.False(t, found)
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := call(ctx)
		cancel()
		assert.ErrorIs(t, err, context.DeadlineExceeded, name)
		assert.ErrorContains(t, err, "timed out")

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		err = call(ctx)
		assert.ErrorIs(t, err, context.Canceled, name)
		assert.ErrorContains(t, err, "given up")

		before := len(f.commands())
		assert.ErrorIs(t, call(ctx), context.Canceled, name)
		assert.Len(t, f.commands(), before, "nothing is sent for a context that is done")
	}
}

func TestStates_ContextTimeoutEnabled(t *testing.T) {
	var quiet atomic.Bool
	quiet.Store(true)
	f := newFakeRedis(t, func([]string) string {
		if quiet.Load() {
			return silence
		}
		return "$-1\r\n"
	})
	s := redisstore.NewStates(f.client(t, func(o *redis.Options) { o.ReadTimeout = time.Hour; o.ContextTimeoutEnabled = true; o.MaxRetries = -1 }))
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, found, err := s.Take(ctx, "key")
		cancel()
		assert.ErrorContains(t, err, "timed out")
		assert.False(t, found)
	}
	quiet.Store(false)
	_, found, err := s.Take(t.Context(), "key")
	require.NoError(t, err)
	assert.False(t, found)
}

// TestStates_errors: errors do not quote Redis's replies, because replies may contain keys
// and values.
func TestStates_errors(t *testing.T) {
	for reply, want := range map[string]string{
		"-NOPERM this user has no permissions to access the 'hush-key' key\r\n": "the server answered NOPERM (docs/redis.md lists the rights that the user needs)",
		"-OOM command not allowed when used memory > 'maxmemory'.\r\n":          "the server answered OOM (the server's memory is full)",
		"-NOAUTH Authentication required.\r\n":                                  "the server answered NOAUTH (give the client the password)",
		"-ERR syntax error near 'hush-value'\r\n":                               "the server answered ERR",
		"-hush-value\r\n": "the command failed",
		":1\r\n":          "the server's answer has another type",
		"":                "the connection was closed",
	} {
		f := newFakeRedis(t, func([]string) string { return reply })
		s := redisstore.NewStates(f.client(t, func(o *redis.Options) { o.MaxRetries = -1 }))
		_, found, err := s.Take(t.Context(), "hush-key")
		assert.False(t, found)
		assert.EqualError(t, err, "redisstore: states: take: "+want)
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s %q", err, err, err, err, err), "hush")
		if reply != ":1\r\n" {
			err = s.Put(t.Context(), "hush-key", []byte("hush-value"), time.Minute)
			assert.EqualError(t, err, "redisstore: states: put: "+want)
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "hush")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	client := redis.NewClient(&redis.Options{Addr: l.Addr().String(), Password: "hush-hush"})
	_, found, err := redisstore.NewStates(client).Take(t.Context(), "hush-key")
	assert.False(t, found)
	netErr, ok := errors.AsType[*net.OpError](err)
	require.True(t, ok, "%v", err)
	assert.EqualError(t, err, "redisstore: states: take: "+netErr.Error())
	assert.Equal(t, "states: take: "+netErr.Error(), err.(interface{ SafeText() string }).SafeText())

	require.NoError(t, client.Close())
	assert.EqualError(t, redisstore.NewStates(client).Put(t.Context(), "k", nil, time.Minute), "redisstore: states: put: client is closed")
}

func TestStores_print_no_secret(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Username: "login", Password: "hush-hush"})
	defer client.Close()
	tokens := redisstore.NewTokens(client, redisstore.WithPrefix("app:"))
	for _, v := range []any{
		redisstore.NewStates(client, redisstore.WithPrefix("app:")), tokens, tokens.User("hush-user"),
	} {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		holder := struct{ s any }{v}
		out := fmt.Sprintf("%v %+v %#v %s %q %d %x %s", v, v, v, v, v, v, v, text)
		assert.Contains(t, out, "app:")
		assert.NotContains(t, out, "hush")
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s", holder, holder, holder, holder), "hush-hush")
	}
	assert.Equal(t, "redisstore.States(none) redisstore.Tokens(none) redisstore.Tokens(none)",
		fmt.Sprint((*redisstore.States)(nil), " ", (*redisstore.Tokens)(nil), " ", redisstore.UserTokens{}))
}
