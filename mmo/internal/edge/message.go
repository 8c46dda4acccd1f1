package edge

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Control messages are the whole data of a payload, compared as strings.
const (
	AuthOK     = "__auth_ok__" // from the edge: logged in
	Heartbeat  = "__hb__"      // every three seconds from the client
	Closed     = "__closed__"  // from the edge: it ends the connection
	Ping       = "__ping__"    // from the client: asks for the members
	PongPrefix = "__pong__:"   // from the edge: N:JSON
)

// IsControl reports whether data is a control message. It ignores the case of letters,
// as the Unreal client does.
func IsControl(data string) bool {
	for _, control := range []string{AuthOK, Heartbeat, Closed, Ping} {
		if strings.EqualFold(data, control) {
			return true
		}
	}
	return len(data) >= len(PongPrefix) && strings.EqualFold(data[:len(PongPrefix)], PongPrefix)
}

// Types of the JSON messages that have one.
const (
	TypeJoin  = "__join__"
	TypeLeave = "__leave__"
	TypeVars  = "__sync_var__"
)

// Join is what a client announces about itself.
type Join struct {
	Type     string `json:"type"`
	UID      string `json:"uid"`
	Nickname string `json:"nickname"`
}

// Leave tells the others that a member is gone.
type Leave struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// Broadcast is a message to all others. It has no type.
type Broadcast struct {
	UID     string `json:"uid"`
	Message string `json:"message"`
	Extra   string `json:"extra"`
}

// Vars is a member's full state.
type Vars struct {
	Type        string            `json:"type"`
	UID         string            `json:"uid"`
	Vars        map[string]string `json:"vars"`
	Interpolate []string          `json:"interp"`
}

// Member is an entry in the list of members.
type Member struct {
	UID      string `json:"uid"`
	Nickname string `json:"nickname"`
}

// Encode returns one of the messages above as JSON.
func Encode(message any) string {
	data, err := json.Marshal(message)
	if err != nil {
		panic(err) // the messages consist of strings
	}
	return string(data)
}

// Pong returns the answer to a ping.
func Pong(members []Member) string {
	if members == nil {
		members = []Member{}
	}
	return PongPrefix + strconv.Itoa(len(members)) + ":" + Encode(members)
}

// ParsePong reads the answer to a ping. If the answer has no readable list, listed is
// false, and the client keeps the list that it has. Entries without a uid are skipped. If
// the count is 0, missing or unreadable, count is the length of the list.
func ParsePong(data string) (count int, members []Member, listed bool) {
	number, list, _ := strings.Cut(strings.TrimPrefix(data, PongPrefix), ":")
	var entries []struct{ UID, Nickname Text }
	if json.Unmarshal([]byte(list), &entries) == nil && entries != nil {
		listed = true
		members = make([]Member, 0, len(entries))
		for _, e := range entries {
			if e.UID != "" {
				members = append(members, Member{string(e.UID), string(e.Nickname)})
			}
		}
	}
	if n, err := strconv.ParseUint(number, 10, 31); err == nil {
		count = int(n)
	}
	if count == 0 {
		count = len(members)
	}
	return count, members, listed
}

// Text decodes any JSON value: a string as it is, null as "", and any other value as its
// JSON text. Godot clients send numbers where other clients send strings.
type Text string

func (t *Text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) != nil { // null leaves s empty
		s = string(data)
	}
	*t = Text(s)
	return nil
}
