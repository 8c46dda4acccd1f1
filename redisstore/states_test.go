package redisstate_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/state/redisstate"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests against real servers, a Cluster among them, are in the module tests.

// fakeRedis answers commands with a function, which returns "" to close the
// connection, and silence to say nothing.
type fakeRedis struct {
	addr   string
	answer func(args []string) string

	mu   sync.Mutex
	seen [][]string
}

const silence = "silence"

func newFakeRedis(t *testing.T, answer func(args []string) string) *fakeRedis {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &fakeRedis{addr: l.Addr().String(), answer: answer}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return f
}

func (f *fakeRedis) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	line := func() (string, error) {
		s, err := r.ReadString('\n')
		return strings.TrimSuffix(s, "\r\n"), err
	}
	for {
		header, err := line()
		if err != nil {
			return
		}
		n, _ := strconv.Atoi(strings.TrimPrefix(header, "*"))
		var args []string
		for range n {
			size, err := line()
			if err != nil {
				return
			}
			length, _ := strconv.Atoi(strings.TrimPrefix(size, "$"))
			data := make([]byte, length+2)
			if _, err := io.ReadFull(r, data); err != nil {
				return
			}
			args = append(args, string(data[:length]))
		}
		reply := "-ERR unknown command\r\n"
		switch name := strings.ToLower(args[0]); name {
		case "hello", "client", "command":
		case "auth":
			reply = "+OK\r\n"
		default:
			f.mu.Lock()
			f.seen = append(f.seen, args)
			f.mu.Unlock()
			reply = f.answer(append([]string{name}, args[1:]...))
		}
		switch reply {
		case "":
			return
		case silence:
			continue
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}

func (f *fakeRedis) commands() (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, args := range f.seen {
		names = append(names, strings.ToLower(args[0]))
	}
	return names
}

func (f *fakeRedis) client(t *testing.T, change ...func(*redis.Options)) *redis.Client {
	o := &redis.Options{Addr: f.addr, Password: "hush-hush"}
	for _, c := range change {
		c(o)
	}
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

// TestOneRoundTrip: what a login costs is what the documentation says.
func TestOneRoundTrip(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string {
		if args[0] == "getdel" {
			return bulk("value")
		}
		return "+OK\r\n"
	})
	s := redisstate.New(f.client(t), redisstate.WithPrefix("app:"))
	require.NoError(t, s.Put(t.Context(), "key", []byte("value"), 1500*time.Microsecond))
	value, found, err := s.Take(t.Context(), "key")
	require.NoError(t, err)
	assert.True(t, found)
	assert.Equal(t, "value", string(value))
	require.NoError(t, s.Put(t.Context(), "key", []byte("value"), 0))
	assert.Equal(t, [][]string{{"set", "app:key", "value", "px", "2"}, {"getdel", "app:key"}, {"del", "app:key"}}, f.seen)
}

func TestTimeToLive(t *testing.T) {
	f := newFakeRedis(t, func([]string) string { return "+OK\r\n" })
	s := redisstate.New(f.client(t))
	for _, c := range []struct {
		ttl  time.Duration
		want string
	}{
		{1, "1"}, {time.Millisecond, "1"}, {time.Millisecond + 1, "2"}, {5 * time.Minute, "300000"}, {1<<63 - 1, "9223372036855"},
	} {
		f.seen = nil
		require.NoError(t, s.Put(t.Context(), "key", nil, c.ttl))
		assert.Equal(t, []string{"set", "shangcloud:state:key", "", "px", c.want}, f.seen[0])
	}
}

// TestServerWithoutGETDEL is one before 6.2.
func TestServerWithoutGETDEL(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string {
		switch args[0] {
		case "getdel":
			return "-ERR unknown command `getdel`, with args beginning with: `shangcloud:state:key`, \r\n"
		case "eval":
			if args[3] == "shangcloud:state:key" {
				return bulk("value")
			}
			return "$-1\r\n"
		}
		return "+OK\r\n"
	})
	s := redisstate.New(f.client(t))
	for range 2 {
		value, found, err := s.Take(t.Context(), "key")
		require.NoError(t, err)
		assert.True(t, found)
		assert.Equal(t, "value", string(value))
	}
	_, found, err := s.Take(t.Context(), "other")
	require.NoError(t, err)
	assert.False(t, found)
	assert.Equal(t, []string{"getdel", "eval", "eval", "eval"}, f.commands(), "it is asked once")
}

