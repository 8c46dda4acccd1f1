package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRoomNew(t *testing.T) {
	s, edge, room := newRooms(t)
	assert.Regexp(t, `^[0-9a-f-]{36}$`, room)
	assert.Regexp(t, `^\{"room_id":"[0-9a-f-]{36}"\}\n$`, succeed(t, "room", "new", "--json"))
	assert.Equal(t, []string{"10001"}, edge.Members(room))

	s.Configure(func(set *shangcloudtest.Settings) { set.Authorization = shangcloudtest.TypedAuthorization })
	assert.Equal(t, exitLoginRequired, shangcloudRun(t, "room", "new").code)
	assert.NotEmpty(t, succeed(t, "room", "new", "--typed-token"))
	s.Configure(func(set *shangcloudtest.Settings) { set.Authorization = shangcloudtest.AnyAuthorization })

	s.Fault("/api/mmo/room/config", shangcloudtest.Fault{Times: 1, Status: 503})
	r := shangcloudRun(t, "room", "new", "--multi-login")
	assert.Equal(t, exitUnavailable, r.code)
	assert.Regexp(t, `^shangcloud: the room [0-9a-f-]{36} is there, but has no --multi-login: `, r.stderr)
	assert.Empty(t, r.stdout)
}

// An account that is in the room twice has two uids.
func TestRoomMultiLogin(t *testing.T) {
	_, edge, _ := newRooms(t)
	room := strings.TrimSpace(succeed(t, "room", "new", "--multi-login"))
	first := visitRoom(t, "join", room)
	first.out.await(t, "* In the room: 小云 (10001", 1)
	second := visitRoom(t, "join", room)
	first.out.await(t, " joined", 1)
	second.out.await(t, "* In the room: ", 1)
	assert.Len(t, edge.Members(room), 3, "with the one who made it")
	for _, v := range []*visitor{first, second} {
		v.cancel()
		v.ends(exitOK)
	}
}

// Two users chat. What is secret stays off their screens.
func TestRoomChat(t *testing.T) {
	for _, protocol := range []string{mmo.ProtocolWebSocket, mmo.ProtocolTCP} {
		t.Run(protocol, func(t *testing.T) {
			_, edge, room := newRooms(t)
			where, _ := edge.Edge.URL(protocol)
			yun := visitRoom(t, "chat", room, "--protocol", protocol)
			yun.err.await(t, "Connected to "+where+". Ctrl-D leaves.\n", 1)
			yun.out.await(t, "* In the room: 小云 (10001)\n", 1)
			other := visitRoom(t, "chat", room, "--profile", "ada", "--name", "The Ada", "--protocol", protocol)
			yun.out.await(t, "* The Ada (10002) joined\n", 1)
			other.out.await(t, "* In the room: 小云 (10001), The Ada (10002)\n", 1)
			script := visitRoom(t, "join", room, "--profile", "ada", "--json", "--protocol", protocol) // replaces her
			other.ends(exitFailed)
			assert.Contains(t, other.err.String(), "shangcloud: the edge closed the connection: you were kicked, or have joined elsewhere")
			yun.out.await(t, "* Ada (10002) joined\n", 1)

			yun.say("hello")
			yun.say("")
			yun.say("wie geht's? 你好")
			require.NoError(t, yun.in.Close())
			yun.ends(exitOK)
			assert.Equal(t, 1, strings.Count(yun.out.String(), "In the room"))
			script.out.await(t, `{"event":"broadcast","extra":"","message":"hello","uid":"10001"}`+"\n", 1)
			script.out.await(t, `"message":"wie geht's? 你好"`, 1)
			script.out.await(t, `{"event":"left","uid":"10001"}`+"\n", 1)
			script.cancel()
			script.ends(exitOK)
			assert.Contains(t, script.out.String(), fmt.Sprintf(`{"edge_url":"%s","event":"connected","protocol":"%s","room_id":"%s"}`, where, protocol, room))
			assert.Equal(t, 2, strings.Count(script.out.String(), "broadcast"))
			assert.Empty(t, script.err.String())
			for _, v := range []*visitor{yun, other, script} {
				for _, key := range edge.keys {
					assert.NotContains(t, v.out.String()+v.err.String(), key)
				}
			}
		})
	}
}

