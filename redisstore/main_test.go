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
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// The tests against real servers, including a Cluster, are in the module tests.

// fakeRedis answers each command with the result of a function. If the result is "", it
// closes the connection. If the result is silence, it sends no answer.
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
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		reply := f.reply(args)
		if reply == silence {
			continue
		}
		if _, err := io.WriteString(conn, reply); err != nil || reply == "" {
			return
		}
	}
}

// readCommand reads a command, which is an array of strings: *2, $3, get, $3, key.
func readCommand(r *bufio.Reader) (args []string, err error) {
	n, err := readNumber(r)
	if err != nil {
		return nil, err
	}
	for range n {
		size, err := readNumber(r)
		if err != nil {
			return nil, err
		}
		data := make([]byte, size+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return nil, err
		}
		args = append(args, string(data[:size]))
	}
	return args, nil
}

func readNumber(r *bufio.Reader) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSuffix(line[1:], "\r\n"))
}

// reply answers the commands that go-redis sends on its own. For other commands it calls
// f.answer.
func (f *fakeRedis) reply(args []string) string {
	switch name := strings.ToLower(args[0]); name {
	case "hello", "client", "command":
		return "-ERR unknown command\r\n"
	case "auth":
		return "+OK\r\n"
	default:
		f.mu.Lock()
		f.seen = append(f.seen, args)
		f.mu.Unlock()
		return f.answer(append([]string{name}, args[1:]...))
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
	// The time-outs are long: after a time-out on a slow machine, go-redis would send the
	// command again.
	o := &redis.Options{Addr: f.addr, Password: "hush-hush", DialTimeout: time.Minute, ReadTimeout: time.Minute}
	for _, c := range change {
		c(o)
	}
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
