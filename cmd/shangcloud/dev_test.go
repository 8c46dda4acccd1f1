package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pointAt makes the program use the running platform d and an empty store.
func pointAt(t *testing.T, d *devRun) {
	t.Helper()
	t.Setenv("SHANGCLOUD_BASE_URL", d.URL)
	t.Setenv("SHANGCLOUD_CLIENT_ID", devPublic)
	useFile(t)
}

// TestDev logs in, sets a variable, and reads the same variable after a restart.
func TestDev(t *testing.T) {
	data := filepath.Join(t.TempDir(), "variables.json")
	require.NoError(t, os.WriteFile(data, []byte(`{"10009":{"of":"a user who is not there"}}`), 0o600))
	for i, want := range []string{"", "dark"} {
		d := startDev(t, "--auto-approve", "--data", data, "--user", "10007=Mei")
		pointAt(t, d)
		assert.Contains(t, succeed(t, "login", "--device"), "as Mei (10007)")
		assert.Equal(t, want, succeed(t, "var", "get", "theme"))
		succeed(t, "var", "set", "theme", "dark")
		secret := strings.TrimSpace(succeed(t, "token"))
		assert.Zero(t, d.stop())
		assert.NotContains(t, d.log.String(), secret, i)
		assert.NotContains(t, d.log.String(), "dark", "values are the users' own")
		assert.Contains(t, d.log.String(), "POST /api/varibles action=write key=theme value=*** [Bearer ***]: 200")
	}
	kept, err := os.ReadFile(data)
	require.NoError(t, err)
	assert.JSONEq(t, `{"10007":{"theme":"dark"},"10009":{"of":"a user who is not there"}}`, string(kept))
}

func TestDevIntroduces(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte(testSecret), 0o600))
	for name, row := range map[string]struct {
		args  []string
		shows []string
	}{
		"defaults":      {nil, []string{"Client ID      app\n", "Rooms          tcp://127.0.0.1:", "Client secret  dev-secret\n", "http://127.0.0.1/callback  (any port)", "10001 小云\n", "SHANGCLOUD_CLIENT_ID=cli"}},
		"own client":    {[]string{"--client-id", "shop", "--client-secret-file", secret, "--redirect-uri", "https://shop.example/back"}, []string{"Client ID      shop\n", "as in " + secret, "https://shop.example/back\n"}},
		"own users":     {[]string{"--user", "5=\x1b[2J", "--user", "7"}, []string{"5 \ufffd[2J\n", "  7 \n"}},
		"all addresses": {[]string{"--addr", "0.0.0.0:0", "--allow-remote"}, []string{"http://127.0.0.1:"}},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout strings.Builder
			o := &interruptAfter{Writer: &stdout, text: "Requests:\n"}
			code := o.run(t, append([]string{"dev", "--addr", "127.0.0.1:0"}, row.args...))
			assert.Zero(t, code)
			for _, text := range row.shows {
				assert.Contains(t, stdout.String(), text)
			}
			assert.NotContains(t, stdout.String(), testSecret)
			for line := range strings.Lines(stdout.String()) {
				if strings.Contains(line, secret) {
					continue // as long as the path is
				}
				assert.LessOrEqual(t, utf8.RuneCountInString(line), 80, line)
			}
		})
	}
}