func TestRoomChatPipe(t *testing.T) {
	s, edge, room := newRooms(t)
	listener := visitRoom(t, "join", room, "--profile", "ada")
	listener.err.await(t, "Ctrl-C leaves.", 1)
	listener.out.await(t, "In the room", 1)
	chat := func(stdin io.Reader) result { return shangcloudStdin(t, stdin, "room", "chat", room) }

	r := chat(strings.NewReader("a last line without its end"))
	assert.Equal(t, exitOK, r.code, r.stderr)
	listener.out.await(t, "小云 (10001): a last line without its end\n", 1)

	r = chat(strings.NewReader("half a letter \xe4\nall of it\n"))
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "Not said: ")
	assert.Contains(t, r.stderr, "shangcloud: 1 of the lines could not be said\n")
	listener.out.await(t, ": all of it\n", 1)

	r = shangcloudStdin(t, strings.NewReader("\xff"), "room", "chat", room, "--json")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stdout, `{"error":"the message can't be sent: `)
	assert.Contains(t, r.stdout, `,"event":"not_said"}`)

	r = chat(endless{})
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.stderr, "longer than 1 MiB")
	r = chat(io.MultiReader(strings.NewReader("before\n"), broken{}))
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "standard input: it broke")
	listener.out.await(t, ": before\n", 1)

	// What can't be printed ends the visit.
	var stderr bytes.Buffer
	assert.Equal(t, exitFailed, run(t.Context(), []string{"room", "join", room}, strings.NewReader(""), fullDisk{}, &stderr))
	assert.Contains(t, stderr.String(), "no space")
	assert.Equal(t, exitFailed, run(t.Context(), []string{"room", "join", room, "--json"}, strings.NewReader(""), fullDisk{}, io.Discard))
	// The edge learns of the end of a connection a moment later.
	assert.Eventually(t, func() bool { return !slices.Contains(edge.Members(room), "10001") }, time.Minute, time.Millisecond)

	s.EndRoom(room)
	listener.ends(exitFailed)
	assert.True(t, strings.HasSuffix(listener.err.String(), "\nshangcloud: the room has ended\n"), listener.err.String())
}

// The owner kicks a user, who stays away.
func TestRoomKick(t *testing.T) {
	_, edge, room := newRooms(t)
	yun := visitRoom(t, "chat", room)
	yun.out.await(t, "In the room", 1)
	other := visitRoom(t, "chat", room, "--profile", "ada")
	yun.out.await(t, "Ada (10002) joined", 1)
	session := openSession(t)
	require.NoError(t, mmo.NewClient(session.provider.API(session.login)).Kick(t.Context(), room, "10002"))
	other.ends(exitFailed)
	assert.Contains(t, other.err.String(), "you were kicked")
	yun.out.await(t, "* Ada (10002) left\n", 1)
	assert.Equal(t, []string{"10001"}, edge.Members(room))
	yun.cancel()
	yun.ends(exitOK)
}

// After a cut both kinds of output say so, and a line that was typed meanwhile is said.
func TestRoomReconnects(t *testing.T) {
	_, edge, room := newRooms(t)
	yun := visitRoom(t, "chat", room)
	yun.out.await(t, "In the room", 1)
	script := visitRoom(t, "join", room, "--json", "--profile", "ada")
	script.out.await(t, `"members"`, 1)
	edge.Cut(room, "10001")
	yun.err.await(t, "Connection lost: no connection to the edge: ", 1)
	yun.say("I am back")
	yun.err.await(t, "Connected to ", 2)
	script.out.await(t, "I am back", 1)
	assert.Contains(t, yun.err.String(), ". Joins again in 1s.\n")

	// Ctrl-C leaves, also while there is no connection.
	edge.Cut(room, "10001")
	yun.err.await(t, "Connection lost", 2)
	yun.cancel()
	yun.ends(exitOK)

	edge.Cut(room, "10002")
	script.out.await(t, `{"error":"no connection to the edge: `, 1)
	script.out.await(t, `"event":"lost","retry_seconds":`, 1)
	script.out.await(t, `"event":"connected"`, 2)
}

