package tests

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/redisstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tests/internal/servers"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// TestRedisTokens runs the suite in two forms: with two clients, as in two processes, and
// with one store.
func TestRedisTokens(t *testing.T) {
	t.Parallel()
	for _, kind := range redisKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			t.Run("two clients", func(t *testing.T) {
				t.Parallel()
				tokenstoretest.Run(t, tokenstoretest.Backend{
					Open: func(t *testing.T) (a, b oauth2login.TokenStore) {
						prefix := redisstore.WithPrefix(newRedisPrefix())
						return redisstore.NewTokens(kind.connect(t), prefix).User("a"), redisstore.NewTokens(kind.connect(t), prefix).User("a")
					},
					Extra: true, HoldEnds: true,
				})
			})
			t.Run("one store", func(t *testing.T) {
				t.Parallel()
				tokenstoretest.Run(t, tokenstoretest.Backend{
					Open: func(t *testing.T) (a, b oauth2login.TokenStore) {
						s := redisstore.NewTokens(kind.connect(t), redisstore.WithPrefix(newRedisPrefix()))
						return s.User("a"), s.User("a")
					},
					Extra: true, HoldEnds: true,
				})
			})
		})
	}
}

func TestRedisTokens_encrypted(t *testing.T) {
	t.Parallel()
	keys, err := tokenstore.NewKeys(make32(1))
	require.NoError(t, err)
	tokenstoretest.Run(t, tokenstoretest.Backend{
		Open: func(t *testing.T) (a, b oauth2login.TokenStore) {
			s := redisstore.NewTokens(connectRedis(t, "", ""), redisstore.WithPrefix(newRedisPrefix()))
			return tokenstore.Encrypted(s.User("a"), keys, "p", "a"), tokenstore.Encrypted(s.User("a"), keys, "p", "a")
		},
		Extra: true, HoldEnds: true,
	})
}

func make32(b byte) []byte {
	key := make([]byte, 32)
	key[0] = b
	return key
}

// TestRedisTokens_users checks that the store does not confuse users with similar keys,
// not even in a Cluster.
func TestRedisTokens_users(t *testing.T) {
	for _, kind := range redisKinds {
		t.Run(kind.name, func(t *testing.T) {
			s := redisstore.NewTokens(kind.connect(t), redisstore.WithPrefix(newRedisPrefix()))
			users := []string{"a", "A", "a ", "}", "}a", "{", "{}", "{}a", "a}:lock", "a\x00", "*", "小明", "\xff"}
			for _, user := range users {
				unlock, err := s.User(user).LockToken(patient(t), time.Minute)
				require.NoError(t, err, "%q", user)
				require.NoError(t, s.User(user).SaveToken(patient(t), &oauth2.Token{AccessToken: "of " + fmt.Sprintf("%x", user)}), "%q", user)
				t.Cleanup(unlock)
			}
			for _, user := range users {
				tok, err := s.User(user).LoadToken(patient(t))
				require.NoError(t, err, "%q", user)
				assert.Equal(t, "of "+fmt.Sprintf("%x", user), tok.AccessToken)
			}
		})
	}
}

