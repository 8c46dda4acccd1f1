// Package gothshangcloud is ShangCloud for [github.com/markbates/goth]: one more
// provider beside the ones that goth brings.
//
// An application that does not use goth already has no need of it:
// [shangcloud.Provider.StartLogin] and [shangcloud.Provider.FinishLogin] run a login
// on any router without it.
//
//	p := gothshangcloud.New(provider) // provider is a *shangcloud.Provider
//	goth.UseProviders(p)
//	mux.Handle("/auth/{provider}", p.BeginHandler(http.HandlerFunc(gothic.BeginAuthHandler)))
//	mux.Handle("/auth/{provider}/callback", p.CallbackHandler(http.HandlerFunc(callback)))
//
// The handlers are gothic's, as for every provider. [Provider.BeginHandler] and
// [Provider.CallbackHandler] around them bind a login to the browser, which gothic alone
// does not do.
//
// gothic.CompleteUserAuth returns the errors of [shangcloud.Provider.FinishLogin]. No token
// is in gothic's session: take the tokens from the [goth.User], and save them with
// [oauth2login.TokenSource.SetToken]. Key accounts by UserID: whether a mail address is
// verified is unknown.
//
// docs/goth.md says what the wrappers promise, what gothic keeps, how to set its cookie,
// and what its state is worth.
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

// New makes a provider for [goth.UseProviders], with the name "shangcloud". It uses all
// settings of p: scopes, state store, deployment, HTTP client. It panics if p is nil,
// which means that an error of [shangcloud.New] was ignored.
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

// SetName changes the name, for programs with two applications or deployments of
// ShangCloud. Call it before [goth.UseProviders], which registers p under its name.
func (p *Provider) SetName(name string) { p.name.Store(&name) }

// Debug does nothing: everything that it could print is secret.
func (p *Provider) Debug(bool) {}

// BeginAuth starts a login, which can be finished within Options.LoginLifetime. The state
// of the login is random. If the parameter state is not empty, it is appended after a dot.
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

// RefreshTokenAvailable returns true: ShangCloud's answers contain refresh tokens.
func (p *Provider) RefreshTokenAvailable() bool { return true }

// RefreshToken returns a new token. Use its refresh token from now on. If the platform
// rotates refresh tokens, nobody may use the old one again.
//
// The error matches [oauth2login.ErrLoginRequired] if the platform refused the refresh
// token or there is none, and [oauth2login.ErrUnavailable] if the platform is at fault.
func (p *Provider) RefreshToken(refreshToken string) (*oauth2.Token, error) {
	return p.p.TokenSource(&oauth2.Token{RefreshToken: refreshToken}).Token()
}

// answer is the ResponseWriter for StartLogin and FinishLogin. It keeps the header only:
// the session stores the cookie that they set.
type answer http.Header

func (a answer) Header() http.Header         { return http.Header(a) }
func (a answer) Write(b []byte) (int, error) { return len(b), nil }
func (a answer) WriteHeader(int)             {}

// request returns a browser's request for StartLogin and FinishLogin. They do not use its
// address.
func request(query string) *http.Request {
	return &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/", RawQuery: query}, Header: make(http.Header)}
}
