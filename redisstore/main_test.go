package redisstore_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// The tests against real servers, a Cluster among them, are in the module tests.

// fakeRedis answers commands with a function. "" closes the connection, and silence
// gives no answer.
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
