package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

const (
	// The bot remembers this many of the newest lines and texts.
	maxDrawn = 2000
	maxSaid  = 50

	maxMet = 10_000 // people that it knows

	// botUID is the bot's uid. The uids of people are numbers.
	botUID = "bot"
)

// bot is a member of the room, like the people. It opens and owns the room. The room itself
// remembers nothing. So the bot sends the picture to everybody who joins. One goroutine
// uses the bot, but signIn is safe for concurrent use.
type bot struct {
	name      string
	tokens    *oauth2login.TokenSource
	rooms     *mmo.Client
	lobby     *lobby
	plaintext bool
	signedIn  chan struct{} // holds a value after a login

	room  string            // its ID
	uid   string            // of this connection
	met   map[string]string // names by uid
	drawn []message
	said  []message
	next  int // where it draws
}

// signIn gives the bot a token, so that the bot can join the room.
func (b *bot) signIn(ctx context.Context, token *oauth2.Token) error {
	if err := b.tokens.SetToken(ctx, token); err != nil {
		return err
	}
	b.wake()
	return nil
}

// restore lets the bot join the room if there is a token from an earlier run.
func (b *bot) restore(ctx context.Context) {
	if _, err := b.tokens.TokenContext(ctx); !errors.Is(err, oauth2login.ErrLoginRequired) {
		b.wake() // another error may pass: run tries again
	}
}

func (b *bot) wake() {
	select {
	case b.signedIn <- struct{}{}:
	default:
	}
}

// run keeps the bot in the room until ctx ends.
func (b *bot) run(ctx context.Context) {
	session := mmo.Session{
		Join: b.join, Use: b.use,
		Options: &mmo.DialOptions{UID: botUID, Nickname: b.name, AllowPlaintext: b.plaintext},
		Waiting: func(err error, pause time.Duration) {
			log.Printf("bot: again in %v: %v", pause.Round(time.Millisecond), err)
		},
	}
	for {
		select {
		case <-b.signedIn:
		case <-ctx.Done():
			return
		}
		if err := session.Run(ctx); ctx.Err() == nil {
			log.Printf("bot: %v", err) // a new login may help
		}
	}
}

// join joins the room. If there is no room yet, or the room has ended, join makes a new
// room.
func (b *bot) join(ctx context.Context) (room *mmo.Room, err error) {
	if b.room != "" {
		room, err = b.rooms.Join(ctx, b.room, mmo.ProtocolWebSocket)
	}
	if b.room == "" || errors.Is(err, mmo.ErrNoRoom) {
		room, err = b.create(ctx)
	}
	if err == nil {
		b.uid = cmp.Or(room.AssignedUID, botUID)
	}
	return room, err
}

func (b *bot) create(ctx context.Context) (*mmo.Room, error) {
	room, err := b.rooms.Create(ctx, mmo.ProtocolWebSocket)
	if err != nil {
		return nil, err
	}
	b.room = room.ID
	// Two pages of one person are two members.
	return room, b.rooms.Configure(ctx, room.ID, mmo.Config{AllowMultiLogin: true})
}

// use handles the events of one connection.
func (b *bot) use(ctx context.Context, conn *mmo.Conn) error {
	b.lobby.open(b.room) // not before the bot is there: it misses nothing
	for {
		got, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		switch got := got.(type) {
		case mmo.MemberJoined:
			err = b.welcome(ctx, conn, mmo.Member(got))
		case mmo.Broadcast:
			if m, ok := received(got); ok {
				err = b.hear(ctx, conn, m)
			}
		}
		if err != nil {
			return err
		}
	}
}

// welcome sends a new member the lines and texts so far. It greets a member that it does
// not know.
func (b *bot) welcome(ctx context.Context, conn *mmo.Conn, who mmo.Member) error {
	name, isKnown := shorten(who.Nickname), false
	if _, isKnown = b.met[who.UID]; !isKnown && len(b.met) >= maxMet {
		clear(b.met)
	}
	b.met[who.UID] = name
	for past := range slices.Chunk(slices.Concat(b.drawn, b.said), maxPast) {
		if err := send(ctx, conn, message{Kind: recall, ID: rand.Text(), To: who.UID, Past: past}); err != nil {
			return err
		}
	}
	if isKnown {
		return nil
	}
	return b.say(ctx, conn, phraseFor(name).greeting(name))
}

