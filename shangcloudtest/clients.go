package shangcloudtest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// The scopes of the platform: those of its reference documentation and its
// server-side clients, then the two that only its game clients ask for.
var allScopes = []string{"user:basic", "var:io", "mmo", "openid", "profile"}

// Client is an application as registered in the developer console.
type Client struct {
	ID string

	// Secret makes the client a confidential one; if "", it is public.
	Secret string

	// RedirectURIs are where logins may come back to, compared as strings.
	// The port of http://127.0.0.1 and http://[::1] does not count
	// (RFC 8252, 7.3): a native application takes a free one each time.
	RedirectURIs []string

	// Scopes are those that the client may ask for; if nil, all of them.
	Scopes []string

	// PKCE is what is done about proof keys (RFC 7636).
	PKCE PKCE
}

// Format prints the ID only, whatever the verb.
func (c Client) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "shangcloudtest.Client(%s)", c.ID)
}

// MarshalJSON leaves the secret out.
func (c Client) MarshalJSON() ([]byte, error) {
	type public struct {
		ID           string
		RedirectURIs []string
		Scopes       []string
		PKCE         PKCE
	}
	return json.Marshal(public{c.ID, c.RedirectURIs, c.Scopes, c.PKCE})
}

// User is somebody with an account.
type User struct {
	ID        int64 // "uid" on the wire
	Nickname  string
	Email     string // "mail"
	AvatarURL string // "avatar"
}

// client is a registered Client, which nobody changes any more.
type client struct {
	Client
	authorization string   // the header that proves the secret; "" for a public client
	hash          [32]byte // of authorization
}

// AddClient registers a client. One with the same ID is replaced, which is how a
// secret is changed; what was issued to it stays good. A client without an ID,
// or with a redirect URI that no platform would take, is a mistake in the
// test and panics.
func (s *Server) AddClient(c Client) {
	if c.ID == "" {
		panic("shangcloudtest: a client needs an ID")
	}
	for _, uri := range c.RedirectURIs {
		// RFC 6749, 3.1.2: an absolute URI without a fragment.
		if u, err := url.Parse(uri); err != nil || u.Scheme == "" || strings.Contains(uri, "#") {
			panic("shangcloudtest: a redirect URI must be absolute and have no fragment")
		}
	}
	c.RedirectURIs, c.Scopes = slices.Clone(c.RedirectURIs), slices.Clone(c.Scopes)
	if c.Scopes == nil {
		c.Scopes = allScopes
	}
	added := &client{Client: c}
	if c.Secret != "" {
		// As seen in the platform's reference documentation: ID and secret as
		// they are, not percent-encoded first as RFC 6749, 2.3.1 has it.
		added.authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(c.ID+":"+c.Secret))
		added.hash = sha256.Sum256([]byte(added.authorization))
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.clients[c.ID]; old != nil {
		delete(s.byAuth, old.hash)
	}
	s.clients[c.ID] = added
	if added.authorization != "" {
		s.byAuth[added.hash] = added
	}
}

// AddUser gives somebody an account, or changes the one with the same ID. The
// consent page offers users in the order in which they were added. An ID below 1
// is a mistake in the test and panics: the platform has none.
func (s *Server) AddUser(u User) {
	if u.ID < 1 {
		panic("shangcloudtest: a user's ID must be 1 or more")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, known := s.userAt[u.ID]; known {
		s.users[i] = u
		return
	}
	s.userAt[u.ID] = len(s.users)
	s.users = append(s.users, u)
}

// user returns the account of uid. The caller holds s.mu.
func (s *Server) user(uid int64) (User, bool) {
	if i, known := s.userAt[uid]; known {
		return s.users[i], true
	}
	return User{}, false
}
