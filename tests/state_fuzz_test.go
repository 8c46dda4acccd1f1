package tests

import (
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/redisstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzStateKeys stores a value under each of two different keys, in each kind of store.
// Neither value may overwrite the other, unless the store refuses a key.
func FuzzStateKeys(f *testing.F) {
	f.Add("a", "A")
	f.Add("", "\x00")
	f.Add("k", "k ")
	f.Add("{a}", "{a}b")
	f.Add("á", "a\u0301")
	f.Add("'; DROP TABLE states; --", "\r\nFLUSHALL\r\n")
	stores := map[string]state.Store{"Redis": redisstore.NewStates(connectRedis(f, "", ""), redisstore.WithPrefix(newRedisPrefix()))}
	for _, d := range stateDatabases {
		if d.name != pgBouncer.name {
			stores[d.name], _, _ = newStates(f, d, d.dsn(f), 2)
		}
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		if one == two {
			return
		}
		for name, s := range stores {
			var put []string
			for _, key := range []string{one, two} {
				if err := s.Put(patient(t), key, []byte(key), time.Minute); err == nil {
					put = append(put, key)
				} else {
					require.True(t, key == "" || len(key) > sqlstore.MaxKey, "%s refuses %q: %v", name, key, err)
				}
			}
			for _, key := range put {
				value, found, err := s.Take(patient(t), key)
				require.NoError(t, err, name)
				assert.True(t, found, "%s %q", name, key)
				assert.Equal(t, key, string(value), name)
				_, found, err = s.Take(patient(t), key)
				require.NoError(t, err, name)
				assert.False(t, found, "%s %q", name, key)
			}
		}
	})
}
