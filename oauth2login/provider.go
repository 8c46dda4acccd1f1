package oauth2login

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"golang.org/x/oauth2"
)

const (
	defaultLifetime = 5 * time.Minute
	maxLoginTime    = time.Hour
	defaultTimeout  = 10 * time.Second
	minTimeout      = time.Second
	maxTimeout      = time.Minute
	earlyRefresh    = 60 * time.Second
)

// Options are the settings that the providers of an application share. The zero value,
// and nil, is a safe default for one process. Options print and marshal without their
// keys. But package fmt prints the fields if Options are in an unexported field of a
// struct.
type Options struct {
	// States stores pending logins. If nil, they are kept in the memory of this process,
	// up to state.DefaultCapacity for each provider. Then the callback must reach the
	// same process, and a restart loses the pending logins.
	States state.Store

	// StateKeys replace the state store, on any number of machines: a pending login is
	// kept in its cookie, encrypted with AES-256-GCM. Each key has 32 random bytes. All
	// machines need the same keys. The first key encrypts, and all keys decrypt. States
	// must be nil. A state works once in each process; docs/clusters.md explains what
	// that means.
	StateKeys [][]byte

	// LoginLifetime is how long a user has to log in: 5 minutes if 0, an hour at most.
	LoginLifetime time.Duration

	// Timeout is how long one request to a provider may take: from 1 to 60 seconds, or 10
	// seconds if 0. A request with a code or a refresh token always gets this whole time.
	// Once it is sent, nothing else ends it.
	Timeout time.Duration

	// EarlyRefresh is how long before its expiry a token is refreshed: 60 seconds if 0.
	// If negative, a token is refreshed only after it has expired. That suits
	// command-line programs.
	EarlyRefresh time.Duration

	// HTTPClient makes the requests. If nil, a client that keeps its connections is used.
	// Redirects are never followed, and the cookie jar is not used. The client's own
	// Timeout applies only to the requests of Provider.Client, because it must not end an
	// exchange or a refresh.
	HTTPClient *http.Client

	// Observe is called when a login or a refresh has ended, for metrics and audit logs.
	// It runs in the goroutine of the login or refresh, and should return soon. A panic
	// in it is recovered. If nil, it is not called.
	Observe func(context.Context, Event)

	// Logger gets the problems that an operator can fix: tokens that can't be saved,
	// refreshes that fail, client credentials that are refused. If nil, slog.Default().
	Logger *slog.Logger
}

// Format prints o without its keys, for every verb.
func (o Options) Format(f fmt.State, verb rune) {
	quiet.Format(f, verb, fmt.Sprintf("oauth2login.Options{LoginLifetime:%v Timeout:%v EarlyRefresh:%v}", o.LoginLifetime, o.Timeout, o.EarlyRefresh))
}

// MarshalJSON writes the durations of o, and nothing else.
func (o Options) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"LoginLifetime": o.LoginLifetime, "Timeout": o.Timeout, "EarlyRefresh": o.EarlyRefresh})
}

// A ProviderOption changes one provider. See the With… functions.
type ProviderOption func(*row)

type row struct {
	issuer    string
	redirects []string
	params    []oauth2.AuthCodeOption
	assumed   time.Duration
	rawBasic  bool
	noPKCE    bool
	plainHTTP bool
}

// WithIssuer sets the provider's issuer identifier (RFC 9207). Then every callback must
// have a parameter iss that is equal to it. Do not set it for a provider that sends no
// iss.
func WithIssuer(url string) ProviderOption { return func(r *row) { r.issuer = url } }

// WithRedirectURLs adds more redirect URLs besides RedirectURL of the oauth2.Config, for
// example one for each host. Register each of them with the provider.
// [WithRedirectURL] selects one for a login.
func WithRedirectURLs(urls ...string) ProviderOption {
	return func(r *row) { r.redirects = append(r.redirects, urls...) }
}

// WithAuthCodeDefaults adds parameters to the authorization URL of every login, for
// example oauth2.AccessTypeOffline for Google. It can't change the parameters that this
// package sets.
func WithAuthCodeDefaults(opts ...oauth2.AuthCodeOption) ProviderOption {
	return func(r *row) { r.params = append(r.params, opts...) }
}

