package servers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// An Instance is a private server of one test. The test may kill it or pause it.
type Instance struct {
	// Address stays the same when the server restarts. It is a DSN, or the address of a
	// Redis.
	Address string

	t     testing.TB
	s     server
	cmd   *exec.Cmd
	ended chan struct{}
	ready func() error
}

// NewRedis starts a Redis that writes every change to disk, so that acknowledged writes
// survive a restart.
func NewRedis(t testing.TB) *Instance {
	s, err := newRedis("--appendonly", "yes")
	i := newInstance(t, s, err)
	i.ready = func() error { return awaitRedis(s.dsn, s.dir, pingRedis) }
	i.Start()
	return i
}

// NewPostgres starts a PostgreSQL.
func NewPostgres(t testing.TB) *Instance {
	s, err := newPostgres()
	i := newInstance(t, s, err)
	i.ready = func() error { return await("pgx", s.dsn, s.dir) }
	i.Start()
	return i
}

// NewMySQL starts a MariaDB.
func NewMySQL(t testing.TB) *Instance {
	s, err := newMySQL()
	i := newInstance(t, s, err)
	i.ready = func() error { return createTestDatabase(s) }
	i.Start()
	i.Address += testDatabase
	i.ready = func() error { return await("mysql", i.Address, s.dir) }
	return i
}

func newInstance(t testing.TB, s server, err error) *Instance {
	t.Helper()
	if missing := (missingError)(""); errors.As(err, &missing) {
		Skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	i := &Instance{Address: s.dsn, t: t, s: s}
	t.Cleanup(func() {
		if i.cmd != nil {
			i.Resume()
			i.Kill()
		}
	})
	return i
}

// Start starts the server and waits until it answers. It can be called again after Kill.
func (i *Instance) Start() {
	i.t.Helper()
	// A killed PostgreSQL leaves a file with its process ID. Another process may have
	// that ID by now.
	_ = os.Remove(filepath.Join(i.s.dir, "data", "postmaster.pid"))
	cmd := exec.Command(i.s.command[0], i.s.command[1:]...)
	cmd.Dir = i.s.dir
	log, err := os.OpenFile(filepath.Join(i.s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		cmd.Stdout, cmd.Stderr = log, log
		err = become(i.s.account, cmd)
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		i.t.Fatal(err)
	}
	_ = log.Close()
	// If this process ends, even by SIGKILL, the input of this shell is closed. Then the
	// shell kills the server.
	guard := exec.Command("/bin/sh", "-c", fmt.Sprintf("cat >/dev/null; kill -KILL %d", cmd.Process.Pid))
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := guard.StdinPipe(); err != nil {
		i.t.Fatal(err)
	}
	if err := guard.Start(); err != nil {
		i.t.Fatal(err)
	}
	i.cmd, i.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) {
		defer close(ended)
		_ = cmd.Wait()
		_ = guard.Process.Kill()
		_ = guard.Wait()
	}(i.ended)
	if err := i.ready(); err != nil {
		i.t.Fatal(err)
	}
}

// Kill ends all processes of the server with SIGKILL.
func (i *Instance) Kill() {
	i.signal(syscall.SIGKILL)
	<-i.ended
	i.cmd = nil
}

// Pause stops all processes of the server. Their connections stay open.
func (i *Instance) Pause() { i.signal(syscall.SIGSTOP) }

// Resume lets all processes of the server continue.
func (i *Instance) Resume() { i.signal(syscall.SIGCONT) }

// signal sends a signal to the server and all of its child processes. Each child of
// PostgreSQL has a separate process group.
func (i *Instance) signal(sig syscall.Signal) {
	for _, pid := range append(descendants(i.cmd.Process.Pid), i.cmd.Process.Pid) {
		_ = syscall.Kill(pid, sig)
	}
}

func descendants(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	children := make(map[int][]int)
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // this process has ended
		}
		// The format is "pid (name) state ppid …". The name can contain any character.
		var state string
		var ppid int
		rest := string(text[strings.LastIndexByte(string(text), ')')+1:])
		if _, err := fmt.Sscan(rest, &state, &ppid); err != nil {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			children[ppid] = append(children[ppid], pid)
		}
	}
	for _, pid := range children[parent] {
		pids = append(pids, append(descendants(pid), pid)...)
	}
	return pids
}
