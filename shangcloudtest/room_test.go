package shangcloudtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

// roomUser makes calls about rooms with one access token.
type roomUser struct {
	t      *testing.T
	s      *shangcloudtest.Server
	access string
}

func newRoomUser(t *testing.T, s *shangcloudtest.Server, client string, uid int64) roomUser {
	access, _ := s.Issue(client, uid, "mmo")
	return roomUser{t, s, access}
}

// call makes a call about a room. If room is "", the call names no room.
func (u roomUser) call(name, room, body string, headers ...string) answer {
	u.t.Helper()
	headers = append(headers, "Content-Type", "application/json", "Authorization", u.access)
	if room != "" {
		headers = append(headers, "X-MMO-Room", room)
	}
	return send(u.t, "POST", u.s.URL+"/api/mmo/room/"+name, body, headers...)
}

// do makes a call that must succeed, and returns its answer.
func (u roomUser) do(name, room, body string, headers ...string) map[string]any {
	u.t.Helper()
	a := u.call(name, room, body, headers...)
	require.Equal(u.t, http.StatusOK, a.status, a.body)
	var v map[string]any
	require.NoError(u.t, json.Unmarshal([]byte(a.body), &v))
	return v
}

// create makes a room and returns its ID.
func (u roomUser) create() string {
	u.t.Helper()
	return u.do("new", "", "{}")["room_id"].(string)
}

func (u roomUser) count(room string) int {
	u.t.Helper()
	return int(u.do("usercount", room, "{}")["user_count"].(float64))
}

// data returns the text of the answer to data/get.
func (u roomUser) data(room string) string {
	u.t.Helper()
	a := u.call("data/get", room, "{}")
	require.Equal(u.t, http.StatusOK, a.status, a.body)
	return a.body
}

func TestRoomEntry(t *testing.T) {
	s := platform(t)
	owner, guest := newRoomUser(t, s, webClient, uid), newRoomUser(t, s, webClient, otherUID)
	created := owner.do("new", "", "{}", "X-MMO-Room", "")
	room := created["room_id"].(string)
	assert.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, room)
	assert.NotEqual(t, room, owner.create())
	assert.Equal(t, 1, owner.count(room), "the owner joins automatically")

	joined := guest.do("join", room, "{}", "x-mmo-protoctl", "websocket")
	for _, entry := range []map[string]any{created, joined} {
		assert.Len(t, entry, 4)
		assert.NotEmpty(t, entry["connect_key"])
		assert.LessOrEqual(t, len(entry["connect_key"].(string)), 256)
		assert.Equal(t, room, entry["room_id"])
	}
	assert.NotEqual(t, created["connect_key"], joined["connect_key"])
	assert.Equal(t, "tcp", created["protocol"])
	assert.Equal(t, "tcp://127.0.0.1:1", created["edge_url"])
	assert.Equal(t, "websocket", joined["protocol"])
	assert.Equal(t, "ws://127.0.0.1:1/ws", joined["edge_url"])
	assert.Equal(t, "tcp", owner.do("new", "", "{}", "X-MMO-Protoctl", "tcp")["protocol"])
	assert.Equal(t, 2, guest.count(room))

	owner.do("kick", room, `{"target_uid":"10002"}`)
	assert.Equal(t, 1, owner.count(room))
	assert.Equal(t, map[string]any{"status": "ok", "message": ""}, owner.do("kick", room, `{"target_uid":"10002"}`), "nobody to kick")
	guest.do("join", room, "{}")
	assert.Equal(t, 2, owner.count(room))
}

func TestRoomMultiLogin(t *testing.T) {
	s := platform(t)
	owner := newRoomUser(t, s, webClient, uid)
	room := owner.create()
	assert.NotContains(t, owner.do("join", room, "{}"), "assigned_uid", "the new member replaces the old one")
	assert.Equal(t, 1, owner.count(room))

	assert.Equal(t, "ok", owner.do("config", room, `{"allow_multi_login":true}`)["status"])
	assert.Equal(t, "10001-2", owner.do("join", room, "{}")["assigned_uid"])
	assert.Equal(t, "10001-3", owner.do("join", room, "{}")["assigned_uid"])
	assert.Equal(t, 3, owner.count(room))
	owner.do("kick", room, `{"target_uid":"10001-2"}`)
	assert.Equal(t, "10001-2", owner.do("join", room, "{}")["assigned_uid"])
	assert.NotContains(t, newRoomUser(t, s, webClient, otherUID).do("join", room, "{}"), "assigned_uid", "another account")

	owner.do("config", room, `{"allow_multi_login":false}`)
	assert.NotContains(t, owner.do("join", room, "{}"), "assigned_uid")
	assert.Equal(t, 4, owner.count(room), "members with other UIDs stay")
}

