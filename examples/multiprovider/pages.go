package main

import (
	"bytes"
	"embed"
	"html/template"
	"log"
	"net/http"
	"strings"
)

//go:embed templates/*.html style.css favicon.svg
var files embed.FS

var pages = parsePages("start.html", "account.html", "message.html", "consent.html")

func parsePages(names ...string) map[string]*template.Template {
	parsed := make(map[string]*template.Template)
	for _, name := range names {
		parsed[name] = template.Must(template.ParseFS(files, "templates/layout.html", "templates/"+name))
	}
	return parsed
}

// page is what layout.html shows.
type page struct {
	T        *texts
	Home     string
	Token    string // for forms; "" if nobody is signed in
	Notice   notice
	StandIns bool
	Data     any // of the template's own: one of the types below
}

type startPage struct {
	Providers []*provider
	Next      string // where to go after the login
}

type accountPage struct {
	Providers  []*provider
	Account    string
	Identities []identityView
}

type identityView struct {
	identity
	Current bool // this session began with it
}

// Initial stands in for an avatar.
func (u user) Initial() string {
	for _, r := range u.Name {
		return string(r)
	}
	return "?"
}

// message is what message.html shows. "{provider}" in its text is Provider.
type message struct {
	text
	Provider string
	Continue string // where a link leads instead of the start page, or ""
}

func (a *app) showMessage(w http.ResponseWriter, r *http.Request, status int, m message) {
	a.render(w, r, status, "message.html", m.filled())
}

func (m message) filled() message {
	name := strings.NewReplacer("{provider}", m.Provider)
	m.Title, m.Text = name.Replace(m.Title), name.Replace(m.Text)
	return m
}

func (a *app) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	p := page{Home: "/", Data: data}
	for _, provider := range a.providers {
		p.StandIns = p.StandIns || provider.StandIn
	}
	if s := a.store.sessionOf(a.cookie(r)); s != nil {
		p.Token = s.token
		if name == "account.html" {
			p.Notice = a.store.takeNotice(s)
		}
	}
	render(w, r, status, name, p)
}

func render(w http.ResponseWriter, r *http.Request, status int, name string, p page) {
	p.T = textsFor(r)
	var body bytes.Buffer
	if err := pages[name].ExecuteTemplate(&body, "layout.html", p); err != nil {
		log.Printf("%s: %v", name, err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", p.T.Lang)
	w.WriteHeader(status)
	w.Write(body.Bytes())
}

// setHeaders is for all answers, also those of the stand-ins.
func setHeaders(w http.ResponseWriter, more string) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; "+more+"frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer: with it, browsers hide from us where a form comes from.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Language")
}

func serveFile(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, name) }
}
