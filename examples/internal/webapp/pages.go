package webapp

import (
	"bytes"
	"embed"
	"html/template"
	"log"
	"net/http"
	"net/url"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
)

//go:embed templates/*.html style.css favicon.svg
var files embed.FS

var pages = parsePages("welcome.html", "account.html", "variable.html", "message.html")

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
	Platform string // its address
	Demo     bool
	SignedIn bool
	Token    string // for forms, if signed in
	Notice   string
	LangURL  string // this page in the other language
	Data     any    // of the template's own: one of the types below
}

// accountPage is what account.html shows.
type accountPage struct {
	User    *shangcloud.UserInfo
	Avatar  string // URL, or ""
	Initial string // in place of an avatar
	Keys    []string
	MaxKey  int
}

// variablePage is what variable.html shows.
type variablePage struct {
	Key, Value  string
	Exists      bool   // or may do: the key is not to be changed
	Error, Hint string // or ""
	MaxKey      int
}

// SaveURL keeps the key out of the form's fields: browsers change line ends there.
func (v variablePage) SaveURL() string {
	if v.Exists {
		return variableURL(v.Key)
	}
	return "/variable"
}

// message is what message.html shows.
type message struct {
	text
	SignIn  bool   // offer to
	Next    string // where to return to then
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
	p := page{T: t, Platform: a.base.String(), Demo: a.demo, Data: data, LangURL: langURL(r, status, t.OtherLang)}
	if s := a.sessions.of(r); s != nil {
		p.SignedIn, p.Token, p.Notice = true, s.token, s.takeNotice()
	}
	var body bytes.Buffer
	if err := pages[name].ExecuteTemplate(&body, "layout.html", p); err != nil {
		log.Printf("%s: %v", name, err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", t.Lang)
	w.WriteHeader(status)
	w.Write(body.Bytes())
}

// langURL is the page that r asked for in another language or, if it could not
// be asked for again, the first page.
func langURL(r *http.Request, status int, lang string) string {
	q, path := url.Values{}, "/"
	if r.Method == http.MethodGet && status == http.StatusOK {
		q, path = r.URL.Query(), r.URL.Path
	}
	q.Set("lang", lang)
	return path + "?" + q.Encode()
}

// initial is the first letter of a name.
func initial(name string) string {
	for _, r := range name {
		return string(r)
	}
	return "?"
}

func serveFile(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, name) }
}
