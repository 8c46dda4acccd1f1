package tests

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/redisstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/sqlstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tests/internal/servers"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// faultyBackend is a server with stores on it. cut ends the connections between the stores
// and the server.
type faultyBackend struct {
	stores map[string]state.Store
	server *servers.Instance
	cut    func(ctx context.Context) error
}

var faultyBackends = []struct {
	name string
	open func(t *testing.T) faultyBackend
}{
	{"Redis", func(t *testing.T) faultyBackend {
		server := servers.NewRedis(t)
		connect := func() *redis.Client {
			c := redis.NewClient(&redis.Options{Addr: server.Address, PoolSize: 20})
			t.Cleanup(func() { assert.NoError(t, c.Close()) })
			return c
		}
		admin := connect()
		return faultyBackend{map[string]state.Store{"Redis": redisstore.NewStates(connect())}, server, func(ctx context.Context) error {
			return admin.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes").Err()
		}}
	}},
	{"PostgreSQL", func(t *testing.T) faultyBackend {
		server := servers.NewPostgres(t)
		return faultySQL(t, server, "pgx", []sqlstore.Dialect{sqlstore.PostgreSQL}, func(ctx context.Context, admin *sql.DB) error {
			_, err := admin.ExecContext(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
			return err
		})
	}},
	{"MariaDB", faultyMariaDB},
}

func faultyMariaDB(t *testing.T) faultyBackend {
	return faultySQL(t, servers.NewMySQL(t), "mysql", []sqlstore.Dialect{sqlstore.MariaDB, sqlstore.MySQL}, func(ctx context.Context, admin *sql.DB) error {
		rows, err := admin.QueryContext(ctx, "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user = 'root'")
		if err != nil {
			return err
		}
		defer rows.Close()
		var ids []int64
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		for _, id := range ids {
			_, _ = admin.ExecContext(ctx, fmt.Sprintf("KILL %d", id)) // the connection may have ended already
		}
		return rows.Err()
	})
}

func faultySQL(t *testing.T, server *servers.Instance, driver string, dialects []sqlstore.Dialect, cut func(context.Context, *sql.DB) error) faultyBackend {
	connect := func(conns int) *sql.DB {
		db, err := openPool(driver, server.Address, conns)
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() }) // a connection may be broken
		return db
	}
	stores := make(map[string]state.Store)
	for _, d := range dialects {
		s, err := sqlstore.NewStates(connect(20), d, sqlstore.Config{})
		require.NoError(t, err)
		require.NoError(t, s.CreateTable(patient(t)))
		stores[d.String()] = s
	}
	admin := connect(1)
	return faultyBackend{stores, server, func(ctx context.Context) error { return cut(ctx, admin) }}
}

// TestStateStoreFaults lets the store's server fail in the middle of 200 logins, or of
// 1,000 in the long run.
func TestStateStoreFaults(t *testing.T) {
	t.Parallel()
	for _, b := range faultyBackends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			backend := b.open(t)
			for name, fault := range map[string]func(r *faultRun){
				"killed and restarted": func(r *faultRun) {
					backend.server.Kill()
					r.outage()
					backend.server.Start()
				},
				"paused and resumed": func(r *faultRun) {
					backend.server.Pause()
					r.outage()
					backend.server.Resume()
				},
				"connections cut": func(r *faultRun) { r.cuts(backend.cut) },
			} {
				for dialect, store := range backend.stores {
					t.Run(dialect+" "+name, func(t *testing.T) { runFault(t, store, fault) })
				}
			}
		})
	}
}

// impatience is the time limit of a call while the server is down.
const impatience = 500 * time.Millisecond

// faultRun is many logins at one provider.
type faultRun struct {
	t        *testing.T
	provider *shangcloud.Provider
	platform *shangcloudtest.Server
	all      sync.WaitGroup // of the logins

	completed, unavailable, gone atomic.Int64
}

// outage waits until every earlier call must have timed out, and the store has failed for
// at least one login. It starts logins itself, because all others may have ended before
// the server went down.
func (r *faultRun) outage() {
	begin := time.Now()
	time.Sleep(2 * impatience)
	for r.unavailable.Load() == 0 && time.Since(begin) < patience {
		r.attempt()
	}
}

// attempt is a whole login by a browser that waits only for impatience.
func (r *faultRun) attempt() {
	if l := r.start(r.provider, impatience); l != nil {
		r.finish(l, 1, impatience)
	}
}

// cuts ends the connections at least ten times. It continues until the store has failed
// for at least one login.
func (r *faultRun) cuts(cut func(context.Context) error) {
	begin := time.Now()
	for n := 0; n < 10 || r.unavailable.Load() == 0 && time.Since(begin) < patience; n++ {
		for range 5 {
			r.all.Go(r.attempt)
		}
		assert.NoError(r.t, cut(patient(r.t)))
		time.Sleep(20 * time.Millisecond)
	}
}