func TestRoomData(t *testing.T) {
	s := platform(t)
	owner := newRoomUser(t, s, webClient, uid)
	room := owner.create()
	assert.JSONEq(t, `{"extra_data":{}}`, owner.data(room))
	for name, row := range map[string]struct{ value, kind, want string }{
		"string":             {`"hi"`, "", `"hi"`},
		"string by name":     {`"<\u0000\"键>"`, "string", `"<\u0000\"键>"`},
		"empty string":       {`""`, "", `""`},
		"null in a string":   {`"null"`, "string", `"null"`},
		"number as string":   {`8`, "", `"8"`},
		"boolean as string":  {`true`, "string", `"true"`},
		"number":             {`8`, "number", `8`},
		"quoted number":      {`"8"`, "number", `8`},
		"many digits":        {`12345678901234567890.123456789012345678901234567890`, "number", `12345678901234567890.123456789012345678901234567890`},
		"beyond float64":     {`"-1e999"`, "number", `-1e999`},
		"boolean":            {`false`, "boolean", `false`},
		"quoted boolean":     {`"true"`, "boolean", `true`},
		"no value":           {``, "", ``},
		"null":               {`null`, "", ``},
		"object":             {`{}`, "string", ``},
		"array":              {`[1]`, "", ``},
		"word as number":     {`"eight"`, "number", ``},
		"empty number":       {`""`, "number", ``},
		"null as number":     {`"null"`, "number", ``},
		"number with spaces": {`" 8"`, "number", ``},
		"number with quotes": {`"\"8\""`, "number", ``},
		"leading zero":       {`"08"`, "number", ``},
		"hexadecimal":        {`"0x8"`, "number", ``},
		"NaN":                {`"NaN"`, "number", ``},
		"boolean as number":  {`true`, "number", ``},
		"one as boolean":     {`1`, "boolean", ``},
		"True":               {`"True"`, "boolean", ``},
		"unknown type":       {`8`, "int", ``},
	} {
		t.Run(name, func(t *testing.T) {
			body := `{"key":"k"`
			if row.value != "" {
				body += `,"value":` + row.value
			}
			if row.kind != "" {
				body += `,"type":"` + row.kind + `"`
			}
			a := owner.call("data/set", room, body+"}")
			if row.want == "" {
				assert.Equal(t, http.StatusBadRequest, a.status, a.body)
				return
			}
			require.Equal(t, http.StatusOK, a.status, a.body)
			var got struct {
				Data map[string]json.RawMessage `json:"extra_data"`
			}
			require.NoError(t, json.Unmarshal([]byte(owner.data(room)), &got))
			if strings.HasPrefix(row.want, `"`) {
				assert.JSONEq(t, row.want, string(got.Data["k"]))
			} else {
				assert.Equal(t, row.want, string(got.Data["k"]), "byte for byte")
			}
		})
	}
	owner.do("data/set", room, `{"key":"k","value":1,"type":"number"}`)
	owner.do("data/set", room, `{"key":"b","value":true,"type":"boolean"}`)
	owner.do("data/set", room, `{"key":"s","value":"\""}`)
	s.Configure(func(set *shangcloudtest.Settings) { set.QuotedRoomData = true })
	assert.JSONEq(t, `{"extra_data":{"k":"1","b":"true","s":"\""}}`, newRoomUser(t, s, webClient, otherUID).data(room))
	owner.do("data/delete", room, `{"key":"b"}`)
	owner.do("data/delete", room, `{"key":"b"}`)
	assert.JSONEq(t, `{"extra_data":{"k":"1","s":"\""}}`, owner.data(room))
	assert.JSONEq(t, `{"extra_data":{}}`, owner.data(owner.create()), "rooms share no data")
}

// roomCalls are the eight calls, with a good body.
var roomCalls = map[string]struct {
	body             string
	noRoom, forOwner bool
}{
	"new":         {body: "{}", noRoom: true},
	"join":        {body: "{}"},
	"config":      {body: `{"allow_multi_login":true}`, forOwner: true},
	"data/set":    {body: `{"key":"max_players","value":"8","type":"number"}`, forOwner: true},
	"data/get":    {body: "{}"},
	"data/delete": {body: `{"key":"k"}`, forOwner: true},
	"kick":        {body: `{"target_uid":"1"}`, forOwner: true},
	"usercount":   {body: "{}"},
}

