package mmo_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/stretchr/testify/require"
)

// A hundred connections stay open for a minute of the bubble's clock. Afterwards no
// goroutine is left: synctest checks the bubble, and goleak checks the whole package.
func TestHundredConnections(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		conns := make([]*mmo.Conn, 100)
		for i := range conns {
			conns[i] = join(t, e, protocol, "")
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		require.Equal(t, mmotest.Stats{Logins: 100}, e.Stats())
		e.Send("room", "still there")
		for _, conn := range conns {
			require.Equal(t, mmo.Text("still there"), next[mmo.Text](t, conn))
			require.Zero(t, conn.Dropped())
		}
		var closing sync.WaitGroup
		for _, conn := range conns {
			closing.Go(func() { _ = conn.Close() })
		}
		closing.Wait()
	})
}

// A thousand connections use real sockets and the clock of this machine. The edge runs in
// another process. The test logs what one connection costs.
func TestThousandSockets(t *testing.T) {
	if os.Getenv("SHANGCLOUD_LONG_TESTS") == "" {
		t.Skip("takes three minutes: set SHANGCLOUD_LONG_TESTS=1")
	}
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			url := edgeProcess(t, protocol)
			goroutines, bytes := usage()
			conns := make([]*mmo.Conn, 1000)
			for i := range conns {
				conn, err := mmo.Dial(t.Context(), protocol, url, mmotest.TestRoom, nil)
				require.NoError(t, err)
				conns[i] = conn
			}
			deadline := time.After(time.Minute)
			<-deadline
			moreGoroutines, moreBytes := usage()
			t.Logf("a connection: %.1f goroutines, %.1f KiB", float64(moreGoroutines-goroutines)/1000, float64(moreBytes-bytes)/1000/1024)
			require.NoError(t, conns[0].Send(t.Context(), "still there"))
			for _, conn := range conns[1:] {
				require.Equal(t, mmo.Text("still there"), next[mmo.Text](t, conn))
			}
			var closing sync.WaitGroup
			for _, conn := range conns {
				closing.Go(func() { _ = conn.Close() })
			}
			closing.Wait()
		})
	}
}

func usage() (goroutines int, bytes uint64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapInuse + m.StackInuse
}

const edgeProtocol = "MMO_TEST_EDGE"

// edgeProcess runs TestEdgeProcess in a process of its own, and returns the edge's URL.
func edgeProcess(t *testing.T, protocol string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestEdgeProcess$")
	cmd.Env = append(os.Environ(), edgeProtocol+"="+protocol)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	url, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(url)
}

func TestEdgeProcess(t *testing.T) {
	protocol := os.Getenv(edgeProtocol)
	if protocol == "" {
		t.Skip("the part of another test that runs in a process of its own")
	}
	url, _ := mmotest.NewEdge(t).URL(protocol)
	fmt.Println(url)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
