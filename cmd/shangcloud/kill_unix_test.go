//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// killer is a platform for one program, which is killed while it refreshes its token.
type killer struct {
	platform http.Handler
	running  sync.WaitGroup

	// arrived, if not nil, is called when a request has arrived. answered, if not nil, is
	// called when the answer has been sent. With refuse, the answer is status 503, and the
	// refresh token stays valid.
	arrived, answered func()
	refuse            bool

	mu      sync.Mutex
	over    bool   // later requests never reach the platform
	access  string // from the last answer; empty if the platform did not take the refresh token
	refused int    // answers by which the platform ends the login
}

func (k *killer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	if k.over {
		k.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	k.running.Add(1)
	k.mu.Unlock()
	defer k.running.Done()
	// The request is read completely first. So the platform answers it even if the program
	// is killed meanwhile.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r = r.WithContext(context.Background())
	r.Body = io.NopCloser(bytes.NewReader(body))
	if k.arrived != nil {
		k.arrived()
	}
	if k.refuse {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	answer := httptest.NewRecorder()
	k.platform.ServeHTTP(answer, r)
	var tok oauth2.Token
	k.mu.Lock()
	if answer.Code == http.StatusOK && json.Unmarshal(answer.Body.Bytes(), &tok) == nil {
		k.access = tok.AccessToken
	} else {
		k.refused++
	}
	k.mu.Unlock()
	w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
	_ = http.NewResponseController(w).Flush()
	if k.answered != nil {
		k.answered()
	}
}

// end waits until the platform has answered all requests. access is the access token that
// the platform issued, or "". refused counts the refresh tokens that the platform refused.
func (k *killer) end() (access string, refused int) {
	k.mu.Lock()
	k.over = true
	k.mu.Unlock()
	k.running.Wait()
	return k.access, k.refused
}

// A program is killed at any moment of a refresh. Afterwards the store holds the old login
// or the new login. The login is lost in one case only: the platform has used up the
// refresh token, and the program has not saved the answer yet.
func TestKilled(t *testing.T) {
	kills := 20
	if os.Getenv("SHANGCLOUD_LONG_TESTS") == "1" {
		kills = 200
	}
	s := newPlatform(t)
	var present atomic.Pointer[killer]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { present.Load().ServeHTTP(w, r) }))
	defer front.Close()
	t.Setenv("SHANGCLOUD_BASE_URL", front.URL)
	session := openSession(t)
	logIn(t, s, time.Now().Add(-time.Minute))

	var old, renewed, lost, answered int
	for i := range kills {
		before, err := session.store.LoadToken(t.Context())
		require.NoError(t, err)
		expired := *before
		expired.Expiry = time.Now().Add(-time.Minute)
		require.NoError(t, session.store.SaveToken(t.Context(), &expired))

		k := &killer{platform: s}
		ended := killedIn(t, &present, k, session.path(inFile), i%6)
		taken, refused := k.end()
		unlock, err := session.store.LockToken(t.Context(), time.Minute)
		require.NoError(t, err, "the lock ends with its holder")
		after, err := session.store.LoadToken(t.Context())
		unlock()
		require.NoError(t, err, "a whole token is there")
		require.NotNil(t, after)
		require.Zero(t, refused, "the platform never sees a refresh token twice")
		answered += min(len(taken), 1)

		switch after.AccessToken {
		case before.AccessToken:
			require.False(t, ended, "a program that ends by itself has saved")
			if taken == "" {
				old++
				continue
			}
			lost++
			present.Store(&killer{platform: s})
			if lost == 1 {
				r := shangcloudRun(t, "whoami")
				assert.Equal(t, exitLoginRequired, r.code)
				assert.Contains(t, r.stderr, "; run: shangcloud login\n")
			}
			logIn(t, s, time.Now().Add(-time.Minute))
		default:
			require.Equal(t, taken, after.AccessToken)
			require.NotEqual(t, before.RefreshToken, after.RefreshToken)
			renewed++
		}
	}
	t.Logf("%d kills: the old login %d times, the new one %d, lost between the platform's answer and its save %d; %d refreshes were answered", kills, old, renewed, lost, answered)
	present.Store(&killer{platform: s})
	assert.NotEmpty(t, succeed(t, "token"))
	assert.Contains(t, succeed(t, "whoami"), "小云")
}

// killedIn runs "token" and kills it at the given moment of its refresh. It reports whether
// the program ended before the kill.
func killedIn(t *testing.T, present *atomic.Pointer[killer], k *killer, path string, moment int) (ended bool) {
	t.Helper()
	cmd := process(t.Context(), "token")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	soon := time.Duration(rand.IntN(10_000)) * time.Microsecond
	started := make(chan struct{})
	kill := func() { <-started; _ = cmd.Process.Kill() }
	saving := make(chan struct{})
	switch moment {
	case 0: // the request is sent, and the platform has not taken the refresh token
		k.arrived, k.refuse = kill, true
	case 1: // the platform takes it, and nobody waits for the answer
		k.arrived = kill
	case 2: // the answer is under way, judged, or being saved
		k.answered = func() { time.Sleep(soon); kill() }
	case 3, 4: // the save has begun; it is done, and the program has not ended
		k.answered = func() { close(saving) }
	case 5: // the program starts, reads the login, takes the lock, sends the request
	}
	present.Store(k)
	require.NoError(t, cmd.Start())
	close(started)
	over := make(chan struct{})
	var watching sync.WaitGroup
	before, err := os.Lstat(path)
	require.NoError(t, err)
	reached := map[int]func() bool{
		3: func() bool {
			_, err := os.Lstat(path + ".tmp")
			return err == nil
		},
		4: func() bool {
			now, err := os.Lstat(path)
			return err == nil && !os.SameFile(before, now)
		},
	}
	switch moment {
	case 3, 4:
		watching.Go(func() {
			select {
			case <-saving:
				killWhen(cmd, reached[moment], over, soon/4)
			case <-over:
			}
		})
	case 5:
		watching.Go(func() {
			time.Sleep(4 * soon) // up to 40 ms
			kill()
		})
	}
	err = cmd.Wait()
	close(over)
	watching.Wait()
	if err != nil {
		require.ErrorContains(t, err, "killed", "%s", &stderr)
	}
	return err == nil
}

// killWhen waits until reached returns true, sleeps for soon, and kills the program. It
// gives up when over is closed.
func killWhen(cmd *exec.Cmd, reached func() bool, over <-chan struct{}, soon time.Duration) {
	for !reached() {
		select {
		case <-over:
			return
		default:
		}
	}
	time.Sleep(soon)
	_ = cmd.Process.Kill()
}