func TestRoomRefusals(t *testing.T) {
	s := platform(t)
	owner, guest := newRoomUser(t, s, webClient, uid), newRoomUser(t, s, webClient, otherUID)
	elsewhere := newRoomUser(t, s, publicClient, uid)
	room := owner.create()
	noScope, _ := s.Issue(webClient, uid, "user:basic", "var:io", "openid", "profile")
	refused := func(t *testing.T, a answer, status int, code string) {
		t.Helper()
		assert.Equal(t, status, a.status, a.body)
		assert.Equal(t, code, a.value(t, "error"))
		assert.Equal(t, status == 401 || code == "insufficient_scope", a.header.Get("WWW-Authenticate") != "")
	}
	for name, c := range roomCalls {
		t.Run(name, func(t *testing.T) {
			path := s.URL + "/api/mmo/room/" + name
			assert.Equal(t, http.StatusOK, owner.call(name, room, c.body).status)
			assert.Equal(t, http.StatusOK, send(t, "POST", path, c.body, "authorization", "bearer "+owner.access,
				"x-mmo-room", room, "content-type", "application/json; charset=utf-8").status)
			refused(t, roomUser{t, s, "unknown"}.call(name, room, c.body), 401, "invalid_token")
			refused(t, roomUser{t, s, "Basic " + owner.access}.call(name, room, c.body), 401, "invalid_token")
			refused(t, roomUser{t, s, "Bearer"}.call(name, room, c.body), 401, "invalid_token")
			refused(t, roomUser{t, s, noScope}.call(name, room, c.body), 403, "insufficient_scope")
			refused(t, owner.call(name, room, "[]"), 400, "invalid_request")
			refused(t, owner.call(name, room, ""), 400, "invalid_request")
			refused(t, send(t, "POST", path, "{}", "Authorization", owner.access), 415, "invalid_request")
			assert.Equal(t, "POST", send(t, "GET", path, "", "Authorization", owner.access).header.Get("Allow"))
			if c.noRoom {
				return
			}
			refused(t, owner.call(name, "", c.body), 400, "invalid_request")
			refused(t, owner.call(name, "550e8400-e29b-41d4-a716-446655440000", c.body), 404, "not_found")
			refused(t, elsewhere.call(name, room, c.body), 403, "access_denied")
			if c.forOwner {
				refused(t, guest.call(name, room, c.body), 403, "access_denied")
			} else {
				assert.Equal(t, http.StatusOK, guest.call(name, room, c.body).status)
			}
		})
	}
	for name, row := range map[string]struct{ call, body, header string }{
		"udp":                {"new", "{}", "udp"},
		"unknown protocol":   {"join", "{}", "quic"},
		"no setting":         {"config", "{}", ""},
		"setting in words":   {"config", `{"allow_multi_login":"true"}`, ""},
		"set without key":    {"data/set", `{"value":1}`, ""},
		"delete without key": {"data/delete", `{"key":""}`, ""},
		"kick nobody":        {"kick", "{}", ""},
		"kick oneself":       {"kick", `{"target_uid":"10001"}`, ""},
		"kick a number":      {"kick", `{"target_uid":10002}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, owner.call(row.call, room, row.body, "X-MMO-Protoctl", row.header), 400, "invalid_request")
		})
	}
}

func TestAuthorizationForms(t *testing.T) {
	s := platform(t)
	access, _ := s.Issue(webClient, uid, "user:basic", "mmo", "openid")
	for _, row := range []struct {
		form        shangcloudtest.Authorization
		typed, bare int
	}{
		{shangcloudtest.AnyAuthorization, 200, 200},
		{shangcloudtest.TypedAuthorization, 200, 401},
		{shangcloudtest.BareAuthorization, 401, 200},
	} {
		s.Configure(func(set *shangcloudtest.Settings) { set.Authorization = row.form })
		for header, want := range map[string]int{"Bearer " + access: row.typed, access: row.bare} {
			assert.Equal(t, want, send(t, "GET", s.URL+"/oauth/userinfo", "", "Authorization", header).status)
			assert.Equal(t, want, send(t, "POST", s.URL+"/api/mmo/room/new", "{}", "Authorization", header, "Content-Type", "application/json").status)
		}
		assert.Equal(t, 200, call(t, s, "/api/user/info", access, "{}").status)
		assert.Equal(t, 401, send(t, "POST", s.URL+"/api/user/info", "{}", "Authorization", access, "Content-Type", "application/json").status)
	}
}

func TestRoomFaults(t *testing.T) {
	s := platform(t)
	owner := newRoomUser(t, s, webClient, uid)
	room := owner.create()
	s.ForgetRequests()
	s.Fault("/api/mmo/room/data/set", shangcloudtest.Fault{Times: 1, Process: true, Status: 502})
	assert.Equal(t, 502, owner.call("data/set", room, `{"key":"k","value":1,"type":"number"}`).status)
	assert.JSONEq(t, `{"extra_data":{"k":1}}`, owner.data(room), "the answer was lost, the change was made")
	s.ExpireTokens()
	assert.Equal(t, 401, owner.call("usercount", room, "{}").status)

	recorded := s.Requests("/api/mmo/room/data/set", "/api/mmo/room/usercount")
	require.Len(t, recorded, 2)
	assert.Equal(t, room, recorded[0].Header.Get("X-MMO-Room"))
	assert.Equal(t, owner.access, recorded[0].Header.Get("Authorization"))
	asJSON, err := json.Marshal(recorded)
	require.NoError(t, err)
	for _, printed := range []string{fmt.Sprintf("%+v %#v", recorded, recorded), string(asJSON)} {
		assert.Contains(t, printed, "/api/mmo/room/usercount")
		assert.NotContains(t, printed, owner.access)
	}
}

// fakeEdge records the calls of the server.
type fakeEdge struct {
	mu      sync.Mutex
	said    []string
	members []string
}

func (f *fakeEdge) say(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, fmt.Sprintf(format, args...))
}

func (f *fakeEdge) URL(protocol string) (edgeURL, spoken string) {
	if protocol == "" {
		return "127.0.0.1:7000", "udp"
	}
	return "ws://127.0.0.1:7001/ws", protocol
}

func (f *fakeEdge) Admit(room, connectKey, uid string) {
	f.say("admit %s %t", uid, room != "" && connectKey != "" && room != connectKey)
}

func (f *fakeEdge) Kick(_, uid string) { f.say("kick %s", uid) }

func (f *fakeEdge) Members(string) []string { return f.members }

func TestSetEdge(t *testing.T) {
	s := platform(t)
	edge := &fakeEdge{members: []string{"10001", "10001-2", "x"}}
	s.SetEdge(edge)
	owner := newRoomUser(t, s, webClient, uid)
	created := owner.do("new", "", "{}")
	room := created["room_id"].(string)
	assert.Equal(t, "udp", created["protocol"])
	assert.Equal(t, "127.0.0.1:7000", created["edge_url"])
	owner.do("join", room, "{}", "X-MMO-Protoctl", "websocket")
	owner.do("config", room, `{"allow_multi_login":true}`)
	assert.Equal(t, "10001-3", owner.do("join", room, "{}")["assigned_uid"])
	newRoomUser(t, s, webClient, otherUID).do("join", room, "{}")
	owner.do("kick", room, `{"target_uid":"x"}`)
	assert.Equal(t, 3, owner.count(room), "the edge knows who is there")
	assert.Equal(t, []string{"admit 10001 true", "kick 10001", "admit 10001 true", "admit 10001-3 true", "admit 10002 true", "kick x"}, edge.said)

	edge.said = nil
	s.EndRoom("unknown")
	assert.Empty(t, edge.said)
	s.EndRoom(room)
	assert.Equal(t, []string{"kick 10001", "kick 10001-2", "kick x"}, edge.said)
	assert.Equal(t, 404, owner.call("join", room, "{}").status)

	s.SetEdge(nil)
	assert.Equal(t, "tcp", owner.do("new", "", "{}")["protocol"])
}

// TestRoomRace makes all calls at the same time, and ends the room meanwhile.
func TestRoomRace(t *testing.T) {
	s := platform(t)
	owner := newRoomUser(t, s, webClient, uid)
	room := owner.create()
	owner.do("config", room, `{"allow_multi_login":true}`)
	assigned := make(chan any, 20)
	var joins sync.WaitGroup
	for range cap(assigned) {
		joins.Go(func() { assigned <- owner.do("join", room, "{}")["assigned_uid"] })
	}
	joins.Wait()
	close(assigned)
	seen := map[any]bool{}
	for a := range assigned {
		seen[a] = true
	}
	assert.Len(t, seen, 20, "each has another UID")

	var all sync.WaitGroup
	for name, c := range roomCalls {
		all.Go(func() {
			for range 10 {
				status := owner.call(name, room, c.body).status
				assert.True(t, status == 200 || status == 404, "%s: %d", name, status)
			}
		})
	}
	all.Go(func() { s.EndRoom(room) })
	all.Wait()
	assert.Equal(t, 404, owner.call("usercount", room, "{}").status)
}
