package webapp

import (
	"embed"
	"net/http"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/page"
)

//go:embed templates/*.html style.css favicon.svg
var files embed.FS

var pages = page.Parse(files, "welcome.html", "account.html", "variable.html", "message.html")

// view is the data of layout.html.
type view struct {
	T        *texts
	Platform string // the platform's address
	Demo     bool
	SignedIn bool
	Token    string // for forms; "" if nobody is signed in
	Notice   string
	LangURL  string // this page's address in the other language
	Data     any    // the template's own data: one of the types below
}

// accountPage is the data of account.html.
type accountPage struct {
	User    *shangcloud.UserInfo
	Avatar  string // URL, or ""
	Initial string // shown if there is no avatar
	Keys    []string
	MaxKey  int
}

// variablePage is the data of variable.html.
type variablePage struct {
	Key, Value  string
	Exists      bool   // it exists or may exist: the key cannot be changed
	Found       bool   // it can be deleted
	Error, Hint string // or ""
	MaxKey      int
}

// SaveURL puts the key into the query, not into a form field, because browsers change
// line breaks in fields.
func (v variablePage) SaveURL() string {
	if v.Exists {
		return variableURL(v.Key)
	}
	return "/variable"
}

// message is the data of message.html.
type message struct {
	text
	SignIn  bool   // show a "Sign in" link
	Next    string // where to return to after the sign-in
	Unsaved string // what the user typed
}

func (a *app) showForm(w http.ResponseWriter, r *http.Request, status int, v variablePage) {
	v.MaxKey = maxKey
	a.render(w, r, status, "variable.html", v)
}

func (a *app) showMessage(w http.ResponseWriter, r *http.Request, status int, m message) {
	a.render(w, r, status, "message.html", m)
}

func (a *app) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	t := textsFor(r)
	v := view{T: t, Platform: a.base.String(), Demo: a.demo, Data: data, LangURL: page.LanguageURL(r, status, t.OtherLang)}
	if s := a.sessions.of(r); s != nil {
		v.SignedIn, v.Token, v.Notice = true, s.Form, s.takeNotice()
	} else if name == "welcome.html" && r.URL.Query().Has("signed-out") {
		v.Notice = t.SignedOut
	}
	pages.Show(w, status, name, t.Lang, v)
}

// initial is the first letter of a name.
func initial(name string) string {
	for _, r := range name {
		return string(r)
	}
	return "?"
}
