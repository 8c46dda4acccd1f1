// Package gothshangcloud is ShangCloud for [github.com/markbates/goth]: one more
// provider beside the ones that goth brings.
//
// An application that does not use goth already has no need of it:
// [shangcloud.Provider.StartLogin] and [shangcloud.Provider.FinishLogin] run a login
// on any router without it.
//
// # Use
//
// goth's own providers are made from a key, a secret and a URL. This one is made
// from a [shangcloud.Provider], which has room for what several machines and other
// deployments need ([oauth2login.Options]), and says what is wrong with its settings
// before the first login:
//
//	provider, err := shangcloud.New(&oauth2.Config{
//		ClientID: id, ClientSecret: secret, RedirectURL: "https://app.example/auth/shangcloud/callback",
//	}, nil)
//	if err != nil {
//		log.Fatal(err)
//	}
//	goth.UseProviders(gothshangcloud.New(provider))
//
// The handlers are gothic's, as for every provider: gothic.BeginAuthHandler in that
// of the login link, gothic.CompleteUserAuth in that of the redirect URL. Both must
// be reached under the same host, by GET. Put [Provider.BeginHandler] and
// [Provider.CallbackHandler] around them:
//
//	p := gothshangcloud.New(provider)
//	mux.Handle("/auth/{provider}", p.BeginHandler(http.HandlerFunc(gothic.BeginAuthHandler)))
//	mux.Handle("/auth/{provider}/callback", p.CallbackHandler(http.HandlerFunc(callback)))
//
// # The browser
//
// gothic alone takes a session from wherever the browser has it, and its cookie,
// _gothic_session, has no __Host- prefix. A sibling subdomain can begin a login itself,
// plant its own session in the victim's browser, and send that browser to the callback:
// the victim is then logged in as the attacker. gothic does not show providers its
// request, so no provider can prevent that. It also answers images, link previews and
// prefetches as if the user had clicked, and takes a callback by POST.
//
// The two wrappers close that. They work for every provider of goth that has a state (OAuth
// 2, not OAuth 1); all routes of one application can share them. A callback without the
// cookie of its login is refused before gothic sees it. Of two logins in two tabs the one
// that began last can be finished; a callback of the other does not end it. Providers that
// answer by POST (Apple) are not served.
//
// Where the promise ends: a program on another port of the same host can set cookies for
// this host, with the prefix as well. On plain http there is no prefix, and a sibling
// subdomain can do the same. A sibling subdomain can always make a login fail, by planting
// a session of gothic's.
//
// # The session
//
// gothic keeps a login under way in a gorilla/sessions store. By default that is a
// cookie, signed and not encrypted: whoever has the browser can read it. What this
// package puts there is the address of ShangCloud's page, state included, and the
// secret that StartLogin would have put into a cookie of its own: it finishes this
// one login, and nothing else. The proof key (PKCE) stays in Options.States, on the
// server, and so does the memory of which logins are finished: a copied cookie finishes
// none again. Applications on several machines, or that must not lose logins under way in
// a restart, set States to a store that they share, and give gothic the same keys
// everywhere.
//
// Access and refresh tokens never go there. gothic writes the session to the browser
// once more after Authorize, and deletes it with the next header; goth's own providers
// send their tokens along with that. Here a session that was stored has no tokens:
// take them from the [goth.User], and keep them on the server.
//
// Three things are gothic's doing. One browser has one login of a provider under way
// at a time: a second one, in another tab, makes the first fail. A callback that gothic
// sees, also one that fails, deletes the logins of all providers. And the cookie is as gothic.Store makes it: set
// one with a key of at least 32 random bytes, HttpOnly, Secure, and SameSite=Lax (with
// Strict the browser keeps the cookie from the callback). gorilla/sessions 1.4 makes
// them Secure and SameSite=None by default: on plain http, for development, a browser
// need not take them.
//
// # The state
//
// gothic takes the state from the query of the login request if there is one:
// whoever sends the browser there chooses it, and could log it in as somebody else. With
// other providers such a login gets no cookie from BeginHandler, and so does not finish.
// Here the state is 43 random characters, then, if BeginAuth was given one, a dot and
// what it was given. gothic.GetState in the handler of the callback returns all
// of it; what follows the dot is as trustworthy as what the application, or a
// stranger, put there.
//
// # Errors
//
// CompleteUserAuth returns the errors of [Session.Authorize] and [Provider.FetchUser]
// as they are: [oauth2login.ErrAccessDenied] if the user said no,
// [oauth2login.ErrStateNotFound] for a login that is over, [oauth2login.ErrUnavailable] and
// so on. gothic has two of its own, which only their texts tell apart: this browser has
// no login under way, and the state is not that of its login. BeginAuthHandler shows
// errors to the user; ours hold nothing secret.
//
// # After the login
//
// goth leaves it to the application to keep tokens and to refresh them in time. For
// calls of ShangCloud's API, save them with [oauth2login.TokenSource.SetToken] instead of
// calling RefreshToken: a stored token is refreshed once for all processes.
//
//	src := provider.StoredTokens(store)
//	err := src.SetToken(ctx, &oauth2.Token{
//		AccessToken: user.AccessToken, RefreshToken: user.RefreshToken, Expiry: user.ExpiresAt,
//	})
//
// Key accounts by UserID: whether a mail address is verified is unknown. A [goth.User]
// holds tokens in plain fields, and prints them.
package gothshangcloud

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/markbates/goth"
	"golang.org/x/oauth2"
)

