package main

import (
	"embed"
	"net/http"
	"strings"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/page"
)

//go:embed templates/*.html style.css favicon.svg
var files embed.FS

var pages = page.Parse(files, "start.html", "account.html", "message.html", "consent.html")

// view is the data of layout.html.
type view struct {
	T        *texts
	Home     string
	Token    string // for forms; "" if nobody is signed in
	Notice   notice
	StandIns bool
	LangURL  string // this page's address in the other language, or ""
	Data     any    // the template's own data: one of the types below
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
	Current bool // this session began with this identity
}

// Initial returns the letter that is shown if there is no avatar.
func (u user) Initial() string {
	for _, r := range u.Name {
		return string(r)
	}
	return "?"
}

// message is the data of message.html. "{provider}" in its text is replaced by Provider.
type message struct {
	text
	Provider string
	Continue string // where the link leads; if "", to the start page
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
	v := view{Home: "/", Data: data, LangURL: page.LanguageURL(r, status, textsFor(r).OtherLang)}
	for _, provider := range a.providers {
		v.StandIns = v.StandIns || provider.StandIn
	}
	if s := a.store.sessionOf(a.cookie(r)); s != nil {
		v.Token = s.token
		if name == "account.html" {
			v.Notice = a.store.takeNotice(s)
		}
	} else if name == "start.html" && r.URL.Query().Has("signed-out") {
		v.Notice = noticeOut
	}
	render(w, r, status, name, v)
}

func render(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	v.T = textsFor(r)
	pages.Show(w, status, name, v.T.Lang, v)
}
