package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/demo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/page"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"golang.org/x/oauth2"
)

// startStandIns starts a stand-in for every provider without credentials, and sets the
// addresses in its row. The rest of the program treats stand-ins and real providers
// alike. All stand-ins have the same people with the same mail addresses. Each person
// still has a different identity at each stand-in.
func startStandIns(rows []*provider) (stop func(), err error) {
	var running []io.Closer
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

// startShangCloud starts shangcloudtest, the platform that this library provides for tests.
func startShangCloud(p *provider) (io.Closer, error) {
	platform, err := demo.Start(&p.Config)
	if err != nil {
		return nil, err
	}
	p.API = platform.URL
	return platform, nil
}

// pageLifetime is how long a consent page stays valid.
const pageLifetime = 5 * time.Minute

// standIn is a small OAuth 2.0 server, with PKCE, for one application.
type standIn struct {
	name   string
	conf   oauth2.Config // of the application
	url    string
	grants state.Memory // the grants behind pages, codes and tokens; each can be taken once
}

// grant is what the application asks for, and the user then allows.
type grant struct {
	State, Challenge string
	User             int // index of demo.People
}

func startStandIn(p *provider) (io.Closer, error) {
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
	mux.Handle("GET /avatars/", demo.Avatars)
	mux.HandleFunc("GET /style.css", pages.Style)
	mux.HandleFunc("GET /favicon.svg", pages.File("favicon.svg"))
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// No form-action: the redirects after this form lead to the application.
		page.SetHeaders(w, "img-src 'self'; ")
		page.RememberLanguage(w, r, english.Lang, chinese.Lang)
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		mux.ServeHTTP(w, r)
	})}
	go server.Serve(listener)
	return server, nil
}

// put stores g, and returns the name of a new page, code or token for it.
func (s *standIn) put(kind string, g grant, lifetime time.Duration) string {
	value, _ := json.Marshal(g)
	name := rand.Text()
	_ = s.grants.Put(context.Background(), kind+"-"+name, value, lifetime) // fails only if its context ends
	return name
}

func (s *standIn) take(kind, name string) (g grant, found bool) {
	value, found, _ := s.grants.Take(context.Background(), kind+"-"+name)
	return g, found && json.Unmarshal(value, &g) == nil
}

// consentPage is the data of consent.html.
type consentPage struct {
	message
	Nonce, ReturnTo string
	People          []shangcloudtest.User
}

func (s *standIn) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch {
	case q.Get("client_id") != s.conf.ClientID || q.Get("redirect_uri") != s.conf.RedirectURL:
		s.badRequest(w, r) // no redirect: the redirect URL is not one of ours
	case q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "":
		s.back(w, r, q.Get("state"), "error", "invalid_request")
	default:
		nonce := s.put("page", grant{State: q.Get("state"), Challenge: q.Get("code_challenge")}, pageLifetime)
		render(w, r, http.StatusOK, "consent.html", view{StandIns: true, LangURL: page.LanguageURL(r, http.StatusOK, textsFor(r).OtherLang), Data: consentPage{
			message{text: textsFor(r).Consent, Provider: s.name}.filled(), nonce, origin(s.conf.RedirectURL), demo.People,
		}})
	}
}

func (s *standIn) decide(w http.ResponseWriter, r *http.Request) {
	g, found := s.take("page", r.PostFormValue("nonce"))
	chosen, err := strconv.Atoi(r.PostFormValue("user"))
	switch {
	case !found:
		s.badRequest(w, r)
	case r.PostFormValue("decision") != "allow" || err != nil || chosen < 0 || chosen >= len(demo.People):
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

// user answers in the formats of GitHub and Google combined. A token works only once,
// which is enough for this application.
func (s *standIn) user(w http.ResponseWriter, r *http.Request) {
	g, found := s.take("token", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if !found {
		writeJSON(w, http.StatusUnauthorized, map[string]any{"message": "Bad credentials"})
		return
	}
	u := demo.People[g.User]
	picture := u.AvatarURL
	if picture != "" {
		picture = s.url + picture
	}
	id := strconv.FormatInt(u.ID, 10)
	writeJSON(w, http.StatusOK, map[string]any{
		"id": u.ID, "login": "user" + id, "avatar_url": picture,
		"sub": id, "picture": picture,
		"name": u.Nickname, "email": u.Email,
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails if the client has gone away
}