// Provider is ShangCloud as a provider of goth. It is made by [New] and safe for
// concurrent use.
//
// goth's methods take no context: each call of the platform or of the state store
// ends after 10 seconds.
type Provider struct {
	p        *shangcloud.Provider
	base     string   // of the deployment, without a slash at its end
	redirect *url.URL // the redirect URL
	name     atomic.Pointer[string]
}

var _ goth.Provider = (*Provider)(nil)

// New makes a provider for [goth.UseProviders], with the name "shangcloud". All that
// is set in p holds: scopes, state store, deployment, HTTP client. A nil p panics:
// it is an error of [shangcloud.New] that nobody looked at.
func New(p *shangcloud.Provider) *Provider {
	if p == nil {
		panic("gothshangcloud: New needs a provider")
	}
	conf := p.OAuth2()
	redirect, err := url.Parse(conf.RedirectURL)
	if err != nil {
		panic(err) // not after shangcloud.New
	}
	gp := &Provider{p: p, base: strings.TrimSuffix(conf.Endpoint.TokenURL, shangcloud.EndpointAt("").TokenURL), redirect: redirect}
	gp.SetName("shangcloud")
	return gp
}

// Name is the name that goth knows p by.
func (p *Provider) Name() string { return *p.name.Load() }

// SetName changes the name, where there are two applications or deployments of
// ShangCloud. Call it before [goth.UseProviders], which notes the name.
func (p *Provider) SetName(name string) { p.name.Store(&name) }

// Debug does nothing: there is nothing to be shown that is not a secret.
func (p *Provider) Debug(bool) {}

// BeginAuth starts a login, which can be finished within 5 minutes. The state is
// random, followed by a dot and the one given, if that is not empty.
//
// The error is that of [shangcloud.Provider.StartLogin]: it matches
// [oauth2login.ErrStateStore] if the login could not be remembered.
func (p *Provider) BeginAuth(state string) (goth.Session, error) {
	w, browser := answer{}, request("")
	if err := p.p.StartLogin(w, browser); err != nil {
		return nil, err
	}
	for _, c := range (&http.Response{Header: w.Header()}).Cookies() {
		browser.AddCookie(c)
	}
	authURL := w.Header().Get("Location")
	if state != "" {
		u, err := url.Parse(authURL)
		if err != nil {
			return nil, errors.New("shangcloud: goth: the authorization address is not a URL")
		}
		q := u.Query()
		q.Set("state", q.Get("state")+stateSeparator+state)
		u.RawQuery = q.Encode()
		authURL = u.String()
	}
	return newSession(stored{authURL, browser.Header.Get("Cookie")}), nil
}

// RefreshTokenAvailable is true: ShangCloud's answers carry refresh tokens.
func (p *Provider) RefreshTokenAvailable() bool { return true }

// RefreshToken returns a new token, with the refresh token that is in force from now
// on: where the platform rotates them, the old one must not be used again, by nobody.
//
// The error matches [oauth2login.ErrLoginRequired] if the platform refused the refresh
// token or there is none, and [oauth2login.ErrUnavailable] if the platform is at fault.
func (p *Provider) RefreshToken(refreshToken string) (*oauth2.Token, error) {
	return p.p.TokenSource(&oauth2.Token{RefreshToken: refreshToken}).Token()
}

// answer is what StartLogin and FinishLogin write to. Only its header matters: what
// they set as a cookie is kept in the session.
type answer http.Header

func (a answer) Header() http.Header         { return http.Header(a) }
func (a answer) Write(b []byte) (int, error) { return len(b), nil }
func (a answer) WriteHeader(int)             {}

// request is what StartLogin and FinishLogin see of a browser. They do not look at
// its address.
func request(query string) *http.Request {
	return &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/", RawQuery: query}, Header: make(http.Header)}
}
