package tests

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tests/internal/servers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cluster is a proxy with two copies of the demo behind it. The proxy sends requests to
// the two copies in turn.
type cluster struct {
	platform *shangcloudtest.Server
	url      string // of the proxy
	starts   [2]atomic.Int64
	ends     [2]atomic.Int64
}

// clusterProgram builds the demo in examples/cluster and returns the program's path.
// servers.Stop removes the program.
var clusterProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		return "", err
	}
	servers.AtStop(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "cluster")
	out, err := exec.Command("go", "build", "-C", "../examples/cluster", "-o", program, ".").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return program, err
})

func newCluster(t *testing.T, states string) *cluster {
	t.Helper()
	program, err := clusterProgram()
	require.NoError(t, err)
	c := &cluster{platform: shangcloudtest.NewServer(t)}
	proxy := httptest.NewUnstartedServer(nil)
	c.url = "http://" + proxy.Listener.Addr().String()
	c.platform.AddClient(shangcloudtest.Client{ID: "cluster", Secret: "hush-hush", RedirectURIs: []string{c.url + "/callback"}})
	c.platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明"})
	c.platform.AutoApprove(10001)

	key := make([]byte, 32)
	_, _ = rand.Read(key)
	var copies [2]http.Handler
	for i := range copies {
		address := startCopy(t, program, states,
			"SHANGCLOUD_CLIENT_ID=cluster", "SHANGCLOUD_CLIENT_SECRET=hush-hush", "SHANGCLOUD_REDIRECT_URL="+c.url+"/callback",
			"SHANGCLOUD_BASE_URL="+c.platform.URL, "SHANGCLOUD_STATE_KEYS="+base64.StdEncoding.EncodeToString(key))
		copies[i] = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	}
	var turn atomic.Int64
	proxy.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := turn.Add(1) % 2
		switch r.URL.Path {
		case "/login":
			c.starts[i].Add(1)
		case "/callback":
			c.ends[i].Add(1)
		}
		copies[i].ServeHTTP(w, r)
	})
	proxy.Start()
	t.Cleanup(proxy.Close)
	return c
}

// startCopy starts a copy and returns its address.
func startCopy(t *testing.T, program, states string, env ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-addr", "127.0.0.1:0", "-states", states)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if rest, found := strings.CutPrefix(lines.Text(), "Listening "); found {
			address, _, _ := strings.Cut(rest, " ")
			return address
		}
	}
	t.Fatal("the copy has not said where it listens")
	return ""
}

// login runs a whole login, as a browser does, and returns the answer to the callback.
func (c *cluster) login(transport http.RoundTripper) (*http.Response, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	browser := &http.Client{Transport: transport, Jar: jar, Timeout: patience, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if via[len(via)-1].URL.Path == "/callback" {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	res, err := browser.Get(c.url + "/login?next=/variable")
	if err == nil {
		_ = res.Body.Close()
	}
	return res, err
}

// TestCluster runs many logins. The proxy decides at which copy a login starts and at
// which copy it ends.
func TestCluster(t *testing.T) {
	for _, store := range []struct {
		name   string
		states func(t testing.TB) string
	}{
		{"Redis", servers.Redis},
		{"PostgreSQL", servers.Postgres},
		{"sealed", func(testing.TB) string { return "sealed" }},
	} {
		t.Run(store.name, func(t *testing.T) {
			c := newCluster(t, store.states(t))
			logins, browsers := 200, 16
			if long {
				logins = 1000
			}
			transport := &http.Transport{MaxIdleConnsPerHost: browsers}
			defer transport.CloseIdleConnections()
			var wg sync.WaitGroup
			var next, failed atomic.Int64
			for range browsers {
				wg.Go(func() {
					for next.Add(1) <= int64(logins) {
						res, err := c.login(transport)
						if assert.NoError(t, err) && assert.Equal(t, http.StatusSeeOther, res.StatusCode) &&
							assert.Equal(t, "/variable", res.Header.Get("Location")) {
							continue
						}
						failed.Add(1)
					}
				})
			}
			wg.Wait()
			assert.Zero(t, failed.Load())
			assert.Len(t, c.platform.Requests("/oauth/token"), logins)
			for i := range 2 { // each copy started many logins and finished many logins
				assert.Greater(t, c.starts[i].Load(), int64(logins/4))
				assert.Greater(t, c.ends[i].Load(), int64(logins/4))
			}
		})
	}
}

// TestClusterInMemory shows why states in memory work on one machine only: each login
// starts at one copy and returns to the other copy, so no login succeeds.
func TestClusterInMemory(t *testing.T) {
	c := newCluster(t, "memory")
	for range 20 {
		res, err := c.login(http.DefaultTransport)
		require.NoError(t, err)
		assert.Equal(t, http.StatusBadRequest, res.StatusCode)
	}
	assert.Empty(t, c.platform.Requests("/oauth/token"))
}
