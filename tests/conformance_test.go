package tests

import (
	"fmt"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
)

// TestTokens runs the suite in three forms: with two stores that have one pool each, as in
// two processes; with two stores that share one pool; and with one store. In the first
// form, each pool has 10 connections. In the other two forms, the pool has 1 connection.
// The long run also tries 1 connection in the first form and 10 connections in the other
// two.
func TestTokens(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		for _, c := range []struct {
			form  string
			conns int
			long  bool
		}{
			{"two pools", 10, false}, {"one pool", 1, false}, {"one store", 1, false},
			{"two pools", 1, true}, {"one pool", 10, true}, {"one store", 10, true},
		} {
			if c.long && !long {
				continue
			}
			t.Run(fmt.Sprintf("%s, connections: %d", c.form, c.conns), func(t *testing.T) {
				t.Parallel()
				testTokens(t, func(t *testing.T) (a, b oauth2login.TokenStore) {
					dsn := d.dsn(t)
					db := open(t, d, dsn, c.conns)
					table := newTable(t, db)
					one := sameTokens(t, d, db, table)
					switch c.form {
					case "two pools":
						return one.User("a"), sameTokens(t, d, open(t, d, dsn, c.conns), table).User("a")
					case "one pool":
						return one.User("a"), sameTokens(t, d, db, table).User("a")
					}
					return one.User("a"), one.User("a")
				})
			})
		}
	})
}

func testTokens(t *testing.T, open func(t *testing.T) (a, b oauth2login.TokenStore)) {
	tokenstoretest.Run(t, tokenstoretest.Backend{Open: open, Extra: true, HoldEnds: true})
}
