package gothshangcloud

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/markbates/goth"
	"golang.org/x/oauth2"
)

// stateSeparator stands between our part of a state and the application's. It does
// not occur in ours.
const stateSeparator = "."

// Session is one login, from the redirect to ShangCloud to the user's data. It is
// made by [Provider.BeginAuth] or [Provider.UnmarshalSession] and safe for concurrent
// use. The zero value is no login: GetAuthURL, Authorize and FetchUser refuse it.
//
// It prints as its type. Marshal and String, by goth's convention, give what a store
// has to keep.
type Session struct {
	// Package fmt does not follow an atomic.Pointer, whatever the verb, wherever the
	// Session stands.
	login atomic.Pointer[stored] // nil: none
	token atomic.Pointer[oauth2.Token]
}

var _ goth.Session = (*Session)(nil)

// stored is a session between two requests: no tokens. Names are goth's, where
// it has one.
type stored struct {
	AuthURL string
	Cookie  string // what StartLogin gave the browser, as a Cookie header has it
}

func newSession(login stored) *Session {
	s := new(Session)
	s.login.Store(&login)
	return s
}

// stored is the zero value for no login.
func (s *Session) stored() stored {
	if login := s.login.Load(); login != nil {
		return *login
	}
	return stored{}
}

// GetAuthURL returns the address to send the browser to.
func (s *Session) GetAuthURL() (string, error) {
	authURL := s.stored().AuthURL
	if authURL == "" {
		return "", errors.New("shangcloud: goth: " + goth.NoAuthUrlErrorMessage)
	}
	return authURL, nil
}

// Marshal returns s for a store, without tokens: a session that was stored has to be
// authorized. It holds the secret that finishes this one login.
func (s *Session) Marshal() string {
	b, err := json.Marshal(s.stored())
	if err != nil {
		panic(err) // two strings
	}
	return string(b)
}

// String is Marshal, by goth's convention. Package fmt does not use it.
func (s *Session) String() string { return s.Marshal() }

// Format prints the type only, whatever the verb.
func (s *Session) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "gothshangcloud.Session") }

// MarshalJSON gives an empty object: s is stored with Marshal, and JSON ends in logs.
func (s *Session) MarshalJSON() ([]byte, error) { return []byte("{}"), nil }

// UnmarshalSession reads what [Session.Marshal] returned. It takes no tokens from
// anywhere: a session that was tampered with is still one that has to be authorized.
func (p *Provider) UnmarshalSession(data string) (goth.Session, error) {
	var v stored
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		return nil, errors.New("shangcloud: goth: not a session") // err may quote the session
	}
	return newSession(v), nil
}

// Authorize redeems the login, which works once, and then the authorization code in
// params, the parameters of the callback. It returns the access token; FetchUser
// returns all there is. provider has to be the one that s was begun with.
//
// The errors are those of [shangcloud.Provider.FinishLogin]. With gothic, an error of
// the callback comes out of CompleteUserAuth as it is; [oauth2login.ErrAccessDenied] is
// a user's No.
func (s *Session) Authorize(provider goth.Provider, params goth.Params) (string, error) {
	p, ok := provider.(*Provider)
	if !ok || p == nil {
		return "", errors.New("shangcloud: goth: the provider is another one's")
	}
	authURL, err := s.GetAuthURL()
	if err != nil {
		return "", err
	}
	q := make(url.Values)
	// RFC 6749, section 4.1.2 and 4.1.2.1; RFC 9207.
	for _, name := range []string{"state", "code", "error", "error_description", "error_uri", "iss"} {
		if values, ok := params.(url.Values); ok { // of gothic: FinishLogin sees what is repeated, or empty
			if values.Has(name) {
				q[name] = values[name]
			}
		} else if value := params.Get(name); value != "" {
			q.Set(name, value)
		}
	}
	if len(q["state"]) == 1 {
		got := q.Get("state")
		// FinishLogin sees to our part. This is for the application's, which not
		// everyone who uses goth without gothic compares.
		if subtle.ConstantTimeCompare([]byte(got), []byte(stateOf(authURL))) != 1 {
			return "", oauth2login.ErrWrongBrowser
		}
		ours, _, _ := strings.Cut(got, stateSeparator)
		q.Set("state", ours)
	}
	browser := request(q.Encode())
	browser.Header.Set("Cookie", s.stored().Cookie)
	login, err := p.p.FinishLogin(answer{}, browser)
	if err != nil {
		return "", err
	}
	s.token.Store(login.Token)
	return login.Token.AccessToken, nil
}

func stateOf(authURL string) string {
	u, err := url.Parse(authURL)
	if err != nil {
		return ""
	}
	return u.Query().Get("state")
}
