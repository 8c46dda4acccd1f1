package webapp

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"golang.org/x/oauth2"
)

const (
	sessionLifetime = 12 * time.Hour
	maxSessions     = 10_000
	maxTouched      = 50 // keys that a session remembers

	sessionFile, tokenFile = ".session", ".token" // the suffixes of the files' names
)

// session is one signed-in browser. The browser holds the ID and nothing else.
type session struct {
	kept
	tokens *oauth2login.TokenSource // this user's token; refreshes it when it is due
	api    *shangcloud.API          // uses tokens

	mu      sync.Mutex
	touched []string // keys of variables, the newest first
	notice  string   // shown on the next page
}

// kept is the part of a session that survives a restart. The token is in a separate file.
type kept struct {
	User *shangcloud.UserInfo
	Form string // in every form: other sites cannot read it, so they cannot forge a form
	Ends time.Time
}

// sessions holds the sessions in memory and, if there is a folder for them, in files. It
// is safe for concurrent use.
type sessions struct {
	cookie   http.Cookie // all but the value
	provider *shangcloud.Provider
	dir      string // or ""

	mu   sync.Mutex
	byID map[string]*session
}

func newSessions(provider *shangcloud.Provider, https bool, dir string) *sessions {
	name := "weblogin-session"
	if https {
		name = "__Host-" + name // browsers accept it only from this host, over https
	}
	ss := &sessions{
		cookie: http.Cookie{
			Name: name, Path: "/", Secure: https, HttpOnly: true,
			// Not Strict: the redirect from ShangCloud comes from another site.
			SameSite: http.SameSiteLaxMode,
		},
		provider: provider,
		dir:      dir,
		byID:     make(map[string]*session),
	}
	if dir != "" {
		ss.sweep()
	}
	return ss
}

// start signs a browser in. The session ID is always new. So an ID that an attacker
// planted before the login is worthless. start asks the platform who the user is.
func (ss *sessions) start(w http.ResponseWriter, r *http.Request, tok *oauth2.Token) error {
	ss.drop(r)
	id := rand.Text()
	s, err := ss.open(id)
	if err != nil {
		return err
	}
	if err := ss.signIn(w, r, id, s, tok); err != nil {
		return errors.Join(err, s.tokens.Delete(r.Context())) // no token stays behind
	}
	return nil
}

func (ss *sessions) signIn(w http.ResponseWriter, r *http.Request, id string, s *session, tok *oauth2.Token) (err error) {
	if err := s.tokens.SetToken(r.Context(), tok); err != nil { // save it before anything else
		return err
	}
	if s.User, err = s.api.UserInfo(r.Context()); err != nil {
		return err
	}
	return ss.add(w, id, s)
}

// add gives a session to a browser.
func (ss *sessions) add(w http.ResponseWriter, id string, s *session) error {
	s.Form, s.Ends = rand.Text(), time.Now().Add(sessionLifetime)
	if err := ss.write(id, s); err != nil {
		return err
	}
	ss.mu.Lock()
	ss.makeRoom()
	ss.byID[id] = s
	ss.mu.Unlock()
	ss.setCookie(w, id, int(sessionLifetime.Seconds()))
	return nil
}

// sweep removes the files of ended sessions.
func (ss *sessions) sweep() {
	old, _ := filepath.Glob(filepath.Join(ss.dir, "*"+sessionFile)) // Glob fails only if the pattern is malformed
	for _, path := range old {
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < sessionLifetime {
			continue
		}
		id := strings.TrimSuffix(path, sessionFile)
		for _, end := range []string{sessionFile, tokenFile, tokenFile + ".lock"} {
			_ = os.Remove(id + end)
		}
	}
}

// open returns a session, with its token if one is stored.
func (ss *sessions) open(id string) (*session, error) {
	var store oauth2login.TokenStore = new(tokenstore.Memory)
	if ss.dir != "" {
		file, err := tokenstore.NewFile(ss.file(id, tokenFile))
		if err != nil {
			return nil, err
		}
		store = file
	}
	tokens := ss.provider.StoredTokens(store)
	return &session{tokens: tokens, api: ss.provider.API(tokens)}, nil
}

// file returns the name of a session's file. The name does not reveal the session ID.
func (ss *sessions) file(id, suffix string) string {
	hash := sha256.Sum256([]byte(id))
	return filepath.Join(ss.dir, hex.EncodeToString(hash[:])+suffix)
}

func (ss *sessions) write(id string, s *session) error {
	if ss.dir == "" {
		return nil
	}
	data, err := json.Marshal(s.kept)
	if err != nil {
		return err
	}
	return os.WriteFile(ss.file(id, sessionFile), data, 0o600)
}

// restore returns the session of an earlier run of the program, or nil. The caller holds
// ss.mu.
func (ss *sessions) restore(id string) *session {
	if ss.dir == "" {
		return nil
	}
	data, err := os.ReadFile(ss.file(id, sessionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s, failed := ss.open(id)
	if err = errors.Join(err, failed); err == nil {
		err = json.Unmarshal(data, &s.kept)
	}
	if err != nil {
		log.Printf("session: %v", err)
		return nil
	}
	ss.makeRoom()
	ss.byID[id] = s
	return s
}

// makeRoom makes room for one session if there are maxSessions. It removes all expired
// sessions. If there are none, it removes the oldest session. The caller holds ss.mu.
func (ss *sessions) makeRoom() {
	if len(ss.byID) < maxSessions {
		return
	}
	now, oldest := time.Now(), ""
	for id, s := range ss.byID {
		switch {
		case !now.Before(s.Ends):
			delete(ss.byID, id)
		case oldest == "" || s.Ends.Before(ss.byID[oldest].Ends):
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
	s := ss.get(c.Value)
	if s == nil || time.Now().Before(s.Ends) {
		return s
	}
	ss.remove(r.Context(), c.Value)
	return nil
}

func (ss *sessions) get(id string) *session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if s := ss.byID[id]; s != nil {
		return s
	}
	return ss.restore(id)
}

// end signs the browser out: it removes the session and the cookie.
func (ss *sessions) end(w http.ResponseWriter, r *http.Request) {
	ss.drop(r)
	ss.setCookie(w, "", -1)
}

func (ss *sessions) drop(r *http.Request) {
	if c, err := r.Cookie(ss.cookie.Name); err == nil {
		ss.remove(r.Context(), c.Value)
	}
}

// remove ends a session and deletes its token.
func (ss *sessions) remove(ctx context.Context, id string) {
	s := ss.get(id)
	if s == nil {
		return
	}
	ss.mu.Lock()
	delete(ss.byID, id)
	if ss.dir != "" {
		_ = os.Remove(ss.file(id, sessionFile))
	}
	ss.mu.Unlock()
	if err := s.tokens.Delete(ctx); err != nil { // waits for a pending refresh
		log.Printf("sign out: %v", err)
	}
}

func (ss *sessions) setCookie(w http.ResponseWriter, value string, maxAge int) {
	c := ss.cookie
	c.Value, c.MaxAge = value, maxAge
	http.SetCookie(w, &c)
}

// hasToken reports whether a form came from a page of this session.
func (s *session) hasToken(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.Form)) == 1
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