// A line that the connection did not take is kept for the next connection.
func TestRoomKeepsTheLine(t *testing.T) {
	edge := mmotest.NewEdge(t)
	edge.Admit("room", "key", "1")
	where, _ := edge.URL(mmo.ProtocolTCP)
	conn, err := mmo.Dial(t.Context(), mmo.ProtocolTCP, where, "key", &mmo.DialOptions{UID: "1"})
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	v := &visit{input: readLines(t.Context(), strings.NewReader("hello\n"))}
	answered := make(chan struct{}, 1)
	answered <- struct{}{}
	require.ErrorIs(t, v.talk(t.Context(), conn, answered), net.ErrClosed)
	assert.Equal(t, "hello", v.pending)
}

// Others can neither control the terminal nor forge a second line.
func TestRoomTextIsPrintable(t *testing.T) {
	_, edge, room := newRooms(t)
	text, script := visitRoom(t, "join", room), visitRoom(t, "join", room, "--json", "--profile", "ada")
	text.out.await(t, "Ada (10002)", 1)
	script.out.await(t, `"members"`, 1)

	const evil = "\x1b]0;title\x07\x1b[2J\u009b31m\x7f\r\n* 小云 (10001): forged\u202e\u2066"
	edge.Admit(room, "evil", "66")
	where, _ := edge.Edge.URL(mmo.ProtocolTCP)
	conn, err := mmo.Dial(t.Context(), mmo.ProtocolTCP, where, "evil", &mmo.DialOptions{UID: "66" + evil, Nickname: evil})
	require.NoError(t, err)
	require.NoError(t, conn.Broadcast(t.Context(), evil, evil))
	require.NoError(t, conn.SetVars(t.Context(), map[string]string{evil: evil}))
	require.NoError(t, conn.Send(t.Context(), evil))
	require.NoError(t, conn.Close())
	text.out.await(t, " left\n", 1)
	script.out.await(t, `"left"`, 1)
	for _, v := range []*visitor{text, script} {
		shown := v.out.String()
		assert.Contains(t, shown, "title")
		for _, control := range []string{"\x1b", "\x07", "\u009b", "\x7f", "\r", "\u202e", "\u2066", "\n* 小云 (10001): forged"} {
			assert.NotContains(t, shown, control)
		}
	}
	assert.Contains(t, script.out.String(), `\u001b]0;title\u0007\u001b[2J\u009b31m\u007f\r\n`, "a script gets all of it")
}

