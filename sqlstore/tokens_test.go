package sqlstore_test

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// tokenCalls returns one call of each method of a token store.
func tokenCalls(tokens *sqlstore.Tokens, u sqlstore.UserTokens) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"load":   func(ctx context.Context) error { _, err := u.LoadToken(ctx); return err },
		"save":   func(ctx context.Context) error { return u.SaveToken(ctx, &oauth2.Token{AccessToken: "hush"}) },
		"delete": u.DeleteToken,
		"lock":   func(ctx context.Context) error { _, err := u.LockToken(ctx, time.Minute); return err },
		"create": tokens.CreateTable,
	}
}

func TestUserTokens_equal(t *testing.T) {
	tokens, _, _ := scriptedTokens(t, sqlstore.SQLite, nothing)
	other, _, _ := scriptedTokens(t, sqlstore.SQLite, nothing)
	var one, same oauth2login.TokenStore = tokens.User("a"), tokens.User("a")
	assert.True(t, one == same)
	assert.False(t, one == oauth2login.TokenStore(tokens.User("b")))
	assert.False(t, one == oauth2login.TokenStore(other.User("a")))
}

func TestUserTokens_refused(t *testing.T) {
	tokens, seen, _ := scriptedTokens(t, sqlstore.SQLite, nothing)
	for want, u := range map[string]sqlstore.UserTokens{
		"the user key is empty":                   tokens.User(""),
		"the user key is longer than 255 bytes":   tokens.User(strings.Repeat("k", sqlstore.MaxKey+1)),
		"a zero UserTokens is no store: call":     {},
		"tokens: the user key is longer than 255": tokens.User(strings.Repeat("hush", 100)),
	} {
		for name, call := range tokenCalls(tokens, u) {
			if name != "create" {
				err := call(t.Context())
				assert.ErrorContains(t, err, want, name)
				assert.NotContains(t, err.Error(), "hush")
			}
		}
	}
	assert.EqualError(t, tokens.User("a").SaveToken(t.Context(), nil), "sqlstore: tokens: save: there is no token to save")
	for _, hold := range []time.Duration{0, -time.Second, time.Millisecond - 1, 24*time.Hour + 1} {
		_, err := tokens.User("a").LockToken(t.Context(), hold)
		assert.ErrorContains(t, err, "a lock cannot be held for "+hold.String())
	}
	year := &oauth2.Token{AccessToken: "hush", Expiry: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}
	err := tokens.User("a").SaveToken(t.Context(), year)
	assert.ErrorContains(t, err, "year")
	assert.NotContains(t, err.Error(), "hush")
	assert.Empty(t, seen.said())
}

func TestTokensLoad_notAToken(t *testing.T) {
	for _, data := range []string{"", "[]", "x", `{"access_token":{"hush":1}}`, `{"access_token":"hush`} {
		tokens, _, _ := scriptedTokens(t, sqlstore.MySQL, func(context.Context, string) ([]driver.Value, error) {
			return []driver.Value{[]byte(data)}, nil
		})
		tok, err := tokens.User("a").LoadToken(t.Context())
		assert.EqualError(t, err, "sqlstore: tokens: load: the stored data is not a token", data)
		assert.NotContains(t, err.Error(), "hush")
		assert.Nil(t, tok)
	}
}

func TestTokensFormat(t *testing.T) {
	tokens, _, _ := scriptedTokens(t, sqlstore.MySQL, nothing)
	user := tokens.User("somebody")
	for _, v := range []any{tokens, user, &user, (*sqlstore.Tokens)(nil), new(sqlstore.Tokens), sqlstore.UserTokens{}, struct{ S, U any }{tokens, user}} {
		asJSON, err := json.Marshal(v)
		require.NoError(t, err)
		text := fmt.Sprintf("%v %+v %#v %s %q %d %x %s", v, v, v, v, v, v, v, asJSON)
		for _, secret := range []string{"736f6d65", "115 111", "0x73", "c29tZ", "somebody"} {
			assert.NotContains(t, text, secret)
		}
	}
	assert.Equal(t, "sqlstore.Tokens{MySQL oauth2login_tokens}", fmt.Sprint(tokens))
	assert.Equal(t, "sqlstore.UserTokens{}", fmt.Sprint(sqlstore.UserTokens{}))
	assert.Equal(t, "sqlstore.UserTokens{MySQL oauth2login_tokens}", fmt.Sprint(user))
}

// TestTokens_deafDriver uses a driver that ignores contexts.
func TestTokens_deafDriver(t *testing.T) {
	for _, d := range allDialects {
		synctest.Test(t, func(t *testing.T) {
			tokens, _, db := scriptedTokens(t, d, func(ctx context.Context, q string) ([]driver.Value, error) {
				time.Sleep(time.Minute)
				return unlocked(ctx, q)
			})
			for name, call := range tokenCalls(tokens, tokens.User("a")) {
				start := time.Now()
				assert.ErrorIs(t, call(t.Context()), context.DeadlineExceeded, name)
				assert.Equal(t, 10*time.Second, time.Since(start), name)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				start = time.Now()
				assert.ErrorIs(t, call(ctx), context.DeadlineExceeded, name)
				assert.Equal(t, time.Second, time.Since(start), name)
				cancel()
			}
			time.Sleep(time.Hour)
			assert.Zero(t, db.Stats().InUse, "late connections are given back")
		})
	}
}
