package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
)

// The board has these units, whatever its size on the screen.
const boardWidth, boardHeight = 800, 500

const (
	maxText   = 500 // characters
	maxName   = 60  // characters
	maxPoints = 50  // of a line; longer ones are drawn as several
	maxID     = 64  // bytes of a uid
	maxPast   = 200 // messages; so many of the longest fit into the 1 MiB of a broadcast
)

// The kinds of messages.
const (
	say    = "say"    // Text
	draw   = "draw"   // a line through Points
	wipe   = "wipe"   // the board is empty again
	recall = "recall" // from the bot, for one member: the Past, which it has missed
)

// message is what a member says to the others. In the room it is a broadcast: its text is
// the message of the broadcast, and the rest is JSON in the extra.
type message struct {
	Kind   string    `json:"kind"`
	ID     string    `json:"id"`             // by the sender: what comes twice is known by it
	UID    string    `json:"uid,omitempty"`  // of the sender, as it says
	Name   string    `json:"name,omitempty"` // of the sender, as it says; not for lines
	Text   string    `json:"text,omitempty"`
	Points []int     `json:"points,omitempty"` // x, y, x, y, …
	To     string    `json:"to,omitempty"`
	Past   []message `json:"past,omitempty"`
}

// send sends a message to the others in the room.
func send(ctx context.Context, conn *mmo.Conn, m message) error {
	text := m.Text
	m.Text = ""
	extra, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return conn.Broadcast(ctx, text, string(extra))
}

// received reads a broadcast from the room. It checks the broadcast like a post from a
// browser, because other programs can be in the room, too. A broadcast without an extra is
// a chat message of a game client.
func received(b mmo.Broadcast) (m message, ok bool) {
	if b.Extra == "" {
		m = message{Kind: say, ID: rand.Text()}
	} else if json.Unmarshal([]byte(b.Extra), &m) != nil {
		return m, false
	}
	m.UID, m.Text = b.UID, b.Message
	return m, m.isValid() || m.isRecall()
}

var isID = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// isValid reports whether a person may send this message.
func (m *message) isValid() bool {
	switch {
	case !isID.MatchString(m.ID) || len(m.UID) > maxID || utf8.RuneCountInString(m.Name) > maxName:
		return false
	case m.To != "" || m.Past != nil:
		return false
	}
	switch m.Kind {
	case say:
		m.Text = strings.TrimSpace(m.Text)
		return m.Text != "" && utf8.ValidString(m.Text) && utf8.RuneCountInString(m.Text) <= maxText && m.Points == nil
	case draw:
		return m.Text == "" && isLine(m.Points)
	case wipe:
		return m.Text == "" && m.Points == nil
	}
	return false
}

func (m *message) isRecall() bool {
	if m.Kind != recall || len(m.Past) > maxPast {
		return false
	}
	for i := range m.Past {
		if !m.Past[i].isValid() {
			return false
		}
	}
	return true
}

func isLine(points []int) bool {
	if len(points) < 4 || len(points) > 2*maxPoints || len(points)%2 != 0 {
		return false
	}
	for i, n := range points {
		limit := boardWidth
		if i%2 == 1 {
			limit = boardHeight
		}
		if n < 0 || n > limit {
			return false
		}
	}
	return true
}

// shorten cuts a member's name to maxName characters. Other programs can choose any name.
func shorten(name string) string {
	if runes := []rune(name); len(runes) > maxName {
		return string(runes[:maxName-1]) + "…"
	}
	return name
}