func TestDevUsage(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	noJSON := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.WriteFile(noJSON, []byte("[]"), 0o600))
	for name, row := range map[string]struct {
		args  []string
		code  int
		error string
	}{
		"all addresses":           {[]string{"--addr", "0.0.0.0:0"}, exitUsage, "other machines"},
		"all addresses, no host":  {[]string{"--addr", ":0"}, exitUsage, "other machines"},
		"a name":                  {[]string{"--addr", "shangcloud.test:0"}, exitUsage, "other machines"},
		"no port":                 {[]string{"--addr", "127.0.0.1"}, exitUsage, "missing port"},
		"port in use":             {[]string{"--addr", taken.Addr().String()}, exitFailed, taken.Addr().String()},
		"user without ID":         {[]string{"--user", "Ada"}, exitUsage, "--user Ada"},
		"user 0":                  {[]string{"--user", "0=Ada"}, exitUsage, "above zero"},
		"relative redirect URI":   {[]string{"--redirect-uri", "/callback"}, exitUsage, "absolute"},
		"client of the same name": {[]string{"--client-id", devPublic}, exitUsage, "--client-id"},
		"missing secret":          {[]string{"--client-secret-file", "/nowhere"}, exitUsage, "/nowhere"},
		"edge: all addresses":     {[]string{"--edge-addr", ":0"}, exitUsage, "--edge-addr :0: other machines"},
		"edge: no port":           {[]string{"--edge-addr", "127.0.0.1"}, exitUsage, "--edge-addr"},
		"edge: port in use":       {[]string{"--edge-addr", taken.Addr().String()}, exitFailed, "--edge-addr takes another port"},
		"edge: a status":          {[]string{"--fault", "edge=503"}, exitUsage, "after edge= comes drop"},
		"unknown part":            {[]string{"--fault", "login=503"}, exitUsage, "authorize, device, edge, room, token, user-info, variables"},
		"no fault":                {[]string{"--fault", "token"}, exitUsage, "after token= comes"},
		"status 200":              {[]string{"--fault", "token=200"}, exitUsage, "from 400 to 599"},
		"no time":                 {[]string{"--fault", "token=slow=2"}, exitUsage, "such as 2s"},
		"two faults":              {[]string{"--fault", "token=503", "--fault", "token=drop"}, exitUsage, "already"},
		"data that is not ours":   {[]string{"--data", noJSON}, exitFailed, "not what this program has written"},
		"data that is a folder":   {[]string{"--data", t.TempDir()}, exitFailed, "--data"},
		"argument":                {[]string{"x"}, exitUsage, "unknown command"},
	} {
		t.Run(name, func(t *testing.T) {
			r := shangcloudRun(t, append([]string{"dev", "--addr", "127.0.0.1:0"}, row.args...)...)
			assert.Equal(t, row.code, r.code, r.stderr)
			assert.Contains(t, r.stderr, row.error)
			assert.Empty(t, r.stdout)
		})
	}
}

func TestDevFaults(t *testing.T) {
	d := startDev(t, "--auto-approve", "--fault", "user-info=503", "--fault", "variables=drop", "--fault", "authorize=slow=1ms")
	pointAt(t, d)
	assert.Contains(t, succeed(t, "login", "--device"), "Logged in to "+d.URL+".\n")
	assert.Equal(t, exitUnavailable, shangcloudRun(t, "whoami").code)
	assert.Equal(t, exitUnavailable, shangcloudRun(t, "var", "get", "k").code)
	res, err := http.Get(d.URL + "/oauth/authorize?client_id=app&response_type=token&redirect_uri=http://127.0.0.1:9/callback&state=a%0Ab")
	if err == nil { // nobody listens at the redirect URI
		_ = res.Body.Close()
	}
	d.stop()
	log := d.log.String()
	assert.Contains(t, log, "/api/user/info [Bearer ***]: 503")
	assert.Contains(t, log, "the connection is dropped")
	assert.Contains(t, log, "response_type=token state=***: 302, unsupported_response_type")
}

// Ctrl-C ends requests that a fault holds back.
func TestDevEndsSlowRequests(t *testing.T) {
	d := startDev(t, "--fault", "token=slow=1h")
	arrived := make(chan error, 1)
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.URL, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /oauth/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n")
	require.NoError(t, err)
	go func() {
		_, err := io.ReadAll(conn)
		arrived <- err
	}()
	assert.Zero(t, d.stop())
	<-arrived
}

