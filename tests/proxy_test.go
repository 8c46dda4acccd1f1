package tests

import (
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// proxy stands between a client and its server. It can imitate a network that drops all
// packets while neither side notices.
type proxy struct {
	dsn string

	mu    sync.Mutex
	pairs []*pair
}

type pair struct {
	mu       sync.Mutex
	silent   bool
	up, down net.Conn
}

func newProxy(t testing.TB, d database, dsn string) *proxy {
	t.Helper()
	network, addr := "tcp", ""
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{}
	if d.driver == "mysql" {
		conf, err := mysql.ParseDSN(dsn)
		require.NoError(t, err)
		network, addr = conf.Net, conf.Addr
		conf.Net, conf.Addr = "tcp", l.Addr().String()
		p.dsn = conf.FormatDSN()
	} else {
		conf, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		addr = net.JoinHostPort(conf.Host, fmt.Sprint(conf.Port))
		u, err := url.Parse(dsn)
		require.NoError(t, err)
		u.Host = l.Addr().String()
		p.dsn = u.String()
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial(network, addr)
			if err != nil {
				_ = down.Close()
				continue
			}
			c := &pair{up: up, down: down}
			p.mu.Lock()
			p.pairs = append(p.pairs, c)
			p.mu.Unlock()
			wg.Go(func() { c.carry(up, down) })
			wg.Go(func() { c.carry(down, up) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.drop()
		wg.Wait()
	})
	return p
}

func (c *pair) carry(to, from net.Conn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		c.mu.Lock()
		silent := c.silent
		c.mu.Unlock()
		if !silent {
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = werr
			}
			if err != nil {
				_ = to.Close()
			}
		}
		if err != nil {
			return
		}
	}
}

// swallow drops all data on the present connections. If one side closes a connection, the
// other side does not notice.
func (p *proxy) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.pairs {
		c.mu.Lock()
		c.silent = true
		c.mu.Unlock()
	}
}

// drop closes the connections.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.pairs {
		_ = c.up.Close()
		_ = c.down.Close()
	}
}
