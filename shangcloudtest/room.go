package shangcloudtest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// maxRooms is the number of rooms that the server keeps. It bounds the memory of a load
// test that runs for hours.
const maxRooms = 100_000

// rooms holds all game rooms. The server also holds mu while it calls the edge, so that two
// calls about one room do not interleave.
type rooms struct {
	mu   sync.Mutex
	byID map[string]*room
	edge Edge
}

// room is one game room.
type room struct {
	id         string
	clientID   string // the application that it belongs to
	owner      int64
	multiLogin bool
	data       map[string]json.RawMessage
}

// roomCall is one call about a room.
type roomCall struct {
	s        *Server
	user     User
	room     *room
	body     roomBody
	protocol string // what the caller asks for: "", "tcp" or "websocket"
}

// roomBody has the parameters of all calls. Each call reads its own.
type roomBody struct {
	AllowMultiLogin *bool           `json:"allow_multi_login"`
	Key             string          `json:"key"`
	Value           json.RawMessage `json:"value"`
	Type            string          `json:"type"`
	TargetUID       string          `json:"target_uid"`
}

// roomAccess says which room a call needs.
type roomAccess int

const (
	newRoom   roomAccess = iota // none: the call makes one
	anyRoom                     // one of the same application
	ownedRoom                   // one that the caller owns, too
)

// roomRoute returns the handler of a call about rooms, as the platform's official clients
// describe it. The bodies of the real platform's errors are unknown.
func roomRoute(access roomAccess, answer func(*roomCall) (any, *apiError)) route {
	return route{http.MethodPost, func(s *Server, w http.ResponseWriter, r *http.Request, body []byte) {
		who, ok := s.authorizeCall(w, r, s.settings.Load().Authorization, "mmo")
		if !ok {
			return
		}
		call := &roomCall{s: s, user: who.User}
		if !readJSON(w, r, body, &call.body) {
			return
		}
		result, refusal := call.run(r, access, who.clientID, answer)
		if refusal != nil {
			writeError(w, refusal)
			return
		}
		writeJSON(w, http.StatusOK, result)
	}}
}

// run checks the headers of a call and answers it.
func (c *roomCall) run(r *http.Request, access roomAccess, clientID string, answer func(*roomCall) (any, *apiError)) (any, *apiError) {
	c.s.rooms.mu.Lock()
	defer c.s.rooms.mu.Unlock()
	if refusal := c.readProtocol(r); refusal != nil {
		return nil, refusal
	}
	if refusal := c.find(access, r.Header.Get("X-MMO-Room"), clientID); refusal != nil {
		return nil, refusal
	}
	return answer(c)
}

// readProtocol reads the protocol header of the calls new and join. It is unknown whether
// the platform accepts values other than tcp and websocket.
func (c *roomCall) readProtocol(r *http.Request) *apiError {
	c.protocol = r.Header.Get("X-MMO-Protoctl") // the platform's spelling
	switch c.protocol {
	case "", "tcp", "websocket":
		return nil
	}
	return invalidRequest("X-MMO-Protoctl must be tcp or websocket")
}

// find finds the room that the call is about, and checks whether the caller may make the
// call.
func (c *roomCall) find(access roomAccess, id, clientID string) *apiError {
	if access == newRoom {
		c.room = &room{id: newRoomID(), clientID: clientID, owner: c.user.ID}
		return nil
	}
	if id == "" {
		return invalidRequest("X-MMO-Room is missing")
	}
	c.room = c.s.rooms.byID[id]
	switch {
	case c.room == nil:
		return &apiError{http.StatusNotFound, "not_found", "there is no such room"}
	case c.room.clientID != clientID:
		return &apiError{http.StatusForbidden, "access_denied", "the room belongs to another application"}
	case access == ownedRoom && c.room.owner != c.user.ID:
		return &apiError{http.StatusForbidden, "access_denied", "only the owner of the room may do this"}
	}
	return nil
}

// roomEntry tells a client how to connect to a room.
type roomEntry struct {
	RoomID      string `json:"room_id"`
	ConnectKey  string `json:"connect_key"`
	EdgeURL     string `json:"edge_url"`
	Protocol    string `json:"protocol"`
	AssignedUID string `json:"assigned_uid,omitempty"`
}

// roomDone is the answer to a change.
type roomDone struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

var done = roomDone{Status: "ok"}

// create is POST /api/mmo/room/new. The caller becomes the owner and the first member.
func (c *roomCall) create() (any, *apiError) {
	if len(c.s.rooms.byID) >= maxRooms {
		return nil, &apiError{http.StatusServiceUnavailable, "temporarily_unavailable", "there are too many rooms"}
	}
	c.s.rooms.byID[c.room.id] = c.room
	return c.admit(strconv.FormatInt(c.user.ID, 10), ""), nil
}