// WithAssumedLifetime sets the lifetime of a token if the provider does not send one.
// Without this option such a token never expires, as in x/oauth2. The lifetime is
// positive and at most a year.
func WithAssumedLifetime(d time.Duration) ProviderOption { return func(r *row) { r.assumed = d } }

// WithRawBasicAuth sends the client ID and the secret unescaped in HTTP Basic. x/oauth2
// percent-encodes both first, as RFC 6749, section 2.3.1 demands. But some providers
// compare the unescaped values.
func WithRawBasicAuth() ProviderOption { return func(r *row) { r.rawBasic = true } }

// WithoutPKCE turns off PKCE (RFC 7636), for a provider that refuses it from clients with
// a secret. A client without a secret must use PKCE.
func WithoutPKCE() ProviderOption { return func(r *row) { r.noPKCE = true } }

// WithPlainHTTP allows http in the provider's URLs and the redirect URL on hosts other
// than loopback. Secrets, codes and tokens can then be read on the network.
func WithPlainHTTP() ProviderOption { return func(r *row) { r.plainHTTP = true } }

// Provider handles the logins of one application with one provider. [New] makes it. It is
// safe for concurrent use. Make it once, when the program starts, and keep it.
type Provider struct {
	conf   oauth2.Config // checked, without the secret
	secret atomic.Pointer[string]
	opts   Options // checked, defaults filled in, without the keys
	row    row
	host   string // of AuthURL
	where  string // begins the text of errors: "oauth2login: github.com"

	id            string   // distinguishes providers that share a host or a store; the same on all machines
	redirects     []string // the first one is the RedirectURL of conf
	redirectHosts []string // the hosts of redirects
	plainHTTP     bool     // the redirect URLs use http, so cookies are not Secure

	pending             pendingLogins
	sessions            sessions
	sending             sending
	results             results
	readOnly            sync.Once // for the warning that the token store can't be written
	otherHost           sync.Once // for the warning that a login started on another host
	style               styleMemory
	tokenURL, deviceURL *url.URL
	http                *http.Client // for API calls
	auth                *http.Client // for x/oauth2: like http, but with a guard
}

// New makes a Provider from the application's own oauth2.Config, which it copies. shared
// may be nil. An error names the wrong field. New starts nothing if it returns an error.
//
// Client ID, redirect URL, AuthURL and TokenURL are required. All URLs must be absolute,
// and https or on a loopback host. If Endpoint.AuthStyle is 0, credentials are sent in
// HTTP Basic. If the provider refuses that, the next request sends them in the form. To
// find out which way works, x/oauth2 sends a code twice. A Provider never sends a code
// twice.
func New(conf *oauth2.Config, shared *Options, options ...ProviderOption) (*Provider, error) {
	if conf == nil {
		return nil, errors.New("oauth2login: the oauth2.Config is nil")
	}
	p := &Provider{conf: *conf}
	for _, option := range options {
		option(&p.row)
	}
	if shared != nil {
		p.opts = *shared
	}
	for _, check := range []func() error{p.checkClient, p.checkURLs, p.checkRow, p.checkOptions} {
		if err := check(); err != nil {
			return nil, fmt.Errorf("oauth2login: %w", err)
		}
	}
	p.id, p.results.where = providerID(p.conf), p.where
	p.conf.Scopes = slices.Clone(p.conf.Scopes)
	p.conf.ClientSecret = ""
	p.http = wire.Client(p.opts.HTTPClient)
	auth := *p.http
	auth.Transport = &guard{p: p, base: wire.Transport(p.http)}
	auth.Timeout = 0 // Options.Timeout limits these requests
	p.auth = &auth
	return p, nil
}

func (p *Provider) checkClient() error {
	if p.conf.ClientID == "" {
		return errors.New("ClientID is empty")
	}
	if hasControl(p.conf.ClientID) {
		return errors.New("ClientID contains a control character")
	}
	switch p.conf.Endpoint.AuthStyle {
	case oauth2.AuthStyleAutoDetect, oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams:
	default:
		return errors.New("Endpoint.AuthStyle is unknown")
	}
	if err := checkScopes(p.conf.Scopes); err != nil {
		return fmt.Errorf("%s: %w", "Scopes", err) // linter rule ST1005 would report "Scopes: %w"
	}
	return p.storeSecret(p.conf.ClientSecret)
}

