package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"golang.org/x/oauth2"
)

// This file is the login. It knows no provider by name: whatever is in the table
// is treated alike.

const (
	loginLifetime = 5 * time.Minute // from here to the provider and back
	maxQuery      = 16 << 10
	maxReturnTo   = 2 << 10
)

// login is what the server remembers of a login under way, under its state. The
// browser can't change it, and learns none of it.
type login struct {
	Verifier string // PKCE, RFC 7636
	ReturnTo string
	LinkTo   string // the account that gets the identity; "" to sign in with it
}

// newHTTPClient makes the client for all that is said to a provider. x/oauth2's
// default waits forever, and takes code and secret along where a redirect leads.
func newHTTPClient() *http.Client {
	return &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// deliberate keeps requests that nobody has made on purpose from h: those of link
// previews (HEAD), and of browsers that look ahead. After a 503 they ask again when the
// page is wanted.
func deliberate(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch purpose := r.Header.Get("Sec-Purpose") + r.Header.Get("Purpose"); {
		case strings.Contains(purpose, "prefetch"):
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNoContent)
		default:
			h(w, r)
		}
	}
}

// signIn is where the "Continue with …" links lead.
func (a *app) signIn(w http.ResponseWriter, r *http.Request) {
	p, next := a.provider(r), localPath(r.URL.Query().Get("next"))
	switch {
	case p == nil:
		a.notFound(w, r)
		return
	case a.store.sessionOf(a.cookie(r, sessionCookie)) != nil:
		// A link on another site must not change who is signed in here.
		http.Redirect(w, r, next, http.StatusFound)
		return
	}
	to, err := a.begin(w, r, p, login{ReturnTo: next})
	if err != nil {
		a.loginFailed(w, r, p, err)
		return
	}
	http.Redirect(w, r, to, http.StatusFound)
}

// link adds an identity to the account that is signed in. If somebody else could
// begin or finish this, their identity would open the account: so it takes a form
// with the session's token, and the account is written down here, not in a URL.
func (a *app) link(w http.ResponseWriter, r *http.Request, s *session) {
	p := a.provider(r)
	if p == nil {
		a.notFound(w, r)
		return
	}
	to, err := a.begin(w, r, p, login{LinkTo: s.account.id, ReturnTo: accountPath})
	if err != nil {
		a.loginFailed(w, r, p, err)
		return
	}
	// Not a redirect: Chromium holds all redirects after a form against our
	// form-action, wherever the provider sends the browser on the way.
	w.Header().Set("Refresh", "0; url="+to)
	a.showMessage(w, r, http.StatusOK, message{text: textsFor(r).Leaving, Provider: p.Name, Continue: to})
}

// begin remembers l and returns where to send the browser.
func (a *app) begin(w http.ResponseWriter, r *http.Request, p *provider, l login) (string, error) {
	browser := a.cookie(r, loginCookie) // the same for all tabs, so that none disturbs another
	if len(browser) != len(rand.Text()) {
		browser = rand.Text()
	}
	nonce := rand.Text() // 130 random bits; RFC 6749, section 10.10 asks for 128
	bound := bind(browser, p, nonce)
	l.Verifier = oauth2.GenerateVerifier()
	value, err := json.Marshal(l)
	if err != nil {
		return "", err
	}
	if err := a.states.Put(r.Context(), bound, value, loginLifetime); err != nil {
		return "", err
	}
	a.setCookie(w, loginCookie, browser, loginLifetime)
	return p.Config.AuthCodeURL(nonce+"."+bound, oauth2.S256ChallengeOption(l.Verifier)), nil
}

