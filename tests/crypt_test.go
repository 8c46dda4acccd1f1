package tests

import (
	"bytes"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEncryption(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		s, db, table := newTokens(t, d, 10, key(0))
		ctx := t.Context()
		require.NoError(t, s.User("a").SaveToken(ctx, token("a")))
		first := raw(t, db, table)
		for _, secret := range []string{"access", "refresh", "Bearer", "2031", "{", string(key(0))[:8]} {
			if secret != "{" {
				assert.False(t, bytes.Contains(first, []byte(secret)), secret)
			}
		}
		assert.NotEqual(t, byte('{'), first[0])
		require.NoError(t, s.User("a").SaveToken(ctx, token("a")))
		assert.NotEqual(t, first, raw(t, db, table), "a nonce is used once")
		load := func(keys ...[]byte) error {
			tok, err := sameTokens(t, d, db, table, keys...).User("a").LoadToken(ctx)
			if err == nil {
				assert.Equal(t, token("a").AccessToken, tok.AccessToken)
			} else {
				assert.Nil(t, tok)
			}
			return err
		}
		assert.ErrorContains(t, load(), "no Keys")
		assert.ErrorContains(t, load(key(1)), "not one of Keys")

		// Rotation: the new key is read everywhere, then writes, then is alone.
		assert.NoError(t, load(key(0), key(1)))
		rotated := sameTokens(t, d, db, table, key(1), key(0))
		tok, err := rotated.User("a").LoadToken(ctx)
		require.NoError(t, err)
		require.NoError(t, rotated.User("a").SaveToken(ctx, tok))
		assert.NoError(t, load(key(0), key(1)))
		assert.NoError(t, load(key(1)))
		assert.ErrorContains(t, load(key(0)), "not one of Keys")

		// A row that was copied to another user, or changed.
		good := raw(t, db, table)
		_, err = db.Exec("UPDATE " + table + " SET user_key = " + literal(d, "b"))
		require.NoError(t, err)
		_, err = rotated.User("b").LoadToken(ctx)
		assert.ErrorContains(t, err, "altered, or copied")
		_, err = db.Exec("UPDATE " + table + " SET user_key = " + literal(d, "a"))
		require.NoError(t, err)
		require.NoError(t, load(key(1)))
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			set(t, d, db, table, bad)
			assert.Error(t, load(key(1)), "byte %d", i)
		}
		for n := range good {
			if n%7 == 0 || n < 12 {
				set(t, d, db, table, good[:n])
				assert.Error(t, load(key(1)), "%d bytes", n)
			}
		}
		set(t, d, db, table, good)
		require.NoError(t, load(key(1)))

		// A row from before there were keys.
		set(t, d, db, table, []byte(`{"access_token":"access-a"}`))
		assert.NoError(t, load())
		assert.ErrorContains(t, load(key(1)), "ReadPlaintext")
		lenient, err := sqlstore.NewTokens(db, d.dialect, sqlstore.Config{Table: table, Keys: [][]byte{key(1)}, ReadPlaintext: true})
		require.NoError(t, err)
		tok, err = lenient.User("a").LoadToken(ctx)
		require.NoError(t, err)
		require.NoError(t, lenient.User("a").SaveToken(ctx, tok))
		assert.NoError(t, load(key(1)))

		for _, bad := range []string{"[]", "x", `{"access_token":7,"refresh_token":"hush"}`, `{"access_token":"hush`} {
			set(t, d, db, table, []byte(bad))
			err := load()
			assert.ErrorContains(t, err, "not a token", bad)
			assert.NotContains(t, err.Error(), "hush")
		}
	})
}

func literal(d database, s string) string {
	if d.dialect == sqlstore.PostgreSQL {
		return "convert_to('" + s + "', 'UTF8')"
	}
	return "CAST('" + s + "' AS " + map[sqlstore.Dialect]string{tokenstore.MySQL: "BINARY", sqlstore.SQLite: "BLOB"}[d.dialect] + ")"
}
