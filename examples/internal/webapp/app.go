package webapp

import (
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/page"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
)

const (
	// The platform does not document its limits. These are the limits of the demo.
	maxKey   = 256     // characters
	maxValue = 1 << 20 // bytes

	// A value of 1 MiB of line breaks takes 6 MiB in a form, because a form sends each line
	// break as "%0D%0A".
	maxForm = 8 << 20
)

// app is the web application. It is safe for concurrent use.
type app struct {
	provider *shangcloud.Provider
	sessions *sessions
	redirect *url.URL // the redirect URL
	base     *url.URL // of the platform
	demo     bool     // the platform is in this process
	handler  http.Handler
}

func newApp(config serve.Settings, options *oauth2login.Options, demo bool) (*app, error) {
	provider, redirect, err := config.New(options)
	if err != nil {
		return nil, err
	}
	a := &app{provider: provider, redirect: redirect, demo: demo}
	if a.base, err = url.Parse(config.BaseURL); err != nil {
		return nil, err
	}
	a.sessions = newSessions(provider, a.redirect.Scheme == "https", config.DataDir)
	if err := checkCallback(a.redirect); err != nil {
		return nil, err
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.start)
	mux.HandleFunc("GET /login", a.login)
	mux.HandleFunc("GET "+a.redirect.EscapedPath(), a.callback)
	mux.HandleFunc("POST /logout", a.signedIn(a.logout))
	mux.HandleFunc("GET /variable", a.signedIn(a.showVariable))
	mux.HandleFunc("POST /variable", a.signedIn(a.saveVariable))
	mux.HandleFunc("POST /variable/delete", a.signedIn(a.deleteVariable))
	mux.HandleFunc("GET /style.css", pages.Style)
	mux.HandleFunc("GET /favicon.svg", pages.File("favicon.svg"))
	mux.HandleFunc("/", a.notFound)

	// Most browsers send the origin of a request, so forms of other sites are refused
	// here. For browsers that send no origin, every form contains a token: see signedIn.
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(a.foreignForm))
	a.handler = protection.Handler(mux)
	return a, nil
}

var callbackPath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)

// checkCallback makes sure that no other page has the path of the callback.
func checkCallback(u *url.URL) error {
	taken := []string{"/login", "/logout", "/variable", "/variable/delete", "/style.css", "/favicon.svg"}
	path := u.EscapedPath()
	if u.Host == "" || !callbackPath.MatchString(path) || slices.Contains(taken, path) {
		return fmt.Errorf("the redirect URL %s can't be served: its path has to be one of its own, such as /callback", u.Redacted())
	}
	return nil
}

func (a *app) home() string { return a.redirect.Scheme + "://" + a.redirect.Host + "/" }

// ServeHTTP sets the headers that every answer has.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	images := "'self' https:" // avatars can be anywhere
	if a.base.Scheme == "http" {
		images += " http://" + a.base.Host
	}
	page.SetHeaders(w, "img-src "+images+"; form-action 'self'; ")

	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if reads && a.redirect.Scheme == "http" && !sameHost(r.Host, a.redirect.Host) {
		// The browser is at localhost, but the redirect URL says 127.0.0.1. The login's
		// cookie would be lost. (With https there is a proxy in front, which may change
		// Host.)
		http.Redirect(w, r, a.home()+strings.TrimPrefix(r.URL.RequestURI(), "/"), http.StatusFound)
		return
	}
	page.RememberLanguage(w, r, english.Lang, chinese.Lang)
	a.handler.ServeHTTP(w, r)
}

// sameHost compares hosts for plain http, where browsers omit port 80.
func sameHost(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, ":80"), strings.TrimSuffix(b, ":80"))
}

// signedIn wraps pages that need a session. It checks the token of forms.
func (a *app) signedIn(page func(http.ResponseWriter, *http.Request, *session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			a.badForm(w, r, err)
			return
		}
		s := a.sessions.of(r)
		switch {
		case s != nil && r.Method == http.MethodPost && !s.hasToken(r.PostForm.Get("token")):
			a.foreignForm(w, r)
		case s != nil:
			page(w, r, s)
		case r.Method == http.MethodPost, r.Header.Get("Sec-Fetch-Site") == "same-origin":
			// The request came from one of our pages, so there was a session. A redirect
			// would not work: Chromium applies form-action to all redirects after a form.
			a.sessionEnded(w, r)
		default:
			http.Redirect(w, r, "/login?"+url.Values{"next": {r.URL.RequestURI()}}.Encode(), http.StatusFound)
		}
	}
}

// start is the first page, signed in or not.
func (a *app) start(w http.ResponseWriter, r *http.Request) {
	s := a.sessions.of(r)
	if s == nil {
		a.render(w, r, http.StatusOK, "welcome.html", nil)
		return
	}
	a.render(w, r, http.StatusOK, "account.html", accountPage{
		User: s.User, Avatar: a.avatar(s.User), Initial: initial(s.User.Nickname), Keys: s.keys(), MaxKey: maxKey,
	})
}

// avatar returns the address of the user's picture, if our Content-Security-Policy allows
// it.
func (a *app) avatar(u *shangcloud.UserInfo) string {
	if strings.HasPrefix(u.AvatarURL, "https://") || strings.HasPrefix(u.AvatarURL, a.base.String()+"/") {
		return u.AvatarURL
	}
	return ""
}

func (a *app) logout(w http.ResponseWriter, r *http.Request, _ *session) {
	a.sessions.end(w, r)
	http.Redirect(w, r, "/?signed-out", http.StatusSeeOther)
}