// storeSecret checks the client secret and stores it. New and SetClientSecret share it.
func (p *Provider) storeSecret(secret string) error {
	switch {
	case hasControl(secret): // for example a line end, from a file or the environment
		return errors.New("ClientSecret contains a control character")
	case secret == "" && p.row.noPKCE:
		return errors.New("WithoutPKCE: ClientSecret is empty, and nothing would bind a code to this application")
	case secret != "" && strings.Contains(p.conf.ClientID, ":") && p.row.rawBasic:
		// "a user-id containing a colon character is invalid"
		// https://www.rfc-editor.org/rfc/rfc7617#section-2
		return errors.New("ClientID contains a colon, which raw HTTP Basic can't carry")
	}
	p.secret.Store(&secret)
	return nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// Parameters that x/oauth2 or this package sets.
var (
	authParams   = []string{"response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge", "code_challenge_method"}
	tokenParams  = []string{"grant_type", "code", "redirect_uri", "client_id", "client_secret", "refresh_token", "code_verifier", "device_code"}
	deviceParams = []string{"client_id", "client_secret", "scope", "code_challenge", "code_challenge_method"}
)

func (p *Provider) checkURLs() (err error) {
	e := p.conf.Endpoint
	auth, err := p.parseURL("Endpoint.AuthURL", e.AuthURL, authParams)
	if err != nil {
		return err
	}
	p.host, p.where = auth.Host, "oauth2login: "+auth.Host
	if p.tokenURL, err = p.parseURL("Endpoint.TokenURL", e.TokenURL, tokenParams); err != nil {
		return err
	}
	if e.DeviceAuthURL != "" {
		if p.deviceURL, err = p.parseURL("Endpoint.DeviceAuthURL", e.DeviceAuthURL, deviceParams); err != nil {
			return err
		}
	}
	return p.checkRedirects()
}

func (p *Provider) checkRedirects() error {
	u, err := p.parseRedirect(p.conf.RedirectURL)
	if err != nil {
		return fmt.Errorf("RedirectURL: %w", err)
	}
	p.redirects = []string{p.conf.RedirectURL}
	p.redirectHosts, p.plainHTTP = []string{u.Host}, u.Scheme == "http"
	for _, redirect := range p.row.redirects {
		u, err := p.parseRedirect(redirect)
		if err == nil && p.plainHTTP != (u.Scheme == "http") {
			err = errors.New("mixes http and https") // either all cookies are Secure, or none is
		}
		if err != nil {
			return fmt.Errorf("WithRedirectURLs: %w", err)
		}
		if !slices.Contains(p.redirects, redirect) {
			p.redirects = append(p.redirects, redirect)
			p.redirectHosts = append(p.redirectHosts, u.Host)
		}
	}
	return nil
}

func (p *Provider) parseURL(field, s string, ours []string) (*url.URL, error) {
	u, err := wire.ParseURL(s, p.row.plainHTTP)
	if err == nil {
		err = holdsNone(u, ours)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return u, nil
}

// holdsNone refuses a URL whose query contains one of the parameters in ours.
func holdsNone(u *url.URL, ours []string) error {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("has a malformed query")
	}
	for _, name := range ours {
		if q.Has(name) {
			return fmt.Errorf("has the parameter %s, which every login sets", name)
		}
	}
	return nil
}

// parseRedirect allows the same URLs as wire.ParseURL. It also allows an app's own
// scheme, if it is a reversed domain name (RFC 8252, section 7.1).
func (p *Provider) parseRedirect(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err == nil && strings.Contains(u.Scheme, ".") && u.User == nil && !strings.ContainsAny(s, "# {}") {
		return u, holdsNone(u, callbackParams)
	}
	if u, err = wire.ParseURL(s, p.row.plainHTTP); err != nil {
		return nil, err
	}
	return u, holdsNone(u, callbackParams)
}

func (p *Provider) checkRow() error {
	if p.row.issuer != "" {
		u, err := wire.ParseURL(p.row.issuer, p.row.plainHTTP)
		if err == nil && u.RawQuery != "" {
			err = errors.New("has a query")
		}
		if err != nil {
			return fmt.Errorf("WithIssuer: %w", err)
		}
	}
	if p.row.assumed < 0 || p.row.assumed > maxLifetime {
		return errors.New("WithAssumedLifetime: not between 0 and a year")
	}
	return nil
}

func (p *Provider) checkOptions() error {
	o := &p.opts
	o.LoginLifetime = cmp.Or(o.LoginLifetime, defaultLifetime)
	if o.LoginLifetime < time.Second || o.LoginLifetime > maxLoginTime {
		return errors.New("Options.LoginLifetime: not between a second and an hour")
	}
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	if o.Timeout < minTimeout || o.Timeout > maxTimeout {
		return errors.New("Options.Timeout: not between 1 and 60 seconds")
	}
	o.EarlyRefresh = cmp.Or(o.EarlyRefresh, earlyRefresh)
	o.Logger = slog.New(steadyHandler{cmp.Or(o.Logger, slog.Default()).Handler()})
	if o.StateKeys != nil {
		if o.States != nil {
			return errors.New("Options.StateKeys and Options.States are both set")
		}
		keys, err := seal.New(o.StateKeys)
		if err != nil {
			return fmt.Errorf("Options.StateKeys: %w", err)
		}
		p.pending, o.StateKeys = newSealedLogins(keys, o.LoginLifetime), nil
		return nil
	}
	if o.States == nil {
		o.States = state.NewMemory(0)
	}
	p.pending = &storedLogins{o.States, o.LoginLifetime, newRedeemed(o.LoginLifetime + storeSkew)}
	return nil
}

// providerID returns an ID for one application at one provider. Pending logins are bound
// to this ID.
func providerID(c oauth2.Config) string {
	h := sha256.New()
	for _, s := range []string{c.Endpoint.AuthURL, c.Endpoint.TokenURL, c.ClientID, c.RedirectURL} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// OAuth2 returns a copy of the oauth2.Config of p, for calls of plain x/oauth2. It
// contains the current client secret. Call x/oauth2 with a context of
// [Provider.ClientContext]: x/oauth2's own client has no time-out and follows redirects.
//
// The AuthStyle of the copy is never 0: with 0, x/oauth2 may send a code twice.
func (p *Provider) OAuth2() *oauth2.Config {
	conf := p.conf
	conf.Scopes = slices.Clone(conf.Scopes)
	conf.ClientSecret = *p.secret.Load()
	switch {
	case conf.ClientSecret == "":
		conf.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	case conf.Endpoint.AuthStyle == oauth2.AuthStyleAutoDetect:
		conf.Endpoint.AuthStyle = p.style.current()
	}
	return &conf
}

// ClientContext returns a context for calls of x/oauth2. With it, x/oauth2 follows no
// redirects, Options.Timeout applies if ctx has no deadline, and the answers of the
// provider's endpoints are checked. This context does not limit where requests go. For
// requests with a token use [Provider.Client].
//
//	tok, err := p.OAuth2().Exchange(p.ClientContext(ctx), code, oauth2.VerifierOption(v))
//
// An *oauth2.RetrieveError of x/oauth2 prints the body of the answer.
func (p *Provider) ClientContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, p.auth)
}

// SetClientSecret changes the secret for all later requests. Pending logins and existing
// tokens stay valid. It refuses the secrets that New refuses. An empty secret makes p a
// public client.
func (p *Provider) SetClientSecret(secret string) error {
	if err := p.storeSecret(secret); err != nil {
		return p.errorf(err.Error())
	}
	p.style.forget()
	return nil
}

// Format prints p without its secret, for every verb.
func (p *Provider) Format(f fmt.State, verb rune) {
	if p == nil {
		quiet.Format(f, verb, "(*oauth2login.Provider)(nil)")
		return
	}
	quiet.Format(f, verb, fmt.Sprintf("oauth2login.Provider{%s ClientID:%q}", p.host, p.conf.ClientID))
}