// TestLostAnswer: the state may have been taken. That is an error, not a miss, and
// the command is not sent again, which would find nothing.
func TestLostAnswer(t *testing.T) {
	taken := false
	f := newFakeRedis(t, func([]string) string {
		if taken {
			return "$-1\r\n"
		}
		taken = true
		return ""
	})
	s := redisstate.New(f.client(t, func(o *redis.Options) { o.MaxRetries = 3 }))
	value, found, err := s.Take(t.Context(), "key")
	assert.ErrorIs(t, err, io.EOF)
	assert.False(t, found)
	assert.Nil(t, value)
	assert.Equal(t, []string{"getdel"}, f.commands())

	// Without GETDEL it is the same.
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
	_, found, err = redisstate.New(f.client(t)).Take(t.Context(), "key")
	assert.Error(t, err)
	assert.False(t, found)
}

// TestSilentServer says nothing, for longer than anybody waits.
func TestSilentServer(t *testing.T) {
	f := newFakeRedis(t, func([]string) string { return silence })
	s := redisstate.New(f.client(t, func(o *redis.Options) { o.ReadTimeout = time.Hour; o.ContextTimeoutEnabled = false }))
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
		assert.Len(t, f.commands(), before, "nothing is sent for who is gone")
	}
}

// TestClientThatObeysContexts needs no help.
func TestClientThatObeysContexts(t *testing.T) {
	var quiet atomic.Bool
	quiet.Store(true)
	f := newFakeRedis(t, func([]string) string {
		if quiet.Load() {
			return silence
		}
		return "$-1\r\n"
	})
	s := redisstate.New(f.client(t, func(o *redis.Options) { o.ReadTimeout = time.Hour; o.ContextTimeoutEnabled = true; o.MaxRetries = -1 }))
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

// TestErrorsTellNothing: replies quote what was sent.
func TestErrorsTellNothing(t *testing.T) {
	for reply, want := range map[string]string{
		"-NOPERM this user has no permissions to access the 'hush-key' key\r\n": "the server answered NOPERM",
		"-OOM command not allowed when used memory > 'maxmemory'.\r\n":          "the server answered OOM",
		"-ERR syntax error near 'hush-value'\r\n":                               "the server answered ERR",
		"-hush-value\r\n": "the command failed",
		":1\r\n":          "", // a type that GETDEL does not have
		"":                "the connection was closed",
	} {
		f := newFakeRedis(t, func([]string) string { return reply })
		s := redisstate.New(f.client(t, func(o *redis.Options) { o.MaxRetries = -1 }))
		_, found, err := s.Take(t.Context(), "hush-key")
		if want != "" {
			assert.False(t, found)
			assert.EqualError(t, err, "shangcloud: redis state store: take: "+want)
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s %q", err, err, err, err, err), "hush")
		}
		if reply != ":1\r\n" {
			err = s.Put(t.Context(), "hush-key", []byte("hush-value"), time.Minute)
			assert.EqualError(t, err, "shangcloud: redis state store: put: "+want)
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "hush")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	client := redis.NewClient(&redis.Options{Addr: l.Addr().String(), Password: "hush-hush"})
	defer client.Close()
	_, found, err := redisstate.New(client).Take(t.Context(), "hush-key")
	assert.False(t, found)
	var netErr *net.OpError
	assert.True(t, errors.As(err, &netErr), "%v", err)
	assert.ErrorContains(t, err, "connection refused")
}

func TestStorePrintsNoSecret(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Username: "login", Password: "hush-hush"})
	defer client.Close()
	s := redisstate.New(client)
	text, err := json.Marshal(map[string]any{"store": s})
	require.NoError(t, err)
	holder := struct{ s *redisstate.Store }{s}
	out := fmt.Sprintf("%v %+v %#v %s %q %d %v %+v %#v %s", s, s, s, s, s, s, holder, holder, holder, text)
	assert.Contains(t, out, "shangcloud:state:")
	assert.NotContains(t, out, "hush")
	assert.NotContains(t, fmt.Sprint((*redisstate.Store)(nil)), "panic")
}