// hear remembers a message. If the message asks for a shape, the bot draws the shape and
// answers.
func (b *bot) hear(ctx context.Context, conn *mmo.Conn, m message) error {
	if m.Kind == say {
		m.Name = cmp.Or(m.Name, b.met[m.UID])
	}
	b.remember(m)
	if m.Kind != say {
		return nil
	}
	words, isAsked := strings.ToLower(m.Text), false
	for _, shape := range shapes {
		if strings.Contains(words, shape.english) || strings.Contains(words, shape.chinese) {
			isAsked = true
			if err := b.draw(ctx, conn, shape); err != nil {
				return err
			}
		}
	}
	if !isAsked {
		return nil
	}
	return b.say(ctx, conn, phraseFor(m.Text).done)
}

func (b *bot) say(ctx context.Context, conn *mmo.Conn, text string) error {
	return b.send(ctx, conn, message{Kind: say, ID: rand.Text(), Name: b.name, Text: text})
}

// draw draws a shape in the next of eight places. The lower row is filled first.
func (b *bot) draw(ctx context.Context, conn *mmo.Conn, s shape) error {
	const columns, rows = 4, 2
	x := boardWidth / columns * (b.next % columns)
	y := boardHeight / rows * (rows - 1 - b.next/columns%rows)
	b.next++
	for _, line := range s.lines {
		points := make([]int, len(line))
		for i := range line {
			points[i] = line[i] + x + (y-x)*(i%2)
		}
		if err := b.send(ctx, conn, message{Kind: draw, ID: rand.Text(), Points: points}); err != nil {
			return err
		}
	}
	return nil
}

// send also remembers the message, because the room does not send it back to the bot.
func (b *bot) send(ctx context.Context, conn *mmo.Conn, m message) error {
	if err := send(ctx, conn, m); err != nil {
		return err
	}
	m.UID = b.uid
	b.remember(m)
	return nil
}

func (b *bot) remember(m message) {
	switch m.Kind {
	case draw:
		b.drawn = newest(append(b.drawn, m), maxDrawn)
	case wipe:
		b.drawn = nil
	case say:
		b.said = newest(append(b.said, m), maxSaid)
	}
}

func newest(all []message, limit int) []message { return all[max(0, len(all)-limit):] }

// phrases are what the bot says in one language.
type phrases struct{ hello, offer, done string }

func (p phrases) greeting(name string) string { return p.hello + name + p.offer }

// phraseFor returns the phrases in the language of a text. The room does not know its
// members' languages.
func phraseFor(text string) phrases {
	for _, r := range text {
		if unicode.Is(unicode.Han, r) {
			return phrases{"你好，", "！说“房子”“星星”或“爱心”，我就画给你看。", "画好了。"}
		}
	}
	return phrases{"Hello, ", "! Say “house”, “star” or “heart”, and I draw it.", "There it is."}
}

// shape is a shape that the bot can draw. It fits in an area of 200 by 250.
type shape struct {
	english, chinese string
	lines            [][]int
}

var shapes = []shape{
	{"house", "房子", [][]int{
		{50, 200, 50, 110, 150, 110, 150, 200, 50, 200},
		{40, 115, 100, 55, 160, 115},
		{90, 200, 90, 155, 115, 155, 115, 200},
		{65, 130, 85, 130, 85, 148, 65, 148, 65, 130},
	}},
	{"star", "星星", [][]int{around(5, func(i float64) (x, y float64) {
		return math.Sin(i * 4 * math.Pi / 5), -math.Cos(i * 4 * math.Pi / 5)
	})}},
	{"heart", "爱心", [][]int{around(40, func(i float64) (x, y float64) {
		t := i * 2 * math.Pi / 40
		return math.Pow(math.Sin(t), 3), -(13*math.Cos(t) - 5*math.Cos(2*t) - 2*math.Cos(3*t) - math.Cos(4*t)) / 16
	})}},
}

// around returns a closed line with n corners. at returns the coordinates of corner i,
// between -1 and 1.
func around(n int, at func(i float64) (x, y float64)) (line []int) {
	for i := range n + 1 {
		x, y := at(float64(i))
		line = append(line, int(math.Round(100+70*x)), int(math.Round(125+70*y)))
	}
	return line
}

// lobby is where people wait until the bot has opened a room. It is safe for concurrent
// use.
type lobby struct {
	mu      sync.Mutex
	id      string        // of the room, or ""
	changed chan struct{} // closed when id changes
}

func newLobby() *lobby { return &lobby{changed: make(chan struct{})} }

// open sets the ID of the room, and wakes everybody who waits.
func (l *lobby) open(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id = id
	close(l.changed)
	l.changed = make(chan struct{})
}

// join joins the room as soon as there is one.
func (l *lobby) join(ctx context.Context, rooms *mmo.Client) (*mmo.Room, error) {
	for {
		l.mu.Lock()
		id, changed := l.id, l.changed
		l.mu.Unlock()
		if id != "" {
			return rooms.Join(ctx, id, mmo.ProtocolWebSocket)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
