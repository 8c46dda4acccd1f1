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

// stateSeparator separates the two parts of a state: the random part that this package
// generates, and the application's data. The random part never contains the separator.
const stateSeparator = "."

// Session is one login, from the redirect to ShangCloud to the user's data. It is made by
// [Provider.BeginAuth] or [Provider.UnmarshalSession] and safe for concurrent use. The
// zero value contains no login: GetAuthURL, Authorize and FetchUser return an error.
//
// Package fmt prints only the type. By goth's convention, Marshal and String return the
// data that a store has to keep.
type Session struct {
	// Package fmt does not follow an atomic.Pointer. So no verb prints the session, not
	// even as a field of another struct.
	login atomic.Pointer[stored] // nil: none
	token atomic.Pointer[oauth2.Token]
}

var _ goth.Session = (*Session)(nil)

// stored is the part of a session that is kept between two requests. It contains no
// tokens. AuthURL has the same name as in goth's own sessions.
type stored struct {
	AuthURL string
	Cookie  string // the cookies of StartLogin, as a Cookie header
}

func newSession(login stored) *Session {
	s := new(Session)
	s.login.Store(&login)
	return s
}

// stored returns the stored part of s, or the zero value if s has no login.
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

// Marshal returns s as text for a store. The text contains no tokens, so a session that is
// loaded again must be authorized again. It does contain the secret that finishes this
// login.
func (s *Session) Marshal() string {
	b, err := json.Marshal(s.stored())
	if err != nil {
		panic(err) // impossible: the value consists of two strings
	}
	return string(b)
}

// String returns the same as Marshal, by goth's convention. Package fmt calls Format
// instead.
func (s *Session) String() string { return s.Marshal() }

// Format prints the type only, whatever the verb.
func (s *Session) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "gothshangcloud.Session") }

// MarshalJSON returns an empty object, because JSON is often logged. To store s, use
// Marshal.
func (s *Session) MarshalJSON() ([]byte, error) { return []byte("{}"), nil }

// UnmarshalSession reads what [Session.Marshal] returned. It never reads tokens from
// data, so a forged session still has to be authorized.
func (p *Provider) UnmarshalSession(data string) (goth.Session, error) {
	var v stored
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		return nil, errors.New("shangcloud: goth: not a session") // err may quote the session
	}
	return newSession(v), nil
}

// Authorize exchanges the authorization code and so finishes the login. It works only
// once. params are the parameters of the callback. provider must be the provider that
// began s. Authorize returns only the access token. FetchUser returns all tokens.
//
// The errors are those of [shangcloud.Provider.FinishLogin]. gothic.CompleteUserAuth
// returns them unchanged. [oauth2login.ErrAccessDenied] means that the user refused.
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
	// The parameters of a callback: RFC 6749, sections 4.1.2 and 4.1.2.1, and RFC 9207.
	for _, name := range []string{"state", "code", "error", "error_description", "error_uri", "iss"} {
		if values, ok := params.(url.Values); ok { // gothic passes these; FinishLogin then also sees repeated and empty parameters
			if values.Has(name) {
				q[name] = values[name]
			}
		} else if value := params.Get(name); value != "" {
			q.Set(name, value)
		}
	}
	if len(q["state"]) == 1 {
		got := q.Get("state")
		// FinishLogin checks only the random part of the state. This comparison also
		// covers the application's part. gothic checks that part, but an application
		// without gothic may not.
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
