package mmotest_test

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

func TestDialContext(t *testing.T) {
	e := inMemory(t)
	url, _ := e.URL("tcp")
	address := strings.TrimPrefix(url, "tcp://")
	for _, network := range []string{"tcp", "udp"} {
		conn, err := e.DialContext(t.Context(), network, address)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		_, err = e.DialContext(t.Context(), network, "elsewhere.test:1")
		require.ErrorContains(t, err, address)
	}

	_, err := mmotest.NewEdge(t).DialContext(t.Context(), "tcp", address)
	require.Error(t, err, "an edge that listens is not in memory")

	require.NoError(t, e.Close())
	_, err = e.DialContext(t.Context(), "tcp", address)
	require.ErrorIs(t, err, net.ErrClosed)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = e.DialContext(over, "tcp", address)
	require.Error(t, err)
}

func TestMemoryDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := inMemory(t)
		p := joinInMemory(t, e, "udp", "room", "1")
		buf := make([]byte, 100)
		begin := time.Now()

		require.NoError(t, p.conn.SetDeadline(begin.Add(time.Second)))
		_, err := p.conn.Read(buf)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Second, time.Since(begin))
		_, err = p.conn.Read(buf)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "until another deadline is set")

		require.NoError(t, p.conn.SetReadDeadline(begin)) // in the past
		_, err = p.conn.Read(buf)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)

		require.NoError(t, p.conn.SetReadDeadline(begin.Add(3*time.Second)))
		require.NoError(t, p.conn.SetReadDeadline(time.Time{}))
		go func() {
			time.Sleep(10 * time.Second)
			e.Send("room", "news")
		}()
		n, err := p.conn.Read(buf[:10]) // the rest is lost
		require.NoError(t, err)
		require.Equal(t, 10, n)
		e.Send("room", "more")
		p.expect("more")

		_, err = p.conn.Write(make([]byte, edge.MaxDatagram+1))
		require.ErrorContains(t, err, "too long")
		require.NoError(t, p.conn.SetWriteDeadline(begin)) // writes don't wait

		go func() {
			time.Sleep(time.Second)
			_ = p.conn.Close()
		}()
		_, err = p.conn.Read(buf)
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = p.conn.Write(buf)
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorIs(t, p.conn.SetReadDeadline(begin), net.ErrClosed)
		require.Equal(t, "client.test", p.conn.LocalAddr().String())
		require.Equal(t, p.address, p.conn.RemoteAddr().String())
		require.Equal(t, "memory", p.conn.LocalAddr().Network())
	})
}

// A client that does not read loses datagrams, and keeps its connection.
func TestMemoryDatagramsOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := inMemory(t)
		p := joinInMemory(t, e, "udp", "room", "1")
		for range 300 {
			e.Send("room", "news")
		}
		synctest.Wait()
		require.EqualValues(t, 300-256, e.Stats().Lost)
		for range 256 {
			p.expect("news")
		}
		p.quiet()
	})
}
