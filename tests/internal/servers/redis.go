package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis returns the URL of a Redis.
func Redis(t testing.TB) string { return provide(t, sharedRedis) }

// RedisCluster returns the addresses of a Redis Cluster of three nodes.
func RedisCluster(t testing.TB) []string {
	t.Helper()
	return strings.Split(provide(t, redisCluster), ",")
}

// RedisMaster is the master name by which the Sentinel of RedisSentinel knows its Redis.
const RedisMaster = "login"

// RedisSentinel returns the address of a Sentinel that monitors a Redis.
func RedisSentinel(t testing.TB) string { return provide(t, redisSentinel) }

var redisSentinel = sync.OnceValues(func() (string, error) {
	master, err := startRedis()
	if err != nil {
		return "", err
	}
	s, err := newRedis()
	if err != nil {
		return "", err
	}
	// Sentinel writes to its configuration file.
	config := filepath.Join(s.dir, "sentinel.conf")
	host, port, _ := strings.Cut(master, ":")
	if err := os.WriteFile(config, fmt.Appendf(nil, "sentinel monitor %s %s %s 1\n", RedisMaster, host, port), 0o666); err != nil {
		return "", err
	}
	if err := giveTo(s.account, config); err != nil {
		return "", err
	}
	_, port, _ = strings.Cut(s.dsn, ":")
	if err := start(s.account, s.dir, "KILL", s.command[0], config, "--sentinel", "--bind", "127.0.0.1", "--port", port, "--dir", s.dir); err != nil {
		return "", err
	}
	return s.dsn, awaitRedis(s.dsn, s.dir, pingRedis)
})

var sharedRedis = sync.OnceValues(func() (string, error) {
	if url := os.Getenv("SHANGCLOUD_TEST_REDIS"); url != "" {
		return url, nil
	}
	address, err := startRedis()
	return "redis://" + address, err
})

// startRedis starts a server that does not write to disk.
func startRedis(args ...string) (address string, err error) {
	s, err := newRedis(append([]string{"--appendonly", "no"}, args...)...)
	if err != nil {
		return "", err
	}
	if err := start(s.account, s.dir, "KILL", s.command...); err != nil {
		return "", err
	}
	return s.dsn, awaitRedis(s.dsn, s.dir, pingRedis)
}

// newRedis returns a server whose dsn is its address.
func newRedis(args ...string) (s server, err error) {
	program, err := find("redis-server", "/usr/bin", "/usr/local/bin")
	if err != nil {
		return s, missingError("SHANGCLOUD_TEST_REDIS is not set and Redis is not installed (apt-get install redis-server)")
	}
	s.account = "redis"
	if s.dir, err = makeDir(s.account); err != nil {
		return s, err
	}
	port := freePort()
	s.command = append([]string{program, "--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--save", ""}, args...)
	s.dsn = "127.0.0.1:" + port
	return s, nil
}

func pingRedis(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() }

var redisCluster = sync.OnceValues(func() (string, error) {
	const nodes, slots = 3, 16384
	var addresses []string
	for range nodes {
		address, err := startRedis("--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
		if err != nil {
			return "", err
		}
		addresses = append(addresses, address)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for i, address := range addresses {
		c := redis.NewClient(&redis.Options{Addr: address})
		defer c.Close()
		host, port, _ := strings.Cut(addresses[0], ":")
		err := errors.Join(
			c.ClusterAddSlotsRange(ctx, i*slots/nodes, (i+1)*slots/nodes-1).Err(),
			c.ClusterMeet(ctx, host, port).Err(),
		)
		if err != nil {
			return "", err
		}
	}
	for _, address := range addresses {
		err := awaitRedis(address, "", func(ctx context.Context, c *redis.Client) error {
			info, err := c.ClusterInfo(ctx).Result()
			if err == nil && (!strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", nodes))) {
				err = errors.New("the cluster is not complete")
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return strings.Join(addresses, ","), nil
})

// awaitRedis waits until check succeeds for the server at address. The server's log is in
// dir.
func awaitRedis(address, dir string, check func(context.Context, *redis.Client) error) error {
	c := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1, DialerRetries: 1})
	defer c.Close()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := check(context.Background(), c)
		if err == nil {
			return nil
		}
		if time.Since(begin) > startLimit {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			return fmt.Errorf("the server does not answer: %w\n%s", err, log)
		}
	}
}
