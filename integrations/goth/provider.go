// Package gothshangcloud makes ShangCloud a provider of [github.com/markbates/goth].
//
// Applications that do not use goth do not need this package:
// [shangcloud.Provider.StartLogin] and [shangcloud.Provider.FinishLogin] run a login on
// any router.
//
//	p := gothshangcloud.New(provider) // provider is a *shangcloud.Provider
//	goth.UseProviders(p)
//	mux.Handle("/auth/{provider}", p.BeginHandler(http.HandlerFunc(gothic.BeginAuthHandler)))
//	mux.Handle("/auth/{provider}/callback", p.CallbackHandler(http.HandlerFunc(callback)))
//
// The inner handlers use gothic, as with every provider. [Provider.BeginHandler] and
// [Provider.CallbackHandler] wrap them and bind a login to the browser. gothic alone does
// not do that.
//
// gothic.CompleteUserAuth returns the errors of [shangcloud.Provider.FinishLogin].
// gothic's session contains no token: take the tokens from the [goth.User], and save them
// with [oauth2login.TokenSource.SetToken]. Identify accounts by UserID: ShangCloud does
// not say whether a mail address is verified.
//
// docs/goth.md says what the wrappers promise, what gothic keeps, how to set its cookie,
// and how well its state protects a login.
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

// Provider implements goth.Provider for ShangCloud. It is made by [New] and safe for
// concurrent use.
//
// goth's methods take no context, so each call to the platform or to the state store ends
// after 10 seconds.
type Provider struct {
	p        *shangcloud.Provider
	base     string   // of the deployment, without a slash at its end
	redirect *url.URL // the redirect URL
	name     atomic.Pointer[string]
}

var _ goth.Provider = (*Provider)(nil)

// New makes a provider for [goth.UseProviders], with the name "shangcloud". It uses all
// settings of p: scopes, state store, deployment, HTTP client. It panics if p is nil,
// because that means that the caller ignored an error of [shangcloud.New].
func New(p *shangcloud.Provider) *Provider {
	if p == nil {
		panic("gothshangcloud: New needs a provider")
	}
	conf := p.OAuth2()
	redirect, err := url.Parse(conf.RedirectURL)
	if err != nil {
		panic(err) // impossible: shangcloud.New has checked the URL
	}
	gp := &Provider{p: p, base: strings.TrimSuffix(conf.Endpoint.TokenURL, shangcloud.EndpointAt("").TokenURL), redirect: redirect}
	gp.SetName("shangcloud")
	return gp
}

// Name returns the name under which goth registers p.
func (p *Provider) Name() string { return *p.name.Load() }

// SetName changes the name, for programs with two applications or deployments of
// ShangCloud. Call it before [goth.UseProviders], which registers p under its name.
func (p *Provider) SetName(name string) { p.name.Store(&name) }

// Debug does nothing, because any debug output would contain secrets.
func (p *Provider) Debug(bool) {}

// BeginAuth starts a login, which can be finished within Options.LoginLifetime. The state
// of the login is random. If the parameter state is not empty, BeginAuth appends a dot and
// the parameter to it.
//
// BeginAuth returns the errors of [shangcloud.Provider.StartLogin], which match
// [oauth2login.ErrStateStore] if the state store failed.
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

// RefreshToken returns a new token. Use the refresh token in it from now on. If the
// platform rotates refresh tokens, the old refresh token must not be used again.
//
// The error matches [oauth2login.ErrLoginRequired] if the platform refused the refresh
// token or there is none, and [oauth2login.ErrUnavailable] if the platform is at fault.
func (p *Provider) RefreshToken(refreshToken string) (*oauth2.Token, error) {
	return p.p.TokenSource(&oauth2.Token{RefreshToken: refreshToken}).Token()
}

// answer is the ResponseWriter for StartLogin and FinishLogin. It keeps the headers, from
// which BeginAuth reads the cookie and the redirect.
type answer http.Header

func (a answer) Header() http.Header         { return http.Header(a) }
func (a answer) Write(b []byte) (int, error) { return len(b), nil }
func (a answer) WriteHeader(int)             {}

// request returns a browser's request for StartLogin and FinishLogin. The path does not
// matter: neither function uses it.
func request(query string) *http.Request {
	return &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/", RawQuery: query}, Header: make(http.Header)}
}
