package tests

import (
	"fmt"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
)

// TestTokens has two pools on one row, as two processes have, and one pool for both
// stores, so that they share its only connection.
func TestTokens(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		for _, conns := range []int{1, 10} {
			t.Run(fmt.Sprintf("two pools of %d", conns), func(t *testing.T) {
				testTokens(t, func(t *testing.T) (a, b oauth2login.TokenStore) {
					dsn := d.dsn(t)
					db := open(t, d, dsn, conns)
					table := newTable(t, db)
					other := open(t, d, dsn, conns)
					return sameTokens(t, d, db, table).User("a"), sameTokens(t, d, other, table).User("a")
				})
			})
			t.Run(fmt.Sprintf("one pool of %d", conns), func(t *testing.T) {
				testTokens(t, func(t *testing.T) (a, b oauth2login.TokenStore) {
					s, db, table := newTokens(t, d, conns)
					return s.User("a"), sameTokens(t, d, db, table).User("a")
				})
			})
			t.Run(fmt.Sprintf("one store with a pool of %d", conns), func(t *testing.T) {
				testTokens(t, func(t *testing.T) (a, b oauth2login.TokenStore) {
					s, _, _ := newTokens(t, d, conns)
					return s.User("a"), s.User("a")
				})
			})
		}
	})
}

func testTokens(t *testing.T, open func(t *testing.T) (a, b oauth2login.TokenStore)) {
	tokenstoretest.Run(t, tokenstoretest.Backend{Open: open, Extra: true, HoldEnds: true})
}
