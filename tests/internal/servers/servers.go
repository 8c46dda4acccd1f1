// Package servers provides database servers for tests. It uses the servers that the
// environment names. If the environment names none, it starts private servers, once per
// test process.
package servers

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// startLimit is how long a server may take before it first answers.
const startLimit = 2 * time.Minute

// Skip skips a test that cannot run here. If skipping is forbidden, it fails the test
// instead.
func Skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("SHANGCLOUD_NO_SKIP") == "1" {
		t.Fatalf("SHANGCLOUD_NO_SKIP=1 forbids to skip: %s", reason)
	}
	t.Skip(reason)
}

// Postgres returns the address of a PostgreSQL database, for driver "pgx".
func Postgres(t testing.TB) string { return provide(t, postgres) }

// PgBouncer returns the same database behind a PgBouncer that pools transactions.
func PgBouncer(t testing.TB) string { return provide(t, pgBouncer) }

// MySQL returns the address of a MariaDB or MySQL database, for driver "mysql".
func MySQL(t testing.TB) string { return provide(t, mySQL) }

func provide(t testing.TB, start func() (string, error)) string {
	t.Helper()
	dsn, err := start()
	if missing := (missingError)(""); errors.As(err, &missing) {
		Skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

// missingError names a program that is not installed.
type missingError string

func (e missingError) Error() string { return string(e) }

var postgres = sync.OnceValues(func() (string, error) {
	if dsn := os.Getenv("SHANGCLOUD_TEST_POSTGRES"); dsn != "" {
		return dsn, nil
	}
	s, err := newPostgres()
	if err != nil {
		return "", err
	}
	if err := start(s.account, s.dir, "QUIT", s.command...); err != nil {
		return "", err
	}
	return s.dsn, await("pgx", s.dsn, s.dir)
})

// server is a server that has been set up and can be started.
type server struct {
	account, dir string
	command      []string
	dsn          string
}

func newPostgres() (s server, err error) {
	initdb, err1 := find("initdb", "/usr/lib/postgresql/*/bin", "/usr/local/bin")
	program, err2 := find("postgres", "/usr/lib/postgresql/*/bin", "/usr/local/bin")
	if errors.Join(err1, err2) != nil {
		return s, missingError("SHANGCLOUD_TEST_POSTGRES is not set and PostgreSQL is not installed (apt-get install postgresql)")
	}
	s.account = "postgres"
	if s.dir, err = makeDir(s.account); err != nil {
		return s, err
	}
	data := filepath.Join(s.dir, "data")
	if err := run(s.account, s.dir, initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"); err != nil {
		return s, err
	}
	port := freePort()
	s.command = []string{program, "-D", data, "-p", port,
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=400"}
	s.dsn = "postgres://postgres@127.0.0.1:" + port + "/postgres?sslmode=disable"
	return s, nil
}

var pgBouncer = sync.OnceValues(func() (string, error) {
	bouncer, err := find("pgbouncer", "/usr/sbin", "/usr/local/bin")
	if err != nil {
		return "", missingError("PgBouncer is not installed (apt-get install pgbouncer)")
	}
	behind, err := postgres()
	if err != nil {
		return "", err
	}
	conf, err := pgx.ParseConfig(behind)
	if err != nil {
		return "", err
	}
	dir, err := makeDir("postgres")
	if err != nil {
		return "", err
	}
	password := ""
	if conf.Password != "" {
		password = "password='" + strings.ReplaceAll(conf.Password, "'", "''") + "'"
	}
	port := freePort()
	ini := filepath.Join(dir, "pgbouncer.ini")
	// PgBouncer has fewer server connections than clients. So code that relies on session
	// state fails soon. Still, the connections are enough for all tests that hold several
	// locks at once.
	text := fmt.Sprintf(`[databases]
%s = host=%s port=%d user=%s %s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
`, conf.Database, conf.Host, conf.Port, conf.User, password, port)
	if err := os.WriteFile(ini, []byte(text), 0o644); err != nil {
		return "", err
	}
	if err := start("postgres", dir, "KILL", bouncer, ini); err != nil {
		return "", err
	}
	// The DSN turns prepared statements off, because they do not work with transaction
	// pooling.
	dsn := "postgres://" + url.User(conf.User).String() + "@127.0.0.1:" + port + "/" + conf.Database + "?sslmode=disable&default_query_exec_mode=exec"
	return dsn, await("pgx", dsn, dir)
})

var mySQL = sync.OnceValues(func() (string, error) {
	if dsn := os.Getenv("SHANGCLOUD_TEST_MYSQL"); dsn != "" {
		return dsn, nil
	}
	s, err := newMySQL()
	if err != nil {
		return "", err
	}
	if err := start(s.account, s.dir, "KILL", s.command...); err != nil {
		return "", err
	}
	return s.dsn + testDatabase, createTestDatabase(s)
})

const testDatabase = "shangcloud_test"

// newMySQL returns a server whose DSN ends before the database name.
func newMySQL() (s server, err error) {
	install, err1 := find("mariadb-install-db", "/usr/bin", "/usr/local/bin")
	program, err2 := find("mariadbd", "/usr/sbin", "/usr/libexec", "/usr/local/bin")
	if errors.Join(err1, err2) != nil {
		return s, missingError("SHANGCLOUD_TEST_MYSQL is not set and MariaDB is not installed (apt-get install mariadb-server)")
	}
	s.account = "mysql"
	if s.dir, err = makeDir(s.account); err != nil {
		return s, err
	}
	data, socket := filepath.Join(s.dir, "data"), filepath.Join(s.dir, "socket")
	if err := run(s.account, s.dir, install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db"); err != nil {
		return s, err
	}
	// A commit is written to the operating system, but does not wait for the disk. So
	// committed data survives a crash of the server, but not a crash of the machine.
	s.command = []string{program, "--no-defaults", "--datadir=" + data, "--socket=" + socket, "--skip-networking",
		"--pid-file=" + filepath.Join(s.dir, "pid"), "--max-connections=400", "--innodb-flush-log-at-trx-commit=2"}
	s.dsn = "root@unix(" + socket + ")/"
	return s, nil
}

// createTestDatabase waits for the first answer of a MariaDB, and creates the database.
func createTestDatabase(s server) error {
	if err := await("mysql", s.dsn, s.dir); err != nil {
		return err
	}
	db, err := sql.Open("mysql", s.dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec("CREATE DATABASE " + testDatabase)
	return err
}

// find looks for a program in PATH and then in dirs, which are glob patterns.
func find(program string, dirs ...string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, dir := range dirs {
		if found, _ := filepath.Glob(filepath.Join(dir, program)); len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", missingError(program + " is not installed")
}

// running holds functions that stop the servers and remove the directories.
var running struct {
	mu   sync.Mutex
	stop []func()
}

// AtStop makes Stop call f.
func AtStop(f func()) {
	running.mu.Lock()
	defer running.mu.Unlock()
	running.stop = append(running.stop, f)
}

// Stop ends the private servers. TestMain calls it when all tests have ended.
func Stop() {
	running.mu.Lock()
	defer running.mu.Unlock()
	for i := len(running.stop) - 1; i >= 0; i-- {
		running.stop[i]()
	}
	running.stop = nil
}

// makeDir creates a directory that belongs to the account that runs the server.
func makeDir(account string) (string, error) {
	dir, err := os.MkdirTemp("", "shangcloud")
	if err != nil {
		return "", err
	}
	AtStop(func() { _ = os.RemoveAll(dir) })
	return dir, giveTo(account, dir)
}

// run runs a program and waits until it ends. Database servers should not run as root, and
// some refuse to. So if this process is root, run uses account.
func run(account, dir string, command ...string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	if err := become(account, cmd); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", command[0], err, out)
	}
	return nil
}

// start starts a server, which Stop ends. If this process ends without Stop, even by
// SIGKILL, the shell's input is closed, and the shell ends the server.
func start(account, dir, signal string, command ...string) error {
	const script = `"$@" >log 2>&1 & server=$!; cat >/dev/null; kill -` // followed by the signal
	cmd := exec.Command("/bin/sh", append([]string{"-c", script + signal + ` $server; wait $server`, "sh"}, command...)...)
	cmd.Dir = dir
	if err := become(account, cmd); err != nil {
		return err
	}
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	AtStop(func() {
		_ = input.Close()
		_ = cmd.Wait()
	})
	return nil
}

// await waits until the server in dir answers.
func await(driver, dsn, dir string) error {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if err = db.Ping(); err == nil {
			return nil
		}
		if time.Since(begin) > startLimit {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			return fmt.Errorf("the server does not answer: %w\n%s", err, log)
		}
	}
}

func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
