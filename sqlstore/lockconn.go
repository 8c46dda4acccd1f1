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
		discard(conn) // it may have got the lock at the last moment
		return nil, err
	case !locked:
		return nil, conn.Close()
	}
	return h, nil
}

// tryPostgres takes an advisory lock of the session. Such a lock stays when a save
// commits. The session keeps a transaction open for two reasons: a pooler cannot give the
// session to another client, and the server ends the session if the client is silent for
// hold. At READ COMMITTED, each statement sees all earlier commits. A stricter level would
// keep showing the state from before the lock.
//
// Without arguments, drivers can send several statements in one call. RowsAffected is then
// that of the last statement: 1 if the lock was free.
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

// tryMySQL takes a lock by name. The server ends the session, and so the lock, when it
// hears nothing for hold.
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

// mySQLLock is an expression for the name of a user's lock. The name has 56 characters;
// 64 are allowed. All databases of a server share these names, so the name of the
// database is a part of it.
func (s *Tokens) mySQLLock(key string) string {
	database := `LOWER(COALESCE(DATABASE(), ''))`
	if s.table.name.schema != "" {
		database = `'` + s.table.name.schema + `'`
	}
	return fmt.Sprintf(`SHA2(CONCAT('oauth2login.', %s, '.%s'), 224)`, database, hex.EncodeToString(s.lockHash(key)))
}

// lockHash identifies a user's lock. PostgreSQL uses 64 bits of it: two users whose
// hashes begin alike would wait for each other, which is harmless.
func (s *Tokens) lockHash(key string) []byte {
	h := sha256.Sum256([]byte(s.table.name.name + "\x00" + key))
	return h[:]
}
