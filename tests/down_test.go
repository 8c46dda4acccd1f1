package tests

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTokensDown tries every call on a server that does not exist, and on one that
// accepts connections but does not answer.
func TestTokensDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	onEach(t, []database{postgreSQL, mariaDB}, func(t *testing.T, d database) {
		dsn := func(addr string) string {
			if d.driver == "mysql" {
				return "root:hush@tcp(" + addr + ")/x"
			}
			return "postgres://root:hush@" + addr + "/x?sslmode=disable"
		}
		t.Run("not there", func(t *testing.T) {
			s := openTokens(t, d, open(t, d, dsn(closed.Addr().String()), 2), "x")
			eachCall(t, s, func(t *testing.T, call func(context.Context) error) {
				err := call(patient(t))
				assert.ErrorContains(t, err, "refused")
				assert.NotContains(t, err.Error(), "hush")
			})
		})
		t.Run("silent", func(t *testing.T) {
			// The pool is so large that no call waits for a connection. If a call waits,
			// database/sql dials without a deadline.
			s := openTokens(t, d, open(t, d, dsn(l.Addr().String()), 20), "x")
			eachCall(t, s, func(t *testing.T, call func(context.Context) error) {
				ends(t, func() {
					err := call(timeout(t, 200*time.Millisecond))
					assert.ErrorIs(t, err, context.DeadlineExceeded)
					assert.ErrorContains(t, err, "timed out")
				})
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel)
				ends(t, func() {
					err := call(ctx)
					assert.ErrorIs(t, err, context.Canceled)
					assert.ErrorContains(t, err, "given up")
				})
			})
		})
		t.Run("silent, without a deadline", func(t *testing.T) {
			t.Parallel()
			s := openTokens(t, d, open(t, d, dsn(l.Addr().String()), 2), "x")
			ends(t, func() {
				_, err := s.User("a").LoadToken(context.Background())
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			})
		})
		t.Run("closed", func(t *testing.T) {
			db := open(t, d, dsn(l.Addr().String()), 2)
			require.NoError(t, db.Close())
			s := openTokens(t, d, db, "x")
			eachCall(t, s, func(t *testing.T, call func(context.Context) error) { assert.Error(t, call(patient(t))) })
		})
	})
}

func eachCall(t *testing.T, s *sqlstore.Tokens, check func(t *testing.T, call func(context.Context) error)) {
	for name, call := range map[string]func(context.Context) error{
		"load":   func(ctx context.Context) error { _, err := s.User("a").LoadToken(ctx); return err },
		"save":   func(ctx context.Context) error { return s.User("a").SaveToken(ctx, token("a")) },
		"lock":   func(ctx context.Context) error { _, err := s.User("a").LockToken(ctx, hold); return err },
		"delete": s.User("a").DeleteToken,
		"create": s.CreateTable,
	} {
		t.Run(name, func(t *testing.T) { check(t, call) })
	}
}

func TestTokensDown_noConnectionLeft(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		s, db, _ := newTokens(t, d, 1)
		taken, err := db.Conn(t.Context())
		require.NoError(t, err)
		eachCall(t, s, func(t *testing.T, call func(context.Context) error) {
			ends(t, func() { assert.ErrorIs(t, call(timeout(t, 100*time.Millisecond)), context.DeadlineExceeded) })
		})
		require.NoError(t, taken.Close())
		require.NoError(t, s.User("a").SaveToken(patient(t), token("a")))
	})
}

// TestTokensLock_silentServer: while the lock is held, the network begins to drop
// everything.
func TestTokensLock_silentServer(t *testing.T) {
	onEach(t, []database{postgreSQL, mariaDB}, func(t *testing.T, d database) {
		dsn := d.dsn(t)
		direct := open(t, d, dsn, 4)
		table := newTable(t, direct)
		sameTokens(t, d, direct, table)
		p := newProxy(t, d, dsn)
		db := open(t, d, p.dsn, 2)
		s := openTokens(t, d, db, table)
		unlock, err := s.User("a").LockToken(patient(t), hold)
		require.NoError(t, err)
		p.swallow()
		// Only the lock's connection is silent. So SaveToken uses another connection.
		require.NoError(t, s.User("a").SaveToken(patient(t), token("new")))
		ends(t, unlock)
		other := openTokens(t, d, direct, table)
		tok, err := other.User("a").LoadToken(patient(t))
		require.NoError(t, err)
		assert.Equal(t, token("new").AccessToken, tok.AccessToken)

		// This time, unlock is the first call that fails.
		unlock, err = s.User("b").LockToken(patient(t), hold)
		require.NoError(t, err)
		p.swallow()
		ends(t, unlock)
		p.drop()
		unlock, err = other.User("b").LockToken(patient(t), hold)
		require.NoError(t, err)
		unlock()
	})
}