func TestDevLogMasksSecrets(t *testing.T) {
	d := startDev(t)
	send := func(method, path, contentType, body, authorization string) int {
		r, err := http.NewRequestWithContext(t.Context(), method, d.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Authorization", authorization)
		res, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	const form = "application/x-www-form-urlencoded"
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("app:"+devSecret))
	assert.Equal(t, 400, send("POST", "/oauth/token", form, "grant_type=authorization_code&code=c0de-1&code_verifier=ver1fier&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback", basic))
	assert.Equal(t, 400, send("POST", "/oauth/token?client_secret=qu3ry", form, "grant_type=refresh_token&refresh_token=r3fresh&client_secret=f0rm", ""))
	assert.Equal(t, 401, send("POST", "/api/user/info", "application/json", `{"access_token":"js0n","key":{"a":"b"}}`, "Bearer t0ken"))
	assert.Equal(t, 401, send("POST", "/api/user/info", "application/json", `["arr4y"]`, "bare-t0ken"))
	assert.Equal(t, 404, send("POST", "/unknown", "text/plain", "pl4in=1;x", ""))
	d.stop()
	log := d.log.String()
	for _, secret := range []string{"c0de", "ver1fier", "qu3ry", "r3fresh", "f0rm", "js0n", "t0ken", "arr4y", basic[6:], devSecret} {
		assert.NotContains(t, log, secret)
	}
	assert.Contains(t, log, "POST /oauth/token code=*** code_verifier=*** grant_type=authorization_code redirect_uri=http://127.0.0.1/callback [Basic ***]: 400, invalid_grant")
	assert.Equal(t, 5, strings.Count(log, "\n"))
}

// A stranger's web page can't reach the platform through the stranger's host name.
func TestDevOtherHosts(t *testing.T) {
	status := func(d *devRun, host string) int {
		r, err := http.NewRequestWithContext(t.Context(), "GET", d.URL+"/device", nil)
		require.NoError(t, err)
		r.Host = host
		res, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	d := startDev(t)
	for host, want := range map[string]int{"127.0.0.1": 200, "localhost:8787": 200, "[::1]:1": 200, "LOCALHOST": 200, "rebind.example": 421, "127.0.0.1.example:80": 421, "10.0.0.1": 421} {
		assert.Equal(t, want, status(d, host), host)
	}
	assert.Equal(t, 200, status(startDev(t, "--allow-remote"), "box.example"))
}

// The printed settings work with plain HTTP requests, as programs in other languages send
// them.
func TestDevOtherLanguages(t *testing.T) {
	d := startDev(t, "--auto-approve")
	q := url.Values{"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {"http://127.0.0.1:5000/callback"}, "state": {"s"}, "scope": {"user:basic"}}
	r, err := http.NewRequestWithContext(t.Context(), "GET", d.URL+"/oauth/authorize?"+q.Encode(), nil)
	require.NoError(t, err)
	res, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	back, err := res.Location()
	require.NoError(t, err)
	form := url.Values{"grant_type": {"authorization_code"}, "code": back.Query()["code"], "redirect_uri": q["redirect_uri"]}
	r, err = http.NewRequestWithContext(t.Context(), "POST", d.URL+"/oauth/token", strings.NewReader(form.Encode()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("app", devSecret)
	res, err = http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, 200, res.StatusCode)
}

// roomCall makes a call about a room as the official clients do, and returns the answer.
func roomCall(t *testing.T, d *devRun, authorization, room, name, body string) (status int, answer map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", d.URL+"/api/mmo/room/"+name, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", authorization)
	if room != "" {
		r.Header.Set("X-MMO-Room", room)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer res.Body.Close()
	require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
	return res.StatusCode, answer
}

// The rooms work with plain HTTP requests, with both forms of the token, and lead to an edge.
func TestDevRooms(t *testing.T) {
	d := startDev(t, "--auto-approve")
	pointAt(t, d)
	succeed(t, "login", "--device")
	token := strings.TrimSpace(succeed(t, "token"))
	status, created := roomCall(t, d, token, "", "new", "{}")
	require.Equal(t, 200, status)
	room := created["room_id"].(string)
	status, joined := roomCall(t, d, "Bearer "+token, room, "join", "{}")
	require.Equal(t, 200, status)
	assert.Equal(t, d.EdgeURL, joined["edge_url"])
	status, _ = roomCall(t, d, token, room, "data/set", `{"key":"map","value":"v4lue","type":"string"}`)
	assert.Equal(t, 200, status)
	status, _ = roomCall(t, d, token, room, "kick", `{"target_uid":"7"}`)
	assert.Equal(t, 200, status)

	key := joined["connect_key"].(string)
	conn, err := mmo.Dial(t.Context(), joined["protocol"].(string), d.EdgeURL, key, nil)
	require.NoError(t, err)
	assert.Zero(t, d.stop())
	for err == nil {
		_, err = conn.Read(t.Context())
	}
	require.ErrorIs(t, err, mmo.ErrClosedByEdge)
	require.NoError(t, conn.Close())
	log := d.log.String()
	for _, secret := range []string{token, key, created["connect_key"].(string), "v4lue"} {
		assert.NotContains(t, log, secret)
	}
	assert.Contains(t, log, "POST /api/mmo/room/data/set key=map type=string value=*** X-MMO-Room="+room+" [***]: 200")
	assert.Contains(t, log, "POST /api/mmo/room/kick target_uid=7 X-MMO-Room="+room+" [***]: 200")
}

func TestDevRoomFaults(t *testing.T) {
	d := startDev(t, "--auto-approve", "--fault", "room=503")
	pointAt(t, d)
	succeed(t, "login", "--device")
	assert.Equal(t, exitUnavailable, shangcloudRun(t, "room", "new").code)
	assert.Equal(t, exitUnavailable, shangcloudRun(t, "room", "join", "x").code)
	d.stop()
	assert.Contains(t, d.log.String(), "POST /api/mmo/room/join X-MMO-Room=x X-MMO-Protoctl=websocket [***]: 503")

	// The edge cuts a connection after some messages. The program comes back.
	d = startDev(t, "--auto-approve", "--fault", "edge=drop")
	pointAt(t, d)
	succeed(t, "login", "--device")
	room := strings.TrimSpace(succeed(t, "room", "new", "--multi-login"))
	v := visitRoom(t, "join", room)
	v.out.await(t, "In the room", 1)
	r := shangcloudStdin(t, strings.NewReader(strings.Repeat("x", edgeCut)), "room", "chat", room)
	require.Zero(t, r.code, r.stderr)
	v.err.await(t, "Connection lost", 1)
	v.err.await(t, "Connected to", 2)

	d = startDev(t, "--auto-approve", "--fault", "edge=slow=1ms")
	pointAt(t, d)
	succeed(t, "login", "--device")
	r = shangcloudStdin(t, strings.NewReader("hello"), "room", "chat", strings.TrimSpace(succeed(t, "room", "new")))
	assert.Zero(t, r.code, r.stderr)
}

// The edge is one port above the platform.
func TestDevEdgeAddress(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := free.Addr().(*net.TCPAddr).Port
	require.NoError(t, free.Close())
	o := devOptions{addr: "127.0.0.1:8787"}
	edge, err := o.startEdge(&net.TCPAddr{Port: port - 1})
	require.NoError(t, err)
	defer edge.Close()
	rooms, _ := edge.URL(mmo.ProtocolTCP)
	assert.Equal(t, fmt.Sprintf("tcp://127.0.0.1:%d", port), rooms)
	_, err = o.startEdge(&net.TCPAddr{Port: 65535})
	assert.ErrorContains(t, err, "65536")
}

// If the file can no longer be written, the log reports that and the platform continues.
func TestDevDataThatFails(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(folder, 0o700))
	d := startDev(t, "--auto-approve", "--data", filepath.Join(folder, "variables.json"))
	pointAt(t, d)
	succeed(t, "login", "--device")
	require.NoError(t, os.RemoveAll(folder))
	succeed(t, "var", "set", "k", "v")
	assert.Equal(t, "v", succeed(t, "var", "get", "k"))
	d.stop()
	assert.Contains(t, d.log.String(), "--data: ")
}

func TestDevLogLine(t *testing.T) {
	for value, want := range map[string]string{"": `""`, "a b": `"a b"`, "a\nb": `"a\nb"`, "a\x1b[2J": `"a\x1b[2J"`, "plain:1": "plain:1", strings.Repeat("x", 101): strings.Repeat("x", 100) + "…"} {
		assert.Equal(t, want, plain(value))
	}
}
