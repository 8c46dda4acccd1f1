package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/time/rate"
)

const (
	maxSeats    = 200
	maxSeatsOf  = 4 // of one session; a browser opens only six connections to a host
	maxPost     = 8 << 10
	postLimit   = 10 * time.Second // to hand a message to the room
	writeLimit  = 10 * time.Second // for a browser to take an event
	pulse       = 15 * time.Second // a comment after so much silence keeps proxies awake, and finds closed pages
	postsSecond = 20               // a page that draws sends ten
	postsBurst  = 60
)

// seat is one open page. While the page is open, the seat is a member of the room.
type seat struct {
	id     string // known to this page only: nobody else can post in its name
	person *person
	posts  *rate.Limiter
	leave  context.CancelFunc

	mu   sync.Mutex
	conn *mmo.Conn // nil while there is no connection to the room
}

func (s *seat) connected() *mmo.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

func (s *seat) connect(conn *mmo.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
}

// event is a server-sent event for a page.
type event struct {
	Kind    string   `json:"kind"` // "welcome", "members", "message", "waiting" or "over"
	Seat    string   `json:"seat,omitempty"`
	UID     string   `json:"uid,omitempty"` // welcome: of this page; members: who joined or left
	Members []member `json:"members,omitempty"`
	Message *message `json:"message,omitempty"`
}

type member struct {
	UID  string `json:"uid"`
	Name string `json:"name"`
}

// members lists the members of the room. The list is limited, because other programs can
// announce any number of members.
func members(conn *mmo.Conn) (list []member) {
	for _, m := range conn.Members() {
		if len(m.UID) <= maxID && len(list) < maxSeats {
			list = append(list, member{m.UID, shorten(m.Nickname)})
		}
	}
	return list
}

// errPageGone ends a session with the room.
var errPageGone = errors.New("the page was closed")

// events serves the stream of a page. The page is in the room until the browser, the person
// or the program ends the stream.
func (a *app) events(ctx context.Context, w http.ResponseWriter, r *http.Request, p *person) {
	// Some browsers do not send this header. They can't start a stream for another site
	// either, because the session cookie is SameSite=Lax.
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		http.Error(w, "from this site only", http.StatusForbidden)
		return
	}
	here, leave := context.WithDeadline(r.Context(), p.ends)
	defer leave()
	defer context.AfterFunc(ctx, leave)()
	s := a.seats.take(p, leave)
	if s == nil {
		http.Error(w, "too many open pages", http.StatusTooManyRequests)
		return
	}
	defer a.seats.free(s)
	to := newStream(w)
	if to.send(event{Kind: "waiting"}) != nil {
		return
	}
	account, uid := strconv.FormatInt(p.user.ID, 10), ""
	session := mmo.Session{
		Join: func(ctx context.Context) (*mmo.Room, error) {
			room, err := a.lobby.join(ctx, p.rooms)
			if err == nil {
				uid = cmp.Or(room.AssignedUID, account)
			}
			return room, err
		},
		Use:     func(ctx context.Context, conn *mmo.Conn) error { return s.use(ctx, conn, uid, to) },
		Options: &mmo.DialOptions{UID: account, Nickname: shorten(p.user.Nickname), AllowPlaintext: a.plaintext},
		Waiting: func(err error, pause time.Duration) {
			log.Printf("room: again in %v: %v", pause.Round(time.Millisecond), err)
			_ = to.send(event{Kind: "waiting"})
		},
	}
	err := session.Run(here)
	switch {
	case errors.Is(err, oauth2login.ErrLoginRequired), errors.Is(err, mmo.ErrForbidden):
		_ = to.send(event{Kind: "over"}) // the page does not come back by itself
		log.Printf("room: %v", err)
	case here.Err() == nil && !errors.Is(err, errPageGone):
		log.Printf("room: %v", err)
	}
}