// TestRedisTokens_late_save: a holder saves after its lock has expired.
func TestRedisTokens_late_save(t *testing.T) {
	old, mine, others := &oauth2.Token{AccessToken: "old"}, &oauth2.Token{AccessToken: "mine"}, &oauth2.Token{AccessToken: "others"}
	for name, c := range map[string]struct {
		load      bool // the late holder has loaded the token before
		meanwhile func(t *testing.T, other oauth2login.TokenStore)
		saved     bool
	}{
		"nobody else":          {true, func(*testing.T, oauth2login.TokenStore) {}, true},
		"nobody else, no load": {false, func(*testing.T, oauth2login.TokenStore) {}, false},
		"another token is there": {true, func(t *testing.T, other oauth2login.TokenStore) {
			require.NoError(t, other.SaveToken(patient(t), others))
		}, false},
		"another holder is there": {true, func(t *testing.T, other oauth2login.TokenStore) {
			unlock, err := other.(oauth2login.TokenLocker).LockToken(patient(t), time.Minute)
			require.NoError(t, err)
			t.Cleanup(unlock)
		}, true},
		"logged out": {true, func(t *testing.T, other oauth2login.TokenStore) {
			require.NoError(t, other.DeleteToken(patient(t)))
		}, false},
		"another token is there, and loaded by another caller of this process": {true, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			client, prefix := connectRedis(t, "", ""), newRedisPrefix()
			mineStore := redisstore.NewTokens(client, redisstore.WithPrefix(prefix)).User("a")
			otherStore := redisstore.NewTokens(connectRedis(t, "", ""), redisstore.WithPrefix(prefix)).User("a")
			require.NoError(t, mineStore.SaveToken(patient(t), old))
			unlock, err := mineStore.LockToken(patient(t), time.Minute)
			require.NoError(t, err)
			defer unlock()
			if c.load {
				_, err := mineStore.LoadToken(patient(t))
				require.NoError(t, err)
			}
			// The lock expires.
			require.NoError(t, client.Del(t.Context(), prefix+"{u:a}:lock").Err())
			if c.meanwhile != nil {
				c.meanwhile(t, otherStore)
			} else {
				require.NoError(t, otherStore.SaveToken(patient(t), others))
				_, err := mineStore.LoadToken(patient(t))
				require.NoError(t, err)
			}

			before, err := otherStore.LoadToken(patient(t))
			require.NoError(t, err)
			for range 2 { // a second save must have the same result as the first
				err = mineStore.SaveToken(patient(t), mine)
				after, loadErr := otherStore.LoadToken(patient(t))
				require.NoError(t, loadErr)
				if c.saved {
					assert.NoError(t, err)
					assert.Equal(t, mine, after)
				} else {
					assert.ErrorContains(t, err, "redisstore: tokens: save: the lock has ended")
					assert.Equal(t, before, after)
				}
			}
		})
	}
}

// TestRedisTokens_permissions connects as a user with the documented access list.
func TestRedisTokens_permissions(t *testing.T) {
	t.Parallel()
	admin := connectRedis(t, "", "")
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "tokens", "on", ">password", "resetkeys", "~oauth2login:tokens:*",
		"resetchannels", "nocommands", "+get", "+set", "+del", "+eval").Err())
	t.Cleanup(func() { assert.NoError(t, admin.Do(context.Background(), "ACL", "DELUSER", "tokens").Err()) })

	u := redisstore.NewTokens(connectRedis(t, "tokens", "password")).User(newRedisPrefix())
	unlock, err := u.LockToken(patient(t), time.Minute)
	require.NoError(t, err)
	require.NoError(t, u.SaveToken(patient(t), token("a")))
	_, err = u.LoadToken(patient(t))
	require.NoError(t, err)
	require.NoError(t, u.DeleteToken(patient(t)))
	unlock()

	elsewhere := redisstore.NewTokens(connectRedis(t, "tokens", "password"), redisstore.WithPrefix("other:")).User("hush")
	_, err = elsewhere.LoadToken(patient(t))
	assert.ErrorContains(t, err, "NOPERM")
	assert.NotContains(t, err.Error(), "hush")
}

// TestRedis_without_password connects without a password to a server that requires one.
func TestRedis_without_password(t *testing.T) {
	server := servers.NewRedis(t)
	admin := redis.NewClient(&redis.Options{Addr: server.Address})
	defer admin.Close()
	require.NoError(t, admin.ConfigSet(t.Context(), "requirepass", "hush-hush").Err())
	for password, want := range map[string]string{
		"":      "the server answered NOAUTH (give the client the password)",
		"wrong": "the server answered WRONGPASS (the user name or the password is wrong)",
	} {
		client := redis.NewClient(&redis.Options{Addr: server.Address, Password: password})
		defer client.Close()
		_, _, err := redisstore.NewStates(client).Take(patient(t), "key")
		assert.EqualError(t, err, "redisstore: states: take: "+want)
		_, err = redisstore.NewTokens(client).User("u").LoadToken(patient(t))
		assert.EqualError(t, err, "redisstore: tokens: load: "+want)
	}
}