// showVariable shows a variable. If the query has no key, it shows a form for a new
// variable.
func (a *app) showVariable(w http.ResponseWriter, r *http.Request, s *session) {
	t := textsFor(r)
	v := variablePage{Key: r.URL.Query().Get("key")}
	if !r.URL.Query().Has("key") {
		a.showForm(w, r, http.StatusOK, v)
		return
	}
	if v.Error = t.checkVariable(v.Key, ""); v.Error != "" {
		a.showForm(w, r, http.StatusBadRequest, v)
		return
	}
	v.Exists = true
	value, err := s.api.Variable(r.Context(), v.Key)
	switch refused := (*shangcloud.APIError)(nil); {
	case errors.As(err, &refused) && (refused.StatusCode == http.StatusOK || refused.StatusCode == http.StatusNotFound):
		// The platform does not document its answer for a missing variable: an error like
		// this, or an empty value.
		v.Hint = t.NoValue + platformSays(err)
	case err != nil:
		a.callFailed(w, r, err)
		return
	case value == "":
		v.Hint = t.NoValue
	default:
		s.touch(v.Key)
		v.Value, v.Found = value, true
		if strings.ContainsAny(value, "\r\x00") {
			v.Hint = t.NotEditable
		}
	}
	a.showForm(w, r, http.StatusOK, v)
}

func (a *app) saveVariable(w http.ResponseWriter, r *http.Request, s *session) {
	t := textsFor(r)
	v := variablePage{
		Key:    r.Form.Get("key"), // a new key is in the form, an existing one in the query
		Exists: r.URL.Query().Has("key"),
		// HTML forms send a line break as CRLF on every system.
		Value: strings.ReplaceAll(r.PostForm.Get("value"), "\r\n", "\n"),
	}
	if v.Error = t.checkVariable(v.Key, v.Value); v.Error != "" {
		a.showForm(w, r, http.StatusUnprocessableEntity, v)
		return
	}
	err := s.api.SetVariable(r.Context(), v.Key, v.Value)
	switch {
	case errors.Is(err, oauth2login.ErrLoginRequired):
		a.callFailed(w, r, err)
		return
	case err != nil:
		log.Printf("save: %v", err)
		v.Error = t.NotSaved + platformSays(err) // shows the form again, with what the user typed
		a.showForm(w, r, http.StatusBadGateway, v)
		return
	}
	s.touch(v.Key)
	s.say(fmt.Sprintf(t.Saved, v.Key))
	http.Redirect(w, r, variableURL(v.Key), http.StatusSeeOther)
}

func (a *app) deleteVariable(w http.ResponseWriter, r *http.Request, s *session) {
	key := r.URL.Query().Get("key")
	if err := s.api.DeleteVariable(r.Context(), key); err != nil {
		a.callFailed(w, r, err)
		return
	}
	s.forget(key)
	s.say(fmt.Sprintf(textsFor(r).Deleted, key))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func variableURL(key string) string { return "/variable?" + url.Values{"key": {key}}.Encode() }

// checkVariable returns what is wrong, or "".
func (t *texts) checkVariable(key, value string) string {
	switch {
	case key == "":
		return t.KeyEmpty
	case utf8.RuneCountInString(key) > maxKey:
		return t.KeyTooLong
	case len(value) > maxValue:
		return t.ValueTooLong
	case !utf8.ValidString(key) || !utf8.ValidString(value):
		return t.NotText
	}
	return ""
}

// platformSays returns the reason that ShangCloud gave. Show it as text only.
func platformSays(err error) string {
	var refused *shangcloud.APIError
	if !errors.As(err, &refused) || refused.Message == "" {
		return ""
	}
	return fmt.Sprintf(" (%.200s)", refused.Message)
}

// callFailed shows why an API call failed.
func (a *app) callFailed(w http.ResponseWriter, r *http.Request, err error) {
	log.Printf("API: %v", err)
	t := textsFor(r)
	switch {
	case errors.Is(err, oauth2login.ErrLoginRequired):
		a.sessions.end(w, r)
		a.sessionEnded(w, r)
	case errors.Is(err, oauth2login.ErrUnavailable):
		a.showMessage(w, r, http.StatusBadGateway, message{text: t.Unavailable})
	default:
		a.showMessage(w, r, http.StatusBadGateway, message{text: t.CallRefused})
	}
}

// sessionEnded asks the user to sign in again. It keeps the text that the user typed.
func (a *app) sessionEnded(w http.ResponseWriter, r *http.Request) {
	m := message{text: textsFor(r).SessionEnded, SignIn: true, Unsaved: r.PostForm.Get("value")}
	if r.Method == http.MethodGet {
		m.Next = r.URL.RequestURI()
	}
	a.showMessage(w, r, http.StatusUnauthorized, m)
}

func (a *app) foreignForm(w http.ResponseWriter, r *http.Request) {
	a.showMessage(w, r, http.StatusForbidden, message{text: textsFor(r).ForeignForm})
}

func (a *app) badForm(w http.ResponseWriter, r *http.Request, err error) {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		a.showMessage(w, r, http.StatusRequestEntityTooLarge, message{text: textsFor(r).FormTooLarge})
		return
	}
	a.showMessage(w, r, http.StatusBadRequest, message{text: textsFor(r).BadForm})
}

func (a *app) notFound(w http.ResponseWriter, r *http.Request) {
	a.showMessage(w, r, http.StatusNotFound, message{text: textsFor(r).NotFound})
}
