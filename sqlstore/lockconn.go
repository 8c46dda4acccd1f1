package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

const errGetLock harmless = "GET_LOCK failed"

// tryConn tries to lock key in PostgreSQL, MySQL or MariaDB, on a connection of the
// pool. It returns nil if another process holds the lock.
func (s *Tokens) tryConn(ctx context.Context, key string, hold time.Duration) (*held, error) {
	slot := s.lockConns()
	if slot != nil {
		if err := enter(ctx, slot); err != nil {
			return nil, err
		}
	}
	h, err := s.tryOn(ctx, key, hold)
	if h != nil {
		h.slot = slot
	} else if slot != nil {
		leave(slot)
	}
	return h, err
}

func (s *Tokens) tryOn(ctx context.Context, key string, hold time.Duration) (*held, error) {
	conn, err := s.table.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	h := &held{conn: conn, busy: make(chan none, 1)}
	try := s.tryMySQL
	if s.table.dialect == PostgreSQL {
		try = s.tryPostgres
	}
	locked, err := try(ctx, h, key, hold)
	switch {
	case err != nil:
		discard(conn) // the session may have got the lock in spite of the error
		return nil, err
	case !locked:
		return nil, conn.Close()
	}
	return h, nil
}

// tryPostgres takes an advisory lock at session level. Such a lock remains when a save
// commits. The session keeps a transaction open for two reasons. A pooler can't give the
// session to another client during a transaction. And the server ends the session if the
// client sends nothing for hold. At READ COMMITTED, each statement sees all earlier
// commits. At a stricter level, the holder would only see the data from before the lock.
//
// The statements have no arguments, so drivers can send them in one call. RowsAffected
// then belongs to the last statement. It is 1 if the lock was free.
func (s *Tokens) tryPostgres(ctx context.Context, h *held, key string, hold time.Duration) (bool, error) {
	lock := s.postgresLock(key)
	timeout := fmt.Sprintf(`SET LOCAL idle_in_transaction_session_timeout = %d`, units(hold, time.Millisecond))
	res, err := h.conn.ExecContext(ctx, `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; `+timeout+
		`; SELECT 1 WHERE pg_try_advisory_lock(`+lock+`)`)
	if err != nil {
		return false, err
	}
	locked, err := res.RowsAffected()
	if err != nil {
		return false, err
	}
	if locked == 0 {
		_, err = h.conn.ExecContext(ctx, `ROLLBACK`)
		return false, err
	}
	h.commit = `COMMIT AND CHAIN; ` + timeout
	h.free = func(ctx context.Context) error {
		_, err := h.conn.ExecContext(ctx, `SELECT pg_advisory_unlock(`+lock+`); COMMIT`)
		return err
	}
	return true, nil
}

// postgresLock returns an SQL expression for the key of a user's advisory lock. The OID of
// the table is part of the key, so tables of the same name in different schemas have
// different locks.
func (s *Tokens) postgresLock(key string) string {
	return fmt.Sprintf(`'%d'::bigint # '%s'::regclass::oid::bigint`,
		int64(binary.BigEndian.Uint64(s.lockHash(key))), s.table.name.quoted(PostgreSQL, ""))
}

// tryMySQL takes a lock by name. If the client sends nothing for hold, the server ends the
// session and with it the lock.
func (s *Tokens) tryMySQL(ctx context.Context, h *held, key string, hold time.Duration) (bool, error) {
	lock := s.mySQLLock(key)
	var locked sql.NullInt64
	if err := h.conn.QueryRowContext(ctx, `SELECT GET_LOCK(`+lock+`, 0)`).Scan(&locked); err != nil {
		return false, err
	}
	if !locked.Valid {
		return false, errGetLock
	}
	if locked.Int64 == 0 {
		return false, nil
	}
	_, err := h.conn.ExecContext(ctx, fmt.Sprintf(
		`SET @oauth2login_wait_timeout = @@SESSION.wait_timeout, SESSION wait_timeout = %d`, units(hold, time.Second)))
	h.free = func(ctx context.Context) error {
		var freed sql.NullInt64
		if err := h.conn.QueryRowContext(ctx, `SELECT RELEASE_LOCK(`+lock+`)`).Scan(&freed); err != nil {
			return err
		}
		if freed.Int64 != 1 {
			return errLost
		}
		_, err := h.conn.ExecContext(ctx, `SET SESSION wait_timeout = @oauth2login_wait_timeout`)
		return err
	}
	return err == nil, err
}

// mySQLLock returns an SQL expression for the name of a user's lock. The name has 56
// characters; MySQL allows 64. All databases of a server share the names of locks, so the
// name depends on the name of the database, too.
func (s *Tokens) mySQLLock(key string) string {
	database := `LOWER(COALESCE(DATABASE(), ''))`
	if s.table.name.schema != "" {
		database = `'` + s.table.name.schema + `'`
	}
	return fmt.Sprintf(`SHA2(CONCAT('oauth2login.', %s, '.%s'), 224)`, database, hex.EncodeToString(s.lockHash(key)))
}

// lockHash identifies a user's lock. PostgreSQL uses only the first 64 bits. If two users
// have the same 64 bits, they wait for each other, which is harmless.
func (s *Tokens) lockHash(key string) []byte {
	h := sha256.Sum256([]byte(s.table.name.name + "\x00" + key))
	return h[:]
}
