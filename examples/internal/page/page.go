// Package page has the parts that the pages of all examples share: templates, a style
// sheet, headers and the choice of a language.
package page

import (
	"bytes"
	_ "embed"
	"html/template"
	"io/fs"
	"log"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed style.css
var style string

// Pages are templates and other files of one application.
type Pages struct {
	files  fs.FS
	parsed map[string]*template.Template
}

// Parse parses each of the named templates together with templates/layout.html. It panics
// if a template is wrong.
func Parse(files fs.FS, names ...string) *Pages {
	p := &Pages{files, make(map[string]*template.Template)}
	for _, name := range names {
		p.parsed[name] = template.Must(template.ParseFS(files, "templates/layout.html", "templates/"+name))
	}
	return p
}

// Show answers with a page in the language lang.
func (p *Pages) Show(w http.ResponseWriter, status int, name, lang string, data any) {
	var body bytes.Buffer
	if err := p.parsed[name].ExecuteTemplate(&body, "layout.html", data); err != nil {
		log.Printf("%s: %v", name, err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", lang)
	w.WriteHeader(status)
	w.Write(body.Bytes())
}

// Style answers with the style sheet of all examples, and the application's style.css.
func (p *Pages) Style(w http.ResponseWriter, r *http.Request) {
	own, err := fs.ReadFile(p.files, "style.css")
	if err != nil {
		panic(err) // the file is embedded
	}
	http.ServeContent(w, r, "style.css", time.Time{}, strings.NewReader(style+string(own)))
}

// File returns a handler that answers with a file.
func (p *Pages) File(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, p.files, name) }
}

// SetHeaders sets the headers that every answer has. policy is added to the
// Content-Security-Policy, which otherwise allows only style sheets of this site. policy
// must end in "; ".
func SetHeaders(w http.ResponseWriter, policy string) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; "+policy+"frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	// With no-referrer, browsers would not tell us where a form comes from.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Language")
}

// langCookie keeps the language that somebody chose by a link.
const langCookie = "lang"

// Language returns one of the languages. It prefers the language that the user chose by a
// link, in this request (see LanguageURL) or an earlier one. Next comes the browser's
// preferred language, and then the first of languages.
func Language(r *http.Request, languages ...string) string {
	if lang := r.URL.Query().Get("lang"); slices.Contains(languages, lang) {
		return lang
	}
	if c, err := r.Cookie(langCookie); err == nil && slices.Contains(languages, c.Value) {
		return c.Value
	}
	return preferred(r, languages)
}

// RememberLanguage keeps the choice of a language link.
func RememberLanguage(w http.ResponseWriter, r *http.Request, languages ...string) {
	if lang := r.URL.Query().Get("lang"); slices.Contains(languages, lang) {
		http.SetCookie(w, &http.Cookie{
			Name: langCookie, Value: lang, Path: "/", MaxAge: 365 * 24 * 3600,
			HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
	}
}

// LanguageURL returns the address of the present page in another language. If the page
// cannot be requested again, it returns the address of the first page.
func LanguageURL(r *http.Request, status int, lang string) string {
	q, path := url.Values{}, "/"
	if r.Method == http.MethodGet && status == http.StatusOK {
		q, path = r.URL.Query(), r.URL.Path
	}
	q.Set("lang", lang)
	return path + "?" + q.Encode()
}

// preferred returns the language that the browser prefers, or the first one if the
// browser accepts none. The header is Accept-Language (RFC 9110, section 12.5.4), such as
// "fr, zh-TW;q=0.9, en;q=0.8". Script and region are ignored.
func preferred(r *http.Request, languages []string) string {
	best, bestWeight := languages[0], 0.0
	for wish := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Language"), ","), ",") {
		tag, parameter, _ := strings.Cut(strings.ReplaceAll(strings.ToLower(wish), " ", ""), ";")
		weight := 1.0
		if q, found := strings.CutPrefix(parameter, "q="); found {
			weight, _ = strconv.ParseFloat(q, 64)
		}
		for _, language := range languages {
			if primary(tag) == primary(language) && weight > bestWeight {
				best, bestWeight = language, weight
			}
		}
	}
	return best
}

// primary is the language of a tag without script and region: "zh" of "zh-Hant-TW".
func primary(tag string) string {
	p, _, _ := strings.Cut(tag, "-")
	return p
}