// bind ties a login to a browser, by the secret in its cookie, and to a provider.
// Nobody else's callback matches, and so nobody else can use a login up.
func bind(browser string, p *provider, nonce string) string {
	mac := hmac.New(sha256.New, []byte(browser))
	mac.Write([]byte(p.ID + "\x00" + nonce))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

var (
	errLoginLost = errors.New("login unknown, expired, used, of another provider or of another browser")
	errCallback  = errors.New("malformed callback")
	errDenied    = errors.New("the user denied access")
	errRefused   = errors.New("the provider refused")
)

// take ends a login under way: of any number of callbacks, one gets it.
func (a *app) take(r *http.Request, p *provider, state string) (login, error) {
	nonce, bound, _ := strings.Cut(state, ".")
	browser := a.cookie(r, loginCookie)
	if browser == "" || !hmac.Equal([]byte(bound), []byte(bind(browser, p, nonce))) {
		return login{}, errLoginLost
	}
	value, found, err := a.states.Take(r.Context(), bound)
	switch {
	case err != nil:
		return login{}, err
	case !found:
		return login{}, errLoginLost
	}
	var l login
	err = json.Unmarshal(value, &l)
	return l, err
}

// callback is where the providers send the browser back to, each to its own path.
func (a *app) callback(w http.ResponseWriter, r *http.Request) {
	p := a.provider(r)
	if p == nil {
		a.notFound(w, r)
		return
	}
	l, u, err := a.finish(r, p)
	if err != nil {
		a.loginFailed(w, r, p, err)
		return
	}
	if l.LinkTo != "" {
		notice, err := a.store.link(a.cookie(r, sessionCookie), l.LinkTo, p, u)
		if err != nil {
			a.loginFailed(w, r, p, err)
			return
		}
		a.store.say(a.cookie(r, sessionCookie), notice)
	} else {
		a.setCookie(w, sessionCookie, a.store.signIn(a.cookie(r, sessionCookie), p, u), sessionLifetime)
	}
	http.Redirect(w, r, l.ReturnTo, http.StatusSeeOther)
}

// finish reads the callback and asks the provider who it was.
func (a *app) finish(r *http.Request, p *provider) (login, user, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || r.Method != http.MethodGet || len(r.URL.RawQuery) > maxQuery ||
		len(q["state"]) != 1 || len(q["code"])+len(q["error"]) != 1 {
		return login{}, user{}, errCallback
	}
	l, err := a.take(r, p, q.Get("state"))
	if err != nil {
		return l, user{}, err
	}
	switch q.Get("error") {
	case "":
	case "access_denied":
		return l, user{}, errDenied
	case "server_error", "temporarily_unavailable": // RFC 6749, 4.1.2.1: 500 and 503
		return l, user{}, errors.New("the provider reports a failure of its own")
	default:
		log.Printf("%s: callback with error %.50q", p.ID, q.Get("error"))
		return l, user{}, errRefused
	}
	// After a second click the browser waits for the second answer only: what
	// the first one has begun is finished all the same. The client's time-out
	// ends it.
	ctx := context.WithValue(context.WithoutCancel(r.Context()), oauth2.HTTPClient, a.http)
	tok, err := p.Config.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(l.Verifier))
	if err != nil {
		return l, user{}, err
	}
	u, err := p.User(ctx, p.Config.Client(ctx, tok), p.API)
	return l, u, err
}

// loginFailed says what became of a login.
func (a *app) loginFailed(w http.ResponseWriter, r *http.Request, p *provider, err error) {
	t := textsFor(r)
	show := func(status int, say text) {
		a.showMessage(w, r, status, message{text: say, Provider: p.Name})
	}
	refused := new(oauth2.RetrieveError)
	switch {
	case errors.Is(err, errLoginLost) && a.store.say(a.cookie(r, sessionCookie), noticeOver):
		// A reload, the back button, a second click: most likely it went well.
		http.Redirect(w, r, accountPath, http.StatusSeeOther)
	case errors.Is(err, errLoginLost):
		show(http.StatusBadRequest, t.LoginLost)
	case errors.Is(err, errCallback):
		show(http.StatusBadRequest, t.BadCallback)
	case errors.Is(err, errDenied):
		show(http.StatusForbidden, t.Denied)
	case errors.Is(err, errOtherAccount):
		show(http.StatusConflict, t.OtherAccount)
	case errors.Is(err, errNotSignedIn):
		show(http.StatusForbidden, t.NotSignedIn)
	case errors.Is(err, errRefused):
		show(http.StatusBadGateway, t.Refused)
	case errors.As(err, &refused) && refused.Response.StatusCode < 500:
		// Not err: its text has the whole answer in it.
		log.Printf("%s: the token endpoint answered with status %d, error %.50q", p.ID, refused.Response.StatusCode, refused.ErrorCode)
		show(http.StatusBadGateway, t.Refused)
	case errors.As(err, &refused):
		log.Printf("%s: the token endpoint answered with status %d", p.ID, refused.Response.StatusCode)
		show(http.StatusBadGateway, t.Unavailable)
	default:
		log.Printf("%s: %v", p.ID, err)
		show(http.StatusBadGateway, t.Unavailable)
	}
}

// localPath returns s if a redirect to it stays on this site in every browser:
// they read '\' as '/', and "//host" as another host. Of the fragment of
// "/#/../\host", http.Redirect leaves "/\host".
func localPath(s string) string {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxReturnTo || !strings.HasPrefix(s, "/") || u.Host != "" || u.Path == "" ||
		strings.Contains(u.Path, "//") || strings.Contains(u.Path+u.Fragment, `\`) || strings.ContainsFunc(s+u.Path, unicode.IsControl) {
		return accountPath
	}
	return s
}
