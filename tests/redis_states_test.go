package tests

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/redisstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state/statetest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tests/internal/servers"
	"github.com/redis/go-redis/v9"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// redisKinds lists the ways to connect to Redis.
var redisKinds = []struct {
	name    string
	connect func(t testing.TB) redis.UniversalClient
}{
	{"single", func(t testing.TB) redis.UniversalClient { return connectRedis(t, "", "") }},
	{"obeys contexts", func(t testing.TB) redis.UniversalClient {
		options, err := redis.ParseURL(servers.Redis(t))
		require.NoError(t, err)
		options.ContextTimeoutEnabled, options.ReadTimeout = true, patience
		client := redis.NewClient(options)
		t.Cleanup(func() { assert.NoError(t, client.Close()) })
		return client
	}},
	{"cluster", func(t testing.TB) redis.UniversalClient {
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: servers.RedisCluster(t), ReadTimeout: patience})
		t.Cleanup(func() { assert.NoError(t, client.Close()) })
		return client
	}},
	{"sentinel", func(t testing.TB) redis.UniversalClient {
		client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: servers.RedisMaster, SentinelAddrs: []string{servers.RedisSentinel(t)}, ReadTimeout: patience})
		t.Cleanup(func() { assert.NoError(t, client.Close()) })
		return client
	}},
	{"before 6.2", func(t testing.TB) redis.UniversalClient {
		client := connectRedis(t, "", "")
		client.AddHook(oldServer{})
		return client
	}},
}

func connectRedis(t testing.TB, user, password string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(servers.Redis(t))
	require.NoError(t, err)
	if user != "" {
		options.Username, options.Password = user, password
	}
	options.ReadTimeout = patience
	client := redis.NewClient(options)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	return client
}

// oldServer imitates a server that does not know the command GETDEL.
type oldServer struct{}

func (oldServer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (oldServer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (oldServer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "getdel" {
			return next(ctx, cmd)
		}
		// The server does not know the command nodel. So it returns its real error for
		// unknown commands.
		unknown := redis.NewStringCmd(ctx, "nodel", cmd.Args()[1])
		err := next(ctx, unknown)
		cmd.SetErr(err)
		return err
	}
}

func TestRedisStates(t *testing.T) {
	t.Parallel()
	for _, kind := range redisKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			statetest.Run(t, statetest.Backend{
				Open: func(t *testing.T) (a, b state.Store) {
					prefix := newRedisPrefix()
					return redisstore.NewStates(kind.connect(t), redisstore.WithPrefix(prefix)), redisstore.NewStates(kind.connect(t), redisstore.WithPrefix(prefix))
				},
				Down: func(t *testing.T) state.Store {
					client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}, IsClusterMode: kind.name == "cluster"})
					t.Cleanup(func() { assert.NoError(t, client.Close()) })
					return redisstore.NewStates(client)
				},
				Count: func(t *testing.T, a state.Store) int { return countRedis(t, kind.connect(t), fmt.Sprint(a)) },
			})
		})
	}
}

func newRedisPrefix() string { return fmt.Sprintf("test:%d:", tables.Add(1)+time.Now().UnixNano()) }

// countRedis counts the keys with a store's prefix. store is the store as text, which
// contains the prefix.
func countRedis(t *testing.T, client redis.UniversalClient, store string) int {
	t.Helper()
	var prefix string
	_, err := fmt.Sscanf(store, "redisstore.States(%q)", &prefix)
	require.NoError(t, err)
	var n atomic.Int64 // a Cluster asks its nodes in parallel
	count := func(ctx context.Context, c *redis.Client) error {
		keys, err := c.Keys(ctx, prefix+"*").Result()
		n.Add(int64(len(keys)))
		return err
	}
	if cluster, ok := client.(*redis.ClusterClient); ok {
		require.NoError(t, cluster.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error { return count(ctx, c) }))
	} else {
		require.NoError(t, count(t.Context(), client.(*redis.Client)))
	}
	return int(n.Load())
}

// TestRedisStates_permissions connects as a user with the documented access list.
func TestRedisStates_permissions(t *testing.T) {
	t.Parallel()
	admin := connectRedis(t, "", "")
	ctx := patient(t)
	require.NoError(t, admin.Do(ctx, "ACL", "SETUSER", "login", "on", ">password", "resetkeys", "~oauth2login:states:*",
		"resetchannels", "nocommands", "+set", "+getdel", "+del").Err())
	t.Cleanup(func() { assert.NoError(t, admin.Do(context.Background(), "ACL", "DELUSER", "login").Err()) })

	s := redisstore.NewStates(connectRedis(t, "login", "password"))
	require.NoError(t, s.Put(ctx, "permissions", []byte("value"), time.Minute))
	value, found, err := s.Take(ctx, "permissions")
	require.NoError(t, err)
	assert.True(t, found)
	assert.Equal(t, "value", string(value))
	require.NoError(t, s.Put(ctx, "permissions", nil, 0))

	elsewhere := redisstore.NewStates(connectRedis(t, "login", "password"), redisstore.WithPrefix("other:"))
	err = elsewhere.Put(ctx, "permissions", []byte("value"), time.Minute)
	assert.ErrorContains(t, err, "NOPERM")
	assert.NotContains(t, err.Error(), "permissions")
	_, found, err = elsewhere.Take(ctx, "permissions")
	assert.ErrorContains(t, err, "NOPERM")
	assert.False(t, found)
}

// BenchmarkRedisStates measures two clients: one that obeys contexts, and one with the
// defaults of go-redis. It compares each with the same commands without a store.
func BenchmarkRedisStates(b *testing.B) {
	for name, obeys := range map[string]bool{"ContextTimeoutEnabled": true, "default": false} {
		b.Run(name, func(b *testing.B) {
			ctx := timeout(b, time.Hour) // a login always has a deadline
			options, err := redis.ParseURL(servers.Redis(b))
			require.NoError(b, err)
			options.ContextTimeoutEnabled = obeys
			client := redis.NewClient(options)
			b.Cleanup(func() { assert.NoError(b, client.Close()) })
			s := redisstore.NewStates(client)
			value := make([]byte, 200)
			benchmarkState(b, func(key string) error {
				if err := s.Put(ctx, key, value, 5*time.Minute); err != nil {
					return err
				}
				_, found, err := s.Take(ctx, key)
				return mustFind(found, err)
			}, func(key string) error {
				if err := client.Set(ctx, "client:"+key, value, 5*time.Minute).Err(); err != nil {
					return err
				}
				_, err := client.GetDel(ctx, "client:"+key).Bytes()
				return err
			})
		})
	}
}
