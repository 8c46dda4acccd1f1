package tests

import (
	"bytes"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newKeys returns keys for encryption, each made of one repeated byte.
func newKeys(t testing.TB, bytes ...byte) *tokenstore.Keys {
	t.Helper()
	var keys [][]byte
	for _, b := range bytes {
		keys = append(keys, key(b))
	}
	k, err := tokenstore.NewKeys(keys...)
	require.NoError(t, err)
	return k
}

func TestEncryptedTokens(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		testTokens(t, func(t *testing.T) (a, b oauth2login.TokenStore) {
			s, db, table := newTokens(t, d, 10)
			other := sameTokens(t, d, db, table)
			return tokenstore.Encrypted(s.User("a"), newKeys(t, 1, 2), "p", "a"), tokenstore.Encrypted(other.User("a"), newKeys(t, 2, 1), "p", "a")
		})
	})
}

// TestEncryptedTokens_row checks what the row in the database contains.
func TestEncryptedTokens_row(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		s, db, table := newTokens(t, d, 10)
		ctx := patient(t)
		load := func(user string, keys *tokenstore.Keys) error {
			tok, err := tokenstore.Encrypted(s.User(user), keys, "p", user).LoadToken(ctx)
			if err == nil {
				assert.Equal(t, token("a").AccessToken, tok.AccessToken)
			} else {
				assert.Nil(t, tok)
			}
			return err
		}
		save := func(keys *tokenstore.Keys) {
			require.NoError(t, tokenstore.Encrypted(s.User("a"), keys, "p", "a").SaveToken(ctx, token("a")))
		}
		save(newKeys(t, 0))
		first := raw(t, db, table)
		for _, secret := range []string{"access-a", "refresh-a", "Bearer", "2031", string(key(0))[:8]} {
			assert.False(t, bytes.Contains(first, []byte(secret)), secret)
		}
		save(newKeys(t, 0))
		assert.NotEqual(t, first, raw(t, db, table), "a nonce is used once")

		// This is a key rotation. First, the new key only decrypts. Then it encrypts. Then
		// the old key is removed.
		assert.ErrorContains(t, load("a", newKeys(t, 1)), "not one of Keys")
		assert.NoError(t, load("a", newKeys(t, 0, 1)))
		save(newKeys(t, 1, 0))
		assert.NoError(t, load("a", newKeys(t, 1)))
		assert.ErrorContains(t, load("a", newKeys(t, 0)), "not one of Keys")

		// A token that was copied from another user's row must be refused.
		_, err := db.Exec("UPDATE " + table + " SET user_key = " + literal(d, "b"))
		require.NoError(t, err)
		assert.ErrorContains(t, load("b", newKeys(t, 1)), "not this user's")
		_, err = db.Exec("UPDATE " + table + " SET user_key = " + literal(d, "a"))
		require.NoError(t, err)
		require.NoError(t, load("a", newKeys(t, 1)))

		// A token that is not encrypted is refused without ReadingPlaintext.
		require.NoError(t, s.User("a").SaveToken(ctx, token("a")))
		assert.ErrorContains(t, load("a", newKeys(t, 1)), "not encrypted")
		assert.NoError(t, load("a", newKeys(t, 1).ReadingPlaintext()))

		for _, bad := range []string{"[]", "x", `{"access_token":7,"refresh_token":"hush"}`, `{"access_token":"hush`} {
			set(t, d, db, table, []byte(bad))
			err := load("a", newKeys(t, 1))
			assert.ErrorContains(t, err, "not a token", bad)
			assert.NotContains(t, err.Error(), "hush")
		}
	})
}

func literal(d database, s string) string {
	switch d.dialect {
	case sqlstore.PostgreSQL:
		return "convert_to('" + s + "', 'UTF8')"
	case sqlstore.SQLite:
		return "CAST('" + s + "' AS BLOB)"
	}
	return "CAST('" + s + "' AS BINARY)"
}
