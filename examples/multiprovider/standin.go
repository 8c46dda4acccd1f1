package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/page"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"golang.org/x/oauth2"
)

// people are whom the stand-ins know. They have the same mail addresses
// everywhere, which makes none of them the same person.
var people = []user{
	{"10001", "林小满", "xiaoman@example.com", "/avatars/1.svg"},
	{"10002", "Ada King", "ada@example.com", "/avatars/2.svg"},
	{"10003", "Søren O’Neill", "soren@example.com", ""},
}

// startStandIns gives every provider without credentials a stand-in, and points
// its row there: nothing else knows the difference.
func startStandIns(rows []*provider) (stop func(), err error) {
	var running []interface{ Close() error }
	stop = func() {
		for _, server := range running {
			server.Close()
		}
	}
	for _, p := range rows {
		if p.Config.ClientID != "" {
			continue
		}
		p.StandIn, p.Config.ClientID, p.Config.ClientSecret = true, "multiprovider", rand.Text()
		start := startStandIn
		if p.ID == "shangcloud" {
			start = startShangCloud
		}
		server, err := start(p)
		if err != nil {
			stop()
			return nil, err
		}
		running = append(running, server)
	}
	return stop, nil
}

// startShangCloud starts the platform that this library brings along for tests.
func startShangCloud(p *provider) (interface{ Close() error }, error) {
	server, err := shangcloudtest.Start("")
	if err != nil {
		return nil, err
	}
	p.Config.Endpoint, p.API = shangcloud.EndpointAt(server.URL), server.URL
	server.AddClient(shangcloudtest.Client{
		ID: p.Config.ClientID, Secret: p.Config.ClientSecret, RedirectURIs: []string{p.Config.RedirectURL},
	})
	server.Handle("/avatars/", http.HandlerFunc(avatar))
	for _, u := range people {
		id, _ := strconv.ParseInt(u.Subject, 10, 64)
		added := shangcloudtest.User{ID: id, Nickname: u.Name, Email: u.Mail}
		if u.Avatar != "" {
			added.AvatarURL = server.URL + u.Avatar
		}
		server.AddUser(added)
	}
	return server, nil
}

// pageLifetime is how long a consent page can be answered.
const pageLifetime = 5 * time.Minute

// standIn is a small OAuth 2.0 server, with PKCE, for one application.
type standIn struct {
	name   string
	conf   oauth2.Config // of the application
	url    string
	grants state.Memory // what pages, codes and tokens stand for, each of them once
}

// grant is what the user is asked for and then allows.
type grant struct {
	State, Challenge string
	User             int // index of people
}

func startStandIn(p *provider) (interface{ Close() error }, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &standIn{name: p.Name, url: "http://" + listener.Addr().String()}
	p.Config.Endpoint.AuthURL, p.Config.Endpoint.TokenURL, p.API = s.url+"/authorize", s.url+"/token", s.url+"/user"
	if p.ID == "google" {
		p.Options = []oauth2login.ProviderOption{oauth2login.WithIssuer(s.url)}
	}
	s.conf = p.Config

	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", s.authorize)
	mux.HandleFunc("POST /authorize", s.decide)
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("GET /user", s.user)
	mux.HandleFunc("GET /avatars/", avatar)
	mux.HandleFunc("GET /style.css", pages.File("style.css"))
	mux.HandleFunc("GET /favicon.svg", pages.File("favicon.svg"))
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// No form-action: the redirects after this form lead to the application.
		page.SetHeaders(w, "img-src 'self'; ")
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		mux.ServeHTTP(w, r)
	})}
	go server.Serve(listener)
	return server, nil
}

// put returns a new page, code or token that stands for g.
func (s *standIn) put(kind string, g grant, lifetime time.Duration) string {
	value, _ := json.Marshal(g)
	name := rand.Text()
	_ = s.grants.Put(context.Background(), kind+"-"+name, value, lifetime) // fails with its context only
	return name
}

