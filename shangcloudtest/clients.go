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

// allScopes are the scopes of the platform. The first three are in its reference
// documentation. Only its game clients request the last two.
var allScopes = []string{"user:basic", "var:io", "mmo", "openid", "profile"}

// Client is an application that is registered in the developer console. Package fmt
// prints it without its secret. The exception is a Client in an unexported field of a
// struct.
type Client struct {
	ID string

	// Secret makes the client a confidential one. A client without a secret is
	// public.
	Secret string

	// RedirectURIs are the allowed redirect URIs. The server compares them as strings, but
	// ignores the port of http://127.0.0.1 and http://[::1], because a native application
	// uses any free port (RFC 8252, 7.3).
	RedirectURIs []string

	// Scopes are the scopes that the client may request. If nil, it may request all.
	Scopes []string

	// PKCE says whether the client must use PKCE (RFC 7636).
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

// User is a user with an account on the platform.
type User struct {
	ID        int64 // "uid" in API answers
	Nickname  string
	Email     string // "mail" in API answers
	AvatarURL string // "avatar" in API answers
}

// client is a registered Client. It does not change after AddClient.
type client struct {
	Client
	authorization string   // the Authorization header it has to send; "" for a public client
	hash          [32]byte // the SHA-256 of authorization
}

// AddClient registers a client. It replaces a client with the same ID, for example to
// change the secret. Codes and tokens of the replaced client stay valid. AddClient
// panics if the client has no ID or an invalid redirect URI.
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
		// According to the platform's reference documentation, ID and secret are not
		// percent-encoded, unlike in RFC 6749, 2.3.1.
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

// client returns the client with an ID, or nil.
func (s *Server) client(id string) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients[id]
}

// AddUser adds a user, or replaces the user with the same ID. The consent page lists
// the users in the order in which they were added. AddUser panics if the ID is below
// 1, because the platform has no such IDs.
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

// user returns the user with an ID. The caller holds s.mu.
func (s *Server) user(uid int64) (User, bool) {
	if i, known := s.userAt[uid]; known {
		return s.users[i], true
	}
	return User{}, false
}
