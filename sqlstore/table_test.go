package sqlstore_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newStates(db *sql.DB, d sqlstore.Dialect, c sqlstore.Config) error {
	_, err := sqlstore.NewStates(db, d, c)
	return err
}

func newTokens(db *sql.DB, d sqlstore.Dialect, c sqlstore.Config) error {
	_, err := sqlstore.NewTokens(db, d, c)
	return err
}

func TestNew(t *testing.T) {
	_, db := newScript(t, nothing)
	for kind, create := range map[string]func(*sql.DB, sqlstore.Dialect, sqlstore.Config) error{"states": newStates, "tokens": newTokens} {
		t.Run(kind, func(t *testing.T) {
			for _, table := range []string{"", "t", "_", "order", "a.b", "_1._2", strings.Repeat("a", 58), strings.Repeat("a", 58) + "." + strings.Repeat("b", 58)} {
				assert.NoError(t, create(db, sqlstore.MySQL, sqlstore.Config{Table: table}), table)
			}
			for _, table := range []string{
				" ", "T", "a b", "a;b", "a'b", `a"b`, "a`b", "a--", "a/*", "a\x00", "a\n", "a\nb", "\na", "1a", "a-b", "a$", "a.", ".a", "a.b.c", "a..b", "ä", "ａ",
				"tokens; DROP TABLE users", `t" (user_key) VALUES ('`, "t WHERE 1=1", strings.Repeat("a", 59), "a." + strings.Repeat("b", 59), strings.Repeat("a", 59) + ".b",
			} {
				assert.ErrorContains(t, create(db, sqlstore.PostgreSQL, sqlstore.Config{Table: table}), "sqlstore: "+kind+": Config.Table: ", "%q", table)
			}
			for _, d := range []sqlstore.Dialect{0, -1, 5} {
				assert.ErrorContains(t, create(db, d, sqlstore.Config{}), "dialect")
			}
			assert.EqualError(t, create(nil, sqlstore.SQLite, sqlstore.Config{}), "sqlstore: "+kind+": the database is nil")
		})
	}
}

func TestDialectString(t *testing.T) {
	for d, want := range map[sqlstore.Dialect]string{
		sqlstore.PostgreSQL: "PostgreSQL", sqlstore.MySQL: "MySQL", sqlstore.SQLite: "SQLite", sqlstore.MariaDB: "MariaDB", 0: "Dialect(0)",
	} {
		assert.Equal(t, want, d.String())
	}
}

func TestSchema(t *testing.T) {
	for _, d := range allDialects {
		t.Run(d.String(), func(t *testing.T) {
			states, seen := scriptedStates(t, d, nothing)
			require.NoError(t, states.CreateTable(t.Context()))
			assert.Len(t, seen.said(), strings.Count(states.Schema(), ";\n"))
			assert.Contains(t, states.Schema(), "oauth2login_states")
			assert.Contains(t, states.Schema(), "oauth2login_states_exp")

			tokens, seen, _ := scriptedTokens(t, d, nothing)
			require.NoError(t, tokens.CreateTable(t.Context()))
			assert.Len(t, seen.said(), strings.Count(tokens.Schema(), ";\n"))
			assert.Contains(t, tokens.Schema(), "oauth2login_tokens")
			assert.Equal(t, d == sqlstore.SQLite, strings.Contains(tokens.Schema(), "oauth2login_tokens_lock"))

			states, _ = scriptedStates(t, d, fails(errors.New("read only")))
			assert.ErrorContains(t, states.CreateTable(t.Context()), "sqlstore: states: create table: ")
		})
	}
}