func TestRoomExitCodes(t *testing.T) {
	unknown := "550e8400-e29b-41d4-a716-446655440000"
	for name, row := range map[string]struct {
		args  []string
		set   func(s *shangcloudtest.Server, edge *keptEdge)
		code  int
		error string
	}{
		"room prints help":   {[]string{}, nil, exitOK, ``},
		"unknown room":       {[]string{"join", unknown}, nil, exitFailed, `there is no such room`},
		"unknown room, chat": {[]string{"chat", unknown}, nil, exitFailed, `there is no such room`},
		"no ID":              {[]string{"join"}, nil, exitUsage, `accepts 1 arg`},
		"empty ID":           {[]string{"join", ""}, nil, exitUsage, `room ID`},
		"newline in the ID":  {[]string{"chat", "a\nb"}, nil, exitUsage, `room ID`},
		"protocol":           {[]string{"join", "ID", "--protocol", "udp"}, nil, exitUsage, `neither tcp nor websocket`},
		"long name":          {[]string{"chat", "ID", "--name", strings.Repeat("x", 1025)}, nil, exitUsage, `--name: `},
		"platform fails": {[]string{"join", "ID"}, func(s *shangcloudtest.Server, _ *keptEdge) {
			s.Fault("/api/mmo/room/join", shangcloudtest.Fault{Status: 503})
		}, exitUnavailable, `503`},
		"platform fails, new": {[]string{"new"}, func(s *shangcloudtest.Server, _ *keptEdge) {
			s.Fault("/api/mmo/room/new", shangcloudtest.Fault{Drop: true})
		}, exitUnavailable, ``},
		"user can't be asked": {[]string{"join", "ID"}, func(s *shangcloudtest.Server, _ *keptEdge) {
			s.Fault("/api/user/info", shangcloudtest.Fault{Status: 500})
		}, exitUnavailable, `500`},
		"edge is gone": {[]string{"chat", "ID"}, func(_ *shangcloudtest.Server, e *keptEdge) { _ = e.Close() }, exitUnavailable, `no connection to the edge`},
		"edge refuses": {[]string{"join", "ID"}, func(_ *shangcloudtest.Server, e *keptEdge) {
			e.Configure(func(s *mmotest.Settings) { s.Now = anHourAhead })
		}, exitFailed, `clock`},
		"edge is far away":       {[]string{"join", "ID"}, func(_ *shangcloudtest.Server, e *keptEdge) { e.url = "ws://edge.example:80/ws" }, exitUsage, `--allow-plaintext allows that`},
		"edge has an odd URL":    {[]string{"join", "ID"}, func(_ *shangcloudtest.Server, e *keptEdge) { e.url = "tcp://edge" }, exitFailed, `edge URL`},
		"not logged in":          {[]string{"new", "--profile", "x"}, nil, exitLoginRequired, `; run: shangcloud login --profile x`},
		"login has been revoked": {[]string{"join", "ID"}, func(s *shangcloudtest.Server, _ *keptEdge) { s.Revoke(testUser) }, exitLoginRequired, `; run: shangcloud login`},
	} {
		t.Run(name, func(t *testing.T) {
			s, edge, room := newRooms(t)
			if row.set != nil {
				row.set(s, edge)
			}
			args := []string{"room"}
			for _, arg := range row.args {
				args = append(args, strings.Replace(arg, "ID", room, 1))
			}
			r := shangcloudRun(t, args...)
			assert.Equal(t, row.code, r.code, r.stderr)
			assert.Contains(t, r.stderr, row.error)
			if row.code != exitOK {
				assert.Equal(t, 1, strings.Count(r.stderr, "\n"), "one line: %s", r.stderr)
				assert.NotContains(t, r.stderr, "mmo: ")
			}
		})
	}
}

// Before the first connection Ctrl-C is an interruption.
func TestRoomInterrupt(t *testing.T) {
	s, _, room := newRooms(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.Fault("/api/mmo/room/join", shangcloudtest.Fault{Before: func(*http.Request) { cancel() }, Delay: time.Hour})
	var stderr bytes.Buffer
	assert.Equal(t, exitInterrupted, run(ctx, []string{"room", "chat", room}, strings.NewReader(""), io.Discard, &stderr))
	assert.Equal(t, "shangcloud: interrupted\n", stderr.String())
}

func anHourAhead() time.Time { return inAnHour() }

// A login without a scope is told which command helps. One that is known to have all is not.
func TestScopeIsMissing(t *testing.T) {
	s, _, room := newRooms(t)
	s.AutoApprove(testUser)
	logIn(t, s, inAnHour(), "user:basic")
	for _, args := range [][]string{{"room", "new"}, {"room", "join", room}, {"var", "get", "k"}} {
		r := shangcloudRun(t, args...)
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.stderr, `insufficient_scope; if the login lacks a scope, run: shangcloud login --scopes "user:basic var:io mmo"`+"\n")
	}
	stderr := &watcher{pattern: userCode, seen: func(code string) { assert.NoError(t, s.ApproveDevice(code, testUser)) }}
	require.Zero(t, run(t.Context(), []string{"login", "--device"}, strings.NewReader(""), io.Discard, stderr))
	succeed(t, "room", "new")
	s.Fault("/api/mmo/room/new", shangcloudtest.Fault{Status: 403})
	r := shangcloudRun(t, "room", "new")
	assert.Equal(t, exitFailed, r.code)
	assert.NotContains(t, r.stderr, "run: ")
}