// join is POST /api/mmo/room/join. Every call returns a new connect key.
//
// With allow_multi_login, an account that is in the room already gets another UID. It is
// unknown what the platform does without allow_multi_login. Here the new member replaces
// the old one.
func (c *roomCall) join() (any, *apiError) {
	uid := strconv.FormatInt(c.user.ID, 10)
	members := c.s.rooms.edge.Members(c.room.id)
	if !slices.Contains(members, uid) {
		return c.admit(uid, ""), nil
	}
	if !c.room.multiLogin {
		c.s.rooms.edge.Kick(c.room.id, uid)
		return c.admit(uid, ""), nil
	}
	for n := 2; ; n++ {
		assigned := uid + "-" + strconv.Itoa(n)
		if !slices.Contains(members, assigned) {
			return c.admit(assigned, assigned), nil
		}
	}
}

// admit makes a connect key for a member. assigned is the UID if it differs from the
// account's UID, and otherwise "".
func (c *roomCall) admit(uid, assigned string) roomEntry {
	entry := roomEntry{RoomID: c.room.id, ConnectKey: rand.Text(), AssignedUID: assigned}
	entry.EdgeURL, entry.Protocol = c.s.rooms.edge.URL(c.protocol)
	c.s.rooms.edge.Admit(c.room.id, entry.ConnectKey, uid)
	return entry
}

// configure is POST /api/mmo/room/config.
func (c *roomCall) configure() (any, *apiError) {
	if c.body.AllowMultiLogin == nil {
		return nil, invalidRequest("allow_multi_login is needed")
	}
	c.room.multiLogin = *c.body.AllowMultiLogin
	return done, nil
}

// setData is POST /api/mmo/room/data/set.
func (c *roomCall) setData() (any, *apiError) {
	if c.body.Key == "" {
		return nil, invalidRequest("key is needed")
	}
	value, ok := roomValue(c.body.Value, c.body.Type)
	if !ok {
		return nil, invalidRequest("value and type do not fit, or type is not number, string or boolean")
	}
	if c.room.data == nil {
		c.room.data = make(map[string]json.RawMessage)
	}
	c.room.data[c.body.Key] = value
	return done, nil
}

// roomValue converts a value to its type. Some official clients send every value as a
// string. So roomValue accepts "8" as a number, too. If the type is string, the value may
// also be a number or a boolean, and roomValue keeps its text.
func roomValue(value json.RawMessage, kind string) (json.RawMessage, bool) {
	var parsed any
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	_ = decoder.Decode(&parsed) // a missing value is nil
	var text string
	switch v := parsed.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	case bool:
		text = strconv.FormatBool(v)
	default:
		return nil, false
	}
	switch kind {
	case "number":
		var n json.Number
		return json.RawMessage(text), json.Unmarshal([]byte(text), &n) == nil && n.String() == text
	case "boolean":
		return json.RawMessage(text), text == "true" || text == "false"
	case "", "string": // the default, according to the official Go client
		quoted, err := json.Marshal(text)
		return quoted, err == nil
	}
	return nil, false
}

// getData is POST /api/mmo/room/data/get.
func (c *roomCall) getData() (any, *apiError) {
	data := make(map[string]json.RawMessage, len(c.room.data))
	quoted := c.s.settings.Load().QuotedRoomData
	for key, value := range c.room.data {
		if quoted && value[0] != '"' {
			value = json.RawMessage(`"` + string(value) + `"`)
		}
		data[key] = value
	}
	return struct {
		ExtraData map[string]json.RawMessage `json:"extra_data"`
	}{data}, nil
}

// deleteData is POST /api/mmo/room/data/delete. It is unknown how the platform answers for
// a key that does not exist. Here the answer is the same as for a key that exists.
func (c *roomCall) deleteData() (any, *apiError) {
	if c.body.Key == "" {
		return nil, invalidRequest("key is needed")
	}
	delete(c.room.data, c.body.Key)
	return done, nil
}

// kick is POST /api/mmo/room/kick. It is unknown how the platform answers for a user who is
// not in the room. Here the answer is the same as for a member.
func (c *roomCall) kick() (any, *apiError) {
	switch c.body.TargetUID {
	case "":
		return nil, invalidRequest("target_uid is needed")
	case strconv.FormatInt(c.user.ID, 10):
		return nil, invalidRequest("the owner can't be kicked")
	}
	c.s.rooms.edge.Kick(c.room.id, c.body.TargetUID)
	return done, nil
}

// countUsers is POST /api/mmo/room/usercount.
func (c *roomCall) countUsers() (any, *apiError) {
	return struct {
		UserCount int `json:"user_count"`
	}{len(c.s.rooms.edge.Members(c.room.id))}, nil
}

// EndRoom ends a room, and the connections of its members. Later calls about the room are
// answered with status 404. If there is no such room, EndRoom does nothing. It is unknown
// when the real platform ends a room. This server ends a room only in EndRoom.
func (s *Server) EndRoom(id string) {
	s.rooms.mu.Lock()
	defer s.rooms.mu.Unlock()
	if s.rooms.byID[id] == nil {
		return
	}
	delete(s.rooms.byID, id)
	for _, uid := range s.rooms.edge.Members(id) {
		s.rooms.edge.Kick(id, uid)
	}
}

// newRoomID returns a random UUID (RFC 9562, 5.4), the form of the platform's examples.
func newRoomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
