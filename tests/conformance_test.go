package tests

import (
	"fmt"
	"testing"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
)

// TestConformance has two pools on one row, as two processes have; and one pool for
// both, so that all share its only connection.
func TestConformance(t *testing.T) {
	onEach(t, databases, func(t *testing.T, d database) {
		for _, conns := range []int{1, 10} {
			keys := [][]byte{key(0), key(1)}[:conns*2/10] // with 1 connection no keys, with 10 two
			t.Run(fmt.Sprintf("two pools of %d, %d keys", conns, len(keys)), func(t *testing.T) {
				tokenstoretest.Run(t, func(t *testing.T) (a, b shangcloud.TokenStore) {
					dsn := d.dsn(t)
					db := open(t, d, dsn, conns)
					table := newTable(t, db)
					other := open(t, d, dsn, conns)
					return sameTable(t, d, db, table, keys...).User("a"), sameTable(t, d, other, table, keys...).User("a")
				})
			})
			t.Run(fmt.Sprintf("one pool of %d, %d keys", conns, len(keys)), func(t *testing.T) {
				tokenstoretest.Run(t, func(t *testing.T) (a, b shangcloud.TokenStore) {
					s, db, table := newSQL(t, d, conns, keys...)
					return s.User("a"), sameTable(t, d, db, table, keys...).User("a")
				})
			})
			t.Run(fmt.Sprintf("one store with a pool of %d, %d keys", conns, len(keys)), func(t *testing.T) {
				tokenstoretest.Run(t, func(t *testing.T) (a, b shangcloud.TokenStore) {
					s, _, _ := newSQL(t, d, conns, keys...)
					return s.User("a"), s.User("a")
				})
			})
		}
	})
}