// use sends the room's events to the page, until the connection or the page ends.
func (s *seat) use(ctx context.Context, conn *mmo.Conn, uid string, to *stream) error {
	s.connect(conn)
	defer s.connect(nil)
	if to.send(event{Kind: "welcome", Seat: s.id, UID: uid, Members: members(conn)}) != nil {
		return errPageGone
	}
	for {
		limited, cancel := context.WithTimeout(ctx, pulse)
		got, err := conn.Read(limited)
		cancel()
		switch {
		case err == nil:
			err = to.tell(got, conn, uid)
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			err = to.write(": still here\n\n")
		}
		if err != nil {
			return err
		}
	}
}

// stream writes server-sent events. One goroutine uses it.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	s := &stream{w, http.NewResponseController(w)}
	_ = s.control.SetReadDeadline(time.Time{}) // the server's deadline is for ordinary requests
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold the events back
	return s
}

// tell sends an event of the room to the page. uid is the page's member.
func (s *stream) tell(got mmo.Event, conn *mmo.Conn, uid string) error {
	switch got := got.(type) {
	case mmo.Broadcast:
		m, ok := received(got)
		if !ok || m.To != "" && m.To != uid {
			return nil
		}
		return s.send(event{Kind: "message", Message: &m})
	case mmo.MemberJoined:
		return s.send(event{Kind: "members", UID: got.UID, Members: members(conn)})
	case mmo.MemberLeft:
		return s.send(event{Kind: "members", UID: got.UID, Members: members(conn)})
	case mmo.Members:
		return s.send(event{Kind: "members", Members: members(conn)})
	}
	return nil // texts and variables mean nothing here
}

func (s *stream) send(e event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.write(fmt.Sprintf("data: %s\n\n", data)) // JSON has no line breaks
}

// write returns errPageGone if the browser is gone, or does not read in time.
func (s *stream) write(text string) error {
	err := s.control.SetWriteDeadline(time.Now().Add(writeLimit))
	if err == nil {
		_, err = s.w.Write([]byte(text))
	}
	if err == nil {
		err = s.control.Flush()
	}
	if err != nil {
		return errPageGone
	}
	return nil
}

// post sends what a person says or draws to the room.
func (a *app) post(w http.ResponseWriter, r *http.Request, p *person) {
	var posted struct {
		Seat string `json:"seat"`
		message
	}
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPost)).Decode(&posted) != nil || !posted.isValid() {
		http.Error(w, "not a message", http.StatusBadRequest)
		return
	}
	posted.UID, posted.Name = "", "" // of this person, whatever the browser says
	if posted.Kind != draw {
		posted.Name = shorten(p.user.Nickname) // it may arrive before the list of members
	}
	s := a.seats.of(p, posted.Seat)
	if s == nil {
		http.Error(w, "not an open page of yours", http.StatusForbidden)
		return
	}
	if !s.posts.Allow() {
		http.Error(w, "too fast", http.StatusTooManyRequests)
		return
	}
	conn := s.connected()
	if conn == nil {
		http.Error(w, "no connection to the room", http.StatusServiceUnavailable)
		return
	}
	// The request's context may end in the middle of a message. That would end the
	// connection to the room.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), postLimit)
	defer cancel()
	if err := send(ctx, conn, posted.message); err != nil {
		log.Printf("send: %v", err)
		http.Error(w, "not sent", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// seats are the open pages.
type seats struct {
	mu   sync.Mutex
	byID map[string]*seat
}

// take adds an open page. It returns nil if there are too many pages.
func (ss *seats) take(p *person, leave context.CancelFunc) *seat {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	own := 0
	for _, s := range ss.byID {
		if s.person == p {
			own++
		}
	}
	if own >= maxSeatsOf || len(ss.byID) >= maxSeats {
		return nil
	}
	s := &seat{id: rand.Text(), person: p, posts: rate.NewLimiter(postsSecond, postsBurst), leave: leave}
	if ss.byID == nil {
		ss.byID = make(map[string]*seat)
	}
	ss.byID[s.id] = s
	return s
}

func (ss *seats) free(s *seat) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.byID, s.id)
}

// of returns a person's seat, or nil.
func (ss *seats) of(p *person, id string) *seat {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if s := ss.byID[id]; s != nil && s.person == p {
		return s
	}
	return nil
}

// leave ends all pages of a person.
func (ss *seats) leave(p *person) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, s := range ss.byID {
		if s.person == p {
			s.leave()
		}
	}
}