func (s *standIn) take(kind, name string) (g grant, found bool) {
	value, found, _ := s.grants.Take(context.Background(), kind+"-"+name)
	return g, found && json.Unmarshal(value, &g) == nil
}

// consentPage is what consent.html shows.
type consentPage struct {
	message
	Nonce, ReturnTo string
	People          []user
}

func (s *standIn) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch {
	case q.Get("client_id") != s.conf.ClientID || q.Get("redirect_uri") != s.conf.RedirectURL:
		s.badRequest(w, r) // and no redirect: who knows where it would lead
	case q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "":
		s.back(w, r, q.Get("state"), "error", "invalid_request")
	default:
		nonce := s.put("page", grant{State: q.Get("state"), Challenge: q.Get("code_challenge")}, pageLifetime)
		render(w, r, http.StatusOK, "consent.html", view{StandIns: true, Data: consentPage{
			message{text: textsFor(r).Consent, Provider: s.name}.filled(), nonce, origin(s.conf.RedirectURL), people,
		}})
	}
}

func (s *standIn) decide(w http.ResponseWriter, r *http.Request) {
	g, found := s.take("page", r.PostFormValue("nonce"))
	chosen, err := strconv.Atoi(r.PostFormValue("user"))
	switch {
	case !found:
		s.badRequest(w, r)
	case r.PostFormValue("decision") != "allow" || err != nil || chosen < 0 || chosen >= len(people):
		s.back(w, r, g.State, "error", "access_denied")
	default:
		g.User = chosen
		s.back(w, r, g.State, "code", s.put("code", g, time.Minute))
	}
}

func (s *standIn) back(w http.ResponseWriter, r *http.Request, state, name, value string) {
	http.Redirect(w, r, s.conf.RedirectURL+"?"+url.Values{"state": {state}, "iss": {s.url}, name: {value}}.Encode(), http.StatusSeeOther)
}

func (s *standIn) badRequest(w http.ResponseWriter, r *http.Request) {
	render(w, r, http.StatusBadRequest, "message.html", view{Home: origin(s.conf.RedirectURL) + "/", StandIns: true, Data: message{text: textsFor(r).BadRequest}})
}

func (s *standIn) token(w http.ResponseWriter, r *http.Request) {
	form := r.PostFormValue
	id, secret, ok := r.BasicAuth()
	if !ok || id != s.conf.ClientID || secret != s.conf.ClientSecret {
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	g, found := s.take("code", form("code"))
	if !found || form("grant_type") != "authorization_code" || form("redirect_uri") != s.conf.RedirectURL ||
		oauth2.S256ChallengeFromVerifier(form("code_verifier")) != g.Challenge {
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"access_token": s.put("token", g, time.Minute), "token_type": "bearer", "expires_in": 60,
	})
}

// user answers as GitHub and Google do, both in one. A token is good for one
// answer here, which is all that this application asks for.
func (s *standIn) user(w http.ResponseWriter, r *http.Request) {
	g, found := s.take("token", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if !found {
		writeJSON(w, http.StatusUnauthorized, map[string]any{"message": "Bad credentials"})
		return
	}
	u := people[g.User]
	picture := u.Avatar
	if picture != "" {
		picture = s.url + picture
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"id": json.Number(u.Subject), "login": "user" + u.Subject, "avatar_url": picture,
		"sub": u.Subject, "picture": picture,
		"name": u.Name, "email": u.Mail,
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails if nobody listens any more
}

// avatar draws the picture of one of the people: a letter.
func avatar(w http.ResponseWriter, r *http.Request) {
	for i, u := range people {
		if r.URL.Path == u.Avatar {
			w.Header().Set("Content-Type", "image/svg+xml")
			fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96"><rect width="96" height="96" fill="hsl(%d 45%% 40%%)"/>`+
				`<text x="48" y="64" font-family="sans-serif" font-size="48" fill="#fff" text-anchor="middle">%s</text></svg>`,
				100+i*110, template.HTMLEscapeString(u.Initial()))
			return
		}
	}
	http.NotFound(w, r)
}