func newFaultProvider(t *testing.T, platform *shangcloudtest.Server, store state.Store) *shangcloud.Provider {
	p, err := shangcloud.New(&oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: "https://app.example/callback", Endpoint: shangcloud.EndpointAt(platform.URL),
	}, &oauth2login.Options{
		HTTPClient: &http.Client{Transport: platform.Transport()}, States: store, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	return p
}

func runFault(t *testing.T, store state.Store, fault func(r *faultRun)) {
	platform := shangcloudtest.New()
	t.Cleanup(func() { assert.NoError(t, platform.Close()) })
	platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{"https://app.example/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001})
	r := &faultRun{t: t, provider: newFaultProvider(t, platform, store), platform: platform}
	// stranger keeps its states elsewhere, so store never contains them.
	stranger := newFaultProvider(t, platform, state.NewMemory(0))

	logins := 200
	if long {
		logins = 1000
	}
	down, up := make(chan struct{}), make(chan struct{})
	var early sync.WaitGroup
	early.Add(logins / 2)
	for i := range logins {
		r.all.Go(func() {
			limit := impatience
			wait := func(c <-chan struct{}) { <-c }
			var l *faultLogin
			switch i % 4 {
			case 0: // starts before the fault, and may end during it
				l = r.start(r.provider, patience)
				early.Done()
			case 1: // starts before the fault, and ends during it
				l = r.start(r.provider, patience)
				early.Done()
				wait(down)
			case 2: // starts and ends during the fault
				wait(down)
				l = r.start(r.provider, impatience)
			case 3: // starts during the fault, and ends after it
				wait(down)
				l = r.start(r.provider, impatience)
				wait(up)
				limit = patience
			}
			if i%10 == 9 {
				r.finishStranger(r.start(stranger, patience), impatience)
			}
			if l != nil {
				r.finish(l, 1+i%3, limit)
			}
		})
	}
	early.Wait()
	late := time.AfterFunc(3*patience, func() { panic("a login does not end") })
	defer late.Stop()
	close(down)
	fault(r)
	close(up)
	r.all.Wait()
	t.Logf("%d logins completed; the store failed for %d; %d were gone", r.completed.Load(), r.unavailable.Load(), r.gone.Load())
	assert.NotZero(t, r.completed.Load())
	assert.NotZero(t, r.unavailable.Load())

	// The store must recover without help.
	begun := time.Now()
	for well := 0; well < 50; well++ {
		l := r.start(r.provider, patience)
		if l != nil && r.finish(l, 1, patience) {
			continue
		}
		well = 0
		require.Less(t, time.Since(begun), patience, "it does not recover")
	}
}

// faultLogin is a pending login. Each login has a separate browser.
type faultLogin struct {
	jar         http.CookieJar
	callbackURL string
}

func (r *faultRun) call(limit time.Duration, jar http.CookieJar, address string, f func(http.ResponseWriter, *http.Request) error) (*httptest.ResponseRecorder, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, "GET", address, nil)
	for _, c := range jar.Cookies(req.URL) {
		req.AddCookie(c)
	}
	w := httptest.NewRecorder()
	return w, f(w, req)
}

// start starts a login. If the store fails, start returns nil, and the browser must not be
// redirected.
func (r *faultRun) start(p *shangcloud.Provider, limit time.Duration) *faultLogin {
	jar, err := cookiejar.New(nil)
	if !assert.NoError(r.t, err) {
		return nil
	}
	w, err := r.call(limit, jar, "https://app.example/login", func(w http.ResponseWriter, req *http.Request) error { return p.StartLogin(w, req) })
	if err != nil {
		assert.ErrorIs(r.t, err, oauth2login.ErrStateStore)
		assert.Empty(r.t, w.Header().Get("Location"))
		assert.Empty(r.t, w.Result().Cookies())
		r.unavailable.Add(1)
		return nil
	}
	jar.SetCookies(&url.URL{Scheme: "https", Host: "app.example", Path: "/"}, w.Result().Cookies())
	callbackURL, err := r.platform.Approve(w.Header().Get("Location"), 10001)
	if !assert.NoError(r.t, err) {
		return nil
	}
	return &faultLogin{jar, callbackURL}
}

func (r *faultRun) finishOnce(l *faultLogin, limit time.Duration) (login *oauth2login.Login, err error) {
	_, err = r.call(limit, l.jar, l.callbackURL, func(w http.ResponseWriter, req *http.Request) error {
		var err error
		login, err = r.provider.FinishLogin(w, req)
		if (login != nil) == (err != nil) {
			err = errors.Join(err, errors.New("a login with an error, or neither"))
		}
		return err
	})
	return login, err
}

// finish sends the callback several times at once. At most one call is accepted. Other
// calls may get a copy of its result. If a call does not find the state, another call has
// taken the state, or may have taken it before an error. So if there is only one call, it
// must find the state.
func (r *faultRun) finish(l *faultLogin, times int, limit time.Duration) bool {
	var wg sync.WaitGroup
	errs, logins := make([]error, times), make([]*oauth2login.Login, times)
	for i := range times {
		wg.Go(func() { logins[i], errs[i] = r.finishOnce(l, limit) })
	}
	wg.Wait()
	accepted, unknown, gone, spent := 0, 0, 0, 0
	for i, err := range errs {
		switch {
		case err == nil && logins[i].Repeated:
		case err == nil:
			accepted++
		case errors.Is(err, oauth2login.ErrStateStore):
			unknown++
		case errors.Is(err, oauth2login.ErrStateNotFound):
			gone++
		case errors.Is(err, oauth2login.ErrUnavailable):
			spent++ // timed out after it had taken the state
		case times > 1 && errors.Is(err, context.DeadlineExceeded): // waited for the result of another callback
		default:
			assert.NoError(r.t, err)
		}
	}
	assert.LessOrEqual(r.t, accepted+spent, 1, "a state is taken twice")
	if gone > 0 {
		assert.NotZero(r.t, accepted+spent+unknown, "a state was lost")
	}
	r.completed.Add(int64(accepted))
	r.unavailable.Add(int64(unknown))
	r.gone.Add(int64(gone))
	return accepted == 1
}

// finishStranger tries to finish a login of a browser with the right cookie. The state was
// never stored, so the login must fail.
func (r *faultRun) finishStranger(l *faultLogin, limit time.Duration) {
	if !assert.NotNil(r.t, l) {
		return
	}
	_, err := r.finishOnce(l, limit)
	assert.True(r.t, errors.Is(err, oauth2login.ErrStateNotFound) || errors.Is(err, oauth2login.ErrStateStore), "%v", err)
}
