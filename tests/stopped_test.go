//go:build unix

package tests

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestProcesses_stopped pauses a process in the middle of its refresh. Its connections
// stay open and silent, like the connections of a machine that has lost power. Its lock
// ends after 25 seconds. Then the process continues. It does not know what the other
// processes changed meanwhile.
func TestProcesses_stopped(t *testing.T) {
	if !long {
		t.Skip("waits for the database to give up on a connection, for 25 seconds: set SHANGCLOUD_LONG_TESTS=1")
	}
	onEach(t, databases, func(t *testing.T, d database) {
		s := newProcessSite(t, d, 1)
		children := make(map[string]*child)
		for i := range 2 {
			c := s.start(t, fmt.Sprint(i))
			children[c.name] = c
		}
		s.refreshed(t, "", patience)
		caught := make(chan string, 1)
		s.platform.Fault("/oauth/token", shangcloudtest.Fault{
			Times: 1,
			Before: func(r *http.Request) {
				caught <- r.Header.Get(processHeader)
				<-r.Context().Done()
			},
			Drop: true,
		})
		silent := <-caught
		begin := time.Now()
		require.NoError(t, children[silent].cmd.Process.Signal(syscall.SIGSTOP))
		select {
		case <-s.arrived:
		default:
		}
		s.refreshed(t, silent, 2*patience)
		took := time.Since(begin)
		t.Logf("the lock ended after %v", took.Round(time.Millisecond))
		assert.Greater(t, took, 10*time.Second, "the lock outlives the request")
		require.NoError(t, children[silent].cmd.Process.Signal(syscall.SIGCONT))
		for range 5 {
			s.refreshed(t, "", patience)
		}
		for _, c := range children {
			c.finish(t)
		}
		s.check(t)
	})
}