// The edge is on another machine, as far as the address tells.
func TestRoomPlaintext(t *testing.T) {
	s, _, room := newRooms(t)
	edge, err := mmotest.Start(net.JoinHostPort(ownAddress(t), "0"))
	require.NoError(t, err)
	defer edge.Close()
	s.SetEdge(edge)
	assert.Equal(t, exitUsage, shangcloudRun(t, "room", "join", room).code)
	v := visitRoom(t, "chat", room, "--allow-plaintext")
	v.out.await(t, "In the room", 1)
	require.NoError(t, v.in.Close())
	v.ends(exitOK)
}

// ownAddress returns an address of this machine that is not a loopback address.
func ownAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addresses {
		if ip := a.(*net.IPNet).IP; !ip.IsLoopback() && ip.To4() != nil {
			return ip.String()
		}
	}
	skip(t, "this machine has no network")
	return ""
}

func TestRoomPrinter(t *testing.T) {
	many := mmo.Members{Count: 40}
	for i := range 30 {
		many.List = append(many.List, mmo.Member{UID: fmt.Sprint("u", i)})
	}
	cmd := newWhoami()
	var out bytes.Buffer
	cmd.SetOut(&out)
	p := newRoomPrinter(cmd, false)
	for _, row := range []struct {
		event mmo.Event
		want  string
	}{
		{mmo.Members{Count: 1, List: []mmo.Member{{UID: "1", Nickname: "Ada"}}}, "* In the room: Ada (1)"},
		{mmo.Broadcast{UID: "1", Message: "a\nb", Extra: "x"}, "Ada (1): a; b [x]"},
		{mmo.Broadcast{Message: "psst"}, "somebody: psst"},
		{mmo.Broadcast{UID: "2", Message: "new"}, "2: new"},
		{mmo.MemberJoined{UID: "2", Nickname: strings.Repeat("好", 41)}, "* " + strings.Repeat("好", 40) + "… (2) joined"},
		{mmo.MemberJoined{UID: strings.Repeat("9", 300), Nickname: "long"}, "* " + strings.Repeat("9", 40) + "… joined"},
		{mmo.MemberLeft{UID: "1"}, "* Ada (1) left"},
		{mmo.Broadcast{UID: "1", Message: "late"}, "1: late"},
		{mmo.Vars{UID: "2", Vars: map[string]string{"y": "a b", "x": "1"}}, "* " + strings.Repeat("好", 40) + `… (2) x=1 y="a b"`},
		{mmo.Text("{}"), "text: {}"},
		{many, "* In the room: u0, u1, u2, u3, u4, u5, u6, u7, u8, u9, u10, u11, u12, u13, u14, u15, u16, u17, u18, u19 and 20 more"},
	} {
		out.Reset()
		require.NoError(t, p.event(row.event))
		assert.Equal(t, row.want+"\n", out.String())
	}
	for i := range maxNames + 10 {
		p.learn(mmo.Member{UID: fmt.Sprint(i), Nickname: "n"})
	}
	assert.Len(t, p.names, maxNames)

	p = newRoomPrinter(cmd, true)
	for _, row := range []struct {
		event mmo.Event
		want  string
	}{
		{mmo.Members{Count: 2, List: []mmo.Member{{UID: "1", Nickname: "Ada"}}}, `{"event":"members","count":2,"members":[{"uid":"1","nickname":"Ada"}]}`},
		{mmo.MemberJoined{UID: "2", Nickname: "<b>"}, `{"event":"joined","uid":"2","nickname":"<b>"}`},
		{mmo.MemberLeft{UID: "2"}, `{"event":"left","uid":"2"}`},
		{mmo.Vars{UID: "2", Vars: map[string]string{"x": "1"}, Interpolate: []string{"x"}}, `{"event":"vars","uid":"2","vars":{"x":"1"},"interpolate":["x"]}`},
		{mmo.Text("hi"), `{"event":"text","text":"hi"}`},
	} {
		out.Reset()
		require.NoError(t, p.event(row.event))
		assert.JSONEq(t, row.want, out.String())
	}
}
