package mmo

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
)

// Event is what [Conn.Read] returns: a [Text], [Broadcast], [MemberJoined], [MemberLeft],
// [Members] or [Vars].
//
// Every uid and nickname is what a client says about itself. As far as is known, the edge
// does not check them, so they prove nothing.
type Event interface{ isEvent() }

// Text is a message that is no other kind of event. Bytes that are not UTF-8 are replaced
// by U+FFFD, as the official clients do.
type Text string

// Broadcast is a message to all others.
type Broadcast struct {
	UID     string // the sender, as it says; may be empty
	Message string
	Extra   string // whatever the applications agreed on
}

// Member is a client in the room, as it announced itself.
type Member struct {
	UID      string
	Nickname string
}

// MemberJoined says that a member is new or has a new nickname.
type MemberJoined Member

// MemberLeft says that a member is gone.
type MemberLeft struct{ UID string }

// Members is the edge's answer to [Conn.RequestMembers]. It also comes once after the
// login, and whenever the list has changed without a MemberJoined or MemberLeft.
type Members struct {
	Count int      // by the edge; clients that announced nothing may count
	List  []Member // sorted by UID
}

// Vars has all variables of a member. It replaces the member's earlier Vars.
type Vars struct {
	UID  string            // the sender, as it says
	Vars map[string]string // a number, a boolean or an object is its JSON text, null is ""

	// Interpolate lists the variables whose values the sender wants to change smoothly,
	// instead of in steps. The receiver decides whether and how to do that.
	Interpolate []string
}

func (Text) isEvent()         {}
func (Broadcast) isEvent()    {}
func (MemberJoined) isEvent() {}
func (MemberLeft) isEvent()   {}
func (Members) isEvent()      {}
func (Vars) isEvent()         {}

// parseEvent recognizes the messages of other clients, as the Godot and Unity clients do.
// data is not empty. A message that is not recognized is a Text.
func parseEvent(data []byte) Event {
	if data[0] == '{' {
		if event := parseObject(data); event != nil {
			return event
		}
	}
	if !utf8.Valid(data) { // faster than strings.ToValidUTF8
		return Text(strings.ToValidUTF8(string(data), "\uFFFD"))
	}
	return Text(data)
}

// parseObject returns nil for an object that is not an event. It decodes into a map,
// because names have to match exactly.
func parseObject(data []byte) Event {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return nil
	}
	text := func(name string) string {
		var t edge.Text
		if raw, ok := fields[name]; ok {
			_ = t.UnmarshalJSON(raw)
		}
		return string(t)
	}
	uid := text("uid")
	switch kind := text("type"); {
	case kind == edge.TypeJoin && uid != "":
		return MemberJoined{uid, text("nickname")}
	case kind == edge.TypeLeave && uid != "":
		return MemberLeft{uid}
	case kind == edge.TypeVars:
		return parseVars(uid, fields["vars"], fields["interp"])
	case kind == "" && fields["message"] != nil && (fields["uid"] != nil || fields["extra"] != nil):
		return Broadcast{uid, text("message"), text("extra")}
	}
	return nil
}

func parseVars(uid string, vars, interpolate json.RawMessage) Event {
	var values map[string]edge.Text
	if json.Unmarshal(vars, &values) != nil {
		return nil
	}
	event := Vars{UID: uid, Vars: make(map[string]string, len(values))}
	for name, value := range values {
		event.Vars[name] = string(value)
	}
	if json.Unmarshal(interpolate, &event.Interpolate) != nil {
		event.Interpolate = nil // the event is useful without it
	}
	return event
}
