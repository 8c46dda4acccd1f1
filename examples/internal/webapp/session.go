package webapp

import (
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"slices"
	"sync"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
)

const (
	sessionLifetime = 12 * time.Hour
	maxSessions     = 10_000
	maxTouched      = 50 // keys that a session remembers
)

// session is one signed-in browser. The browser holds the ID and nothing else.
type session struct {
	user  *shangcloud.UserInfo
	api   *shangcloud.API // with this user's token
	token string          // in every form: who can't read our pages can't send one
	ends  time.Time

	mu      sync.Mutex
	touched []string // keys of variables, the newest first
	notice  string   // for the next page
}

// sessions are kept in memory. It is safe for concurrent use.
type sessions struct {
	cookie http.Cookie // all but the value

	mu   sync.Mutex
	byID map[string]*session
}

func newSessions(https bool) *sessions {
	name := "weblogin-session"
	if https {
		name = "__Host-" + name // browsers take it from this very host only, over https
	}
	return &sessions{
		cookie: http.Cookie{
			Name: name, Path: "/", Secure: https, HttpOnly: true,
			// Not Strict: the way back from ShangCloud begins on another site.
			SameSite: http.SameSiteLaxMode,
		},
		byID: make(map[string]*session),
	}
}

// start signs a browser in, always with a new ID: one that somebody planted
// before the login is worth nothing.
func (ss *sessions) start(w http.ResponseWriter, r *http.Request, user *shangcloud.UserInfo, api *shangcloud.API) {
	ss.drop(r)
	id := rand.Text()
	s := &session{user: user, api: api, token: rand.Text(), ends: time.Now().Add(sessionLifetime)}
	ss.mu.Lock()
	ss.makeRoom()
	ss.byID[id] = s
	ss.mu.Unlock()
	ss.setCookie(w, id, int(sessionLifetime.Seconds()))
}

// makeRoom drops what has ended and, if that is not enough, the oldest session.
// The caller holds ss.mu.
func (ss *sessions) makeRoom() {
	if len(ss.byID) < maxSessions {
		return
	}
	now, oldest := time.Now(), ""
	for id, s := range ss.byID {
		switch {
		case !now.Before(s.ends):
			delete(ss.byID, id)
		case oldest == "" || s.ends.Before(ss.byID[oldest].ends):
			oldest = id
		}
	}
	if len(ss.byID) >= maxSessions {
		delete(ss.byID, oldest)
	}
}

// of returns the session of the browser that sent r, or nil.
func (ss *sessions) of(r *http.Request) *session {
	c, err := r.Cookie(ss.cookie.Name)
	if err != nil {
		return nil
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s := ss.byID[c.Value]
	if s == nil || !time.Now().Before(s.ends) {
		delete(ss.byID, c.Value)
		return nil
	}
	return s
}

// end signs the browser out, here and there.
func (ss *sessions) end(w http.ResponseWriter, r *http.Request) {
	ss.drop(r)
	ss.setCookie(w, "", -1)
}

func (ss *sessions) drop(r *http.Request) {
	if c, err := r.Cookie(ss.cookie.Name); err == nil {
		ss.mu.Lock()
		delete(ss.byID, c.Value)
		ss.mu.Unlock()
	}
}

func (ss *sessions) setCookie(w http.ResponseWriter, value string, maxAge int) {
	c := ss.cookie
	c.Value, c.MaxAge = value, maxAge
	http.SetCookie(w, &c)
}

// hasToken reports whether a form came from a page of this session.
func (s *session) hasToken(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) == 1
}

// touch remembers the key of a variable.
func (s *session) touch(key string) {
	s.forget(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touched = slices.Insert(s.touched, 0, key)
	s.touched = s.touched[:min(len(s.touched), maxTouched)]
}

func (s *session) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touched = slices.DeleteFunc(s.touched, func(k string) bool { return k == key })
}

func (s *session) keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.touched)
}

// say leaves a notice for the next page.
func (s *session) say(notice string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notice = notice
}

func (s *session) takeNotice() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	notice := s.notice
	s.notice = ""
	return notice
}
