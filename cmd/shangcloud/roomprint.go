package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/spf13/cobra"
)

const (
	// maxNames is how many members are known by nickname. Whoever is in a room can
	// announce any number.
	maxNames = 10_000

	// maxName is the longest name that is printed, in letters.
	maxName = 40

	// maxUID is the longest uid that is known by a nickname, in bytes.
	maxUID = 256

	// maxListed is how many members are named at a time.
	maxListed = 20

	// maxShown is how much of an event a terminal shows, in letters.
	maxShown = 1000
)

// roomPrinter prints what happens in a room: events to standard output, and for people what
// becomes of the connection to standard error. Its methods must not be called at once.
type roomPrinter struct {
	cmd        *cobra.Command
	jsonOutput bool
	names      map[string]string // nickname by uid
}

func newRoomPrinter(cmd *cobra.Command, jsonOutput bool) *roomPrinter {
	return &roomPrinter{cmd: cmd, jsonOutput: jsonOutput, names: make(map[string]string)}
}

// connected says where the edge is.
func (p *roomPrinter) connected(room *mmo.Room, talks bool) error {
	edge, _, _ := strings.Cut(room.EdgeURL, "?") // a query may be secret
	if p.jsonOutput {
		return printJSON(p.cmd, map[string]any{"event": "connected", "room_id": room.ID, "edge_url": edge, "protocol": room.Protocol})
	}
	key := "Ctrl-C"
	if talks {
		key = "Ctrl-D"
	}
	return p.note("Connected to %s. %s leaves.", edge, key)
}

// lost says that the connection is lost.
func (p *roomPrinter) lost(err error, pause time.Duration) error {
	if p.jsonOutput {
		return printJSON(p.cmd, map[string]any{"event": "lost", "error": errorText(err), "retry_seconds": pause.Seconds()})
	}
	return p.note("Connection lost: %s. Joins again in %v.", errorText(err), pause.Round(time.Second))
}

// notSaid says that a line of the input was refused.
func (p *roomPrinter) notSaid(err error) error {
	if p.jsonOutput {
		return printJSON(p.cmd, map[string]any{"event": "not_said", "error": errorText(err)})
	}
	return p.note("Not said: %s.", errorText(err))
}

func (p *roomPrinter) note(format string, args ...any) error {
	_, err := fmt.Fprintln(p.cmd.ErrOrStderr(), oneLine(fmt.Sprintf(format, args...)))
	return err
}

// event prints an event in one line.
func (p *roomPrinter) event(event mmo.Event) error {
	if p.jsonOutput {
		return printJSON(p.cmd, eventObject(event))
	}
	text := p.text(event)
	if isTerminal(p.cmd.OutOrStdout()) {
		text = shorten(text, maxShown)
	}
	return printLine(p.cmd, "%s", text)
}

// eventObject returns an event for scripts.
func eventObject(event mmo.Event) map[string]any {
	switch e := event.(type) {
	case mmo.Broadcast:
		return map[string]any{"event": "broadcast", "uid": e.UID, "message": e.Message, "extra": e.Extra}
	case mmo.MemberJoined:
		return map[string]any{"event": "joined", "uid": e.UID, "nickname": e.Nickname}
	case mmo.MemberLeft:
		return map[string]any{"event": "left", "uid": e.UID}
	case mmo.Members:
		list := make([]map[string]string, len(e.List))
		for i, m := range e.List {
			list[i] = map[string]string{"uid": m.UID, "nickname": m.Nickname}
		}
		return map[string]any{"event": "members", "count": e.Count, "members": list}
	case mmo.Vars:
		return map[string]any{"event": "vars", "uid": e.UID, "vars": e.Vars, "interpolate": e.Interpolate}
	default:
		return map[string]any{"event": "text", "text": fmt.Sprint(e)}
	}
}

// text returns an event for people.
func (p *roomPrinter) text(event mmo.Event) string {
	switch e := event.(type) {
	case mmo.Broadcast:
		text := p.name(e.UID) + ": " + e.Message
		if e.Extra != "" {
			text += " [" + e.Extra + "]"
		}
		return text
	case mmo.MemberJoined:
		p.learn(mmo.Member(e))
		return "* " + p.name(e.UID) + " joined"
	case mmo.MemberLeft:
		name := p.name(e.UID)
		delete(p.names, e.UID)
		return "* " + name + " left"
	case mmo.Members:
		return "* In the room: " + p.list(e)
	case mmo.Vars:
		text := "* " + p.name(e.UID)
		for _, name := range slices.Sorted(maps.Keys(e.Vars)) {
			text += " " + plain(name) + "=" + plain(e.Vars[name])
		}
		return text
	default:
		return "text: " + fmt.Sprint(e)
	}
}

// list names the members.
func (p *roomPrinter) list(e mmo.Members) string {
	clear(p.names)
	for _, m := range e.List {
		p.learn(m)
	}
	var names []string
	for _, m := range e.List[:min(len(e.List), maxListed)] {
		names = append(names, p.name(m.UID))
	}
	text := strings.Join(names, ", ")
	if more := max(e.Count, len(e.List)) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func (p *roomPrinter) learn(m mmo.Member) {
	if _, known := p.names[m.UID]; known || len(p.names) < maxNames && len(m.UID) <= maxUID {
		p.names[m.UID] = shorten(m.Nickname, maxName)
	}
}

// name returns the name of a member. The uid is in it, because nicknames need not differ.
func (p *roomPrinter) name(uid string) string {
	short := shorten(uid, maxName)
	switch nickname := p.names[uid]; {
	case uid == "":
		return "somebody"
	case nickname == "":
		return short
	default:
		return nickname + " (" + short + ")"
	}
}
