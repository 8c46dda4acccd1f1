package main

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	sessionLifetime = 12 * time.Hour
	maxSessions     = 10_000
)

// key names an identity: a provider, and the user's ID there. No other data identifies a
// user.
type key struct{ provider, subject string }

// identity is a way to sign in to an account.
type identity struct {
	Provider *provider
	user
}

func (i identity) key() key { return key{i.Provider.ID, i.Subject} }

// account is a person's account in this application.
type account struct {
	id         string
	identities []identity // never empty, or nobody could sign in any more
}

// session is one signed-in browser. Only its field notice changes.
type session struct {
	id      string // value of the browser's cookie
	account *account
	with    key
	token   string // in every form: other sites cannot read it, so they cannot forge a form
	ends    time.Time
	notice  notice // shown on the next page
}

// hasToken reports whether a form came from a page of this session.
func (s *session) hasToken(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) == 1
}

var (
	errNotSignedIn  = errors.New("the account is not signed in here any more")
	errOtherAccount = errors.New("the identity belongs to another account")
	errLast         = errors.New("the account's last identity can't be unlinked")
)

// store keeps accounts and sessions in memory, under one lock. With a database, each
// method would be a transaction. owner would be a table with the primary key (provider,
// subject), so that an identity never belongs to two accounts.
type store struct {
	mu       sync.Mutex
	owner    map[key]*account
	sessions map[string]*session
}

func newStore() *store {
	return &store{owner: make(map[key]*account), sessions: make(map[string]*session)}
}

// session returns a session that has not ended, or nil. The caller holds st.mu.
func (st *store) session(id string) *session {
	s := st.sessions[id]
	if s == nil || !time.Now().Before(s.ends) {
		delete(st.sessions, id)
		return nil
	}
	return s
}

func (st *store) sessionOf(id string) *session {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.session(id)
}

// signIn starts a session of the account that has this identity, or of a new account. The
// session ID is new. So an ID that an attacker planted in the browser before is
// worthless.
func (st *store) signIn(old string, p *provider, u user) (sessionID string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	i := identity{p, u}
	a := st.owner[i.key()]
	if a == nil {
		a = &account{id: rand.Text()}
	}
	st.put(a, i)
	delete(st.sessions, old)
	if len(st.sessions) >= maxSessions {
		maps.DeleteFunc(st.sessions, func(_ string, s *session) bool { return !time.Now().Before(s.ends) })
		for id := range st.sessions {
			if len(st.sessions) < maxSessions {
				break
			}
			delete(st.sessions, id) // any session, because this is a demo; the map stays bounded
		}
	}
	s := &session{id: rand.Text(), account: a, with: i.key(), token: rand.Text(), ends: time.Now().Add(sessionLifetime)}
	st.sessions[s.id] = s
	return s.id
}

// link adds an identity to the account if no account has it yet. It checks the session
// and the account again: while the user was at the provider, another person may have
// signed in with this browser, or the session may have ended.
func (st *store) link(sessionID, accountID string, p *provider, u user) (notice, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	i := identity{p, u}
	s := st.session(sessionID)
	if s == nil || s.account.id != accountID {
		return noNotice, errNotSignedIn
	}
	said := noticeLinked
	switch st.owner[i.key()] {
	case nil:
	case s.account:
		said = noticeHadIt
	default:
		return noNotice, errOtherAccount
	}
	st.put(s.account, i)
	return said, nil
}

// linkAndSay links an identity and leaves a notice for the session's next page.
func (st *store) linkAndSay(sessionID, accountID string, p *provider, u user) error {
	said, err := st.link(sessionID, accountID, p, u)
	if err == nil {
		st.say(sessionID, said)
	}
	return err
}

// put adds an identity, or updates an existing one. The caller holds st.mu.
func (st *store) put(a *account, i identity) {
	at := slices.IndexFunc(a.identities, func(has identity) bool { return has.key() == i.key() })
	if at < 0 {
		a.identities, at = append(a.identities, i), len(a.identities)
	}
	a.identities[at] = i
	st.owner[i.key()] = a
}

// unlink removes an identity from the account of s. It ends all other sessions of the
// account, because someone who signed in with that identity may still be signed in.
func (st *store) unlink(s *session, k key) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	a := s.account
	switch {
	case st.session(s.id) == nil:
		return errNotSignedIn
	case st.owner[k] != a:
		return nil // already removed, by an earlier click
	case len(a.identities) == 1:
		return errLast
	}
	delete(st.owner, k)
	a.identities = slices.DeleteFunc(a.identities, func(i identity) bool { return i.key() == k })
	maps.DeleteFunc(st.sessions, func(id string, other *session) bool { return other.account == a && id != s.id })
	return nil
}

func (st *store) signOut(id string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(st.sessions, id)
}

func (st *store) identities(a *account) []identity {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Clone(a.identities)
}

// say leaves a notice for the session's next page, if there is a session.
func (st *store) say(sessionID string, n notice) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.session(sessionID)
	if s != nil {
		s.notice = n
	}
	return s != nil
}

func (st *store) takeNotice(s *session) notice {
	st.mu.Lock()
	defer st.mu.Unlock()
	n := s.notice
	s.notice = noNotice
	return n
}
