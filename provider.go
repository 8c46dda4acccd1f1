package shangcloud

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"golang.org/x/oauth2"
)

// Config is what [New] makes a [Provider] from. Only ClientID and RedirectURL
// have to be set; the zero value of every other field is a safe default.
//
// A Config prints and marshals without its secret and keys, unless it stands in an
// unexported field of another struct, by value or, for verbs like %s, behind a pointer:
// there package fmt prints the fields and calls no method. So it does with all structs
// that have exported fields, [Login] and [APIError] among them. Keep the Provider instead.
type Config struct {
	// ClientID is the application's ID from the developer console.
	ClientID string

	// ClientSecret is the application's secret. If empty, the application is a
	// public client: it sends its ID in the form and no Authorization header.
	ClientSecret string

	// RedirectURL is where ShangCloud sends the browser back to, exactly as
	// registered in the developer console: an absolute URL without a fragment.
	// It is https, http on a loopback host, or of an app's own scheme (a
	// reversed domain name, RFC 8252, section 7.1).
	RedirectURL string

	// Scopes are asked for at every login that does not name its own.
	// If empty, ScopeUserBasic.
	Scopes []string

	// BaseURL is the address of the deployment. If empty, DefaultBaseURL. It
	// is https, or http on a loopback host.
	BaseURL string

	// Issuer is the deployment's issuer identifier (RFC 9207). A callback whose
	// parameter iss names another one is refused: another provider's answer has
	// come to this one's redirect URL. If empty, iss is not looked at; whether
	// ShangCloud sends one is unknown.
	Issuer string

	// States remembers logins under way, for 5 minutes each. If nil, they are
	// kept in the memory of this process, [state.DefaultCapacity] at most:
	// logins that come back to another process are refused, and all under way
	// are lost with a restart. The store ends a login on time; the machine that the
	// login comes back to refuses it as well if its own clock is more than 5 minutes
	// beside that, whatever the store has kept.
	States state.Store

	// StateKeys do without a store on any number of machines: what a login has
	// to remember travels in its cookie, encrypted with AES-256-GCM. Each key is
	// 32 random bytes, the same on all machines. The first one encrypts, all of
	// them decrypt; to replace a key, add the new one at the end, everywhere,
	// then move it to the front, then remove the old one after 5 minutes.
	// States has to be nil, and AuthCodeURL, which has no browser, fails.
	//
	//	key := make([]byte, 32)
	//	rand.Read(key) // crypto/rand, once; or: openssl rand -base64 32
	//
	// It needs no permission, can't be down, and costs a login some 250 bytes of
	// cookie, for 5 minutes, and some microseconds.
	//
	// What is lost against a store: only a process that has redeemed a state
	// knows so. On another machine, or after a restart, the browser that the
	// login belongs to can come back with the same state until its 5 minutes are
	// over, if it has kept the cookie that it was told to delete, or clicks twice
	// at once. It then depends on the platform, which has to refuse the
	// code's second use and may end the first login for it (RFC 6749, section
	// 4.1.2). No other browser can do that. The 5 minutes are those of the machines'
	// clocks, which may be a minute apart; while one that was set back counts them
	// once more, a browser may finish a login of its own that had ended. And a path to return to that does
	// not fit, of more than about 1900 bytes less what WithValue takes, becomes
	// "/".
	StateKeys [][]byte

	// HTTPClient makes the requests to ShangCloud. If nil, one that keeps its
	// connections. Whichever it is, redirects are not followed, and a call
	// whose context has no deadline ends after 10 seconds.
	HTTPClient *http.Client

	// EarlyRefresh is how long before its expiry a token is refreshed. If zero,
	// 60 seconds, as in the platform's reference SDK.
	EarlyRefresh time.Duration

	// Logger is told of tokens that could not be saved, without the store's own words,
	// which may quote them. If nil, slog.Default().
	Logger *slog.Logger

	// DisablePKCE turns off the proof key (RFC 7636) that otherwise binds
	// every authorization code to the login it was issued for. Servers must
	// ignore parameters they do not know (RFC 6749, section 3.1), so this is
	// for a deployment that is found to refuse them from clients with a
	// secret. A public client can't do without.
	DisablePKCE bool

	// AllowHTTP permits plain http in RedirectURL and BaseURL on hosts other
	// than loopback. Secrets, codes and tokens are then readable by everyone
	// on the way.
	AllowHTTP bool
}

// Format prints c without its secret, whatever the verb.
func (c Config) Format(f fmt.State, verb rune) {
	formatText(f, verb, fmt.Sprintf("shangcloud.Config{ClientID:%q RedirectURL:%q BaseURL:%q}", c.ClientID, c.RedirectURL, c.BaseURL))
}

// MarshalJSON writes c without its secret and without the fields that are code.
func (c Config) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"ClientID": c.ClientID, "RedirectURL": c.RedirectURL, "Scopes": c.Scopes,
		"BaseURL": c.BaseURL, "DisablePKCE": c.DisablePKCE, "AllowHTTP": c.AllowHTTP,
	})
}

// Provider is one application's login with ShangCloud. It is made by [New] and
// safe for concurrent use. A program makes one and keeps it.
type Provider struct {
	conf   Config // checked, defaults filled in, without secret and keys
	secret atomic.Pointer[string]
	sealed *sealedLogins // nil: logins are in conf.States

	// id tells providers apart that share a host or a store. It is the same
	// on all machines that run the same application.
	id        string
	plainHTTP bool // of the redirect URL: no secure cookies
	endpoint  oauth2.Endpoint
	base      *url.URL
	http      *http.Client // for API calls: never follows a redirect
	auth      *http.Client // for x/oauth2: the same, with an oauthTransport
}

// New checks c and makes a Provider. An error names the field that is wrong.
func New(c Config) (*Provider, error) {
	if err := checkText("ClientID", c.ClientID); err != nil {
		return nil, err
	}
	if err := checkText("ClientSecret", c.ClientSecret); err != nil {
		return nil, err // a line end, from a file or the environment
	}
	if c.ClientID == "" {
		return nil, errors.New("shangcloud: Config.ClientID is empty")
	}
	if c.ClientSecret != "" && strings.Contains(c.ClientID, ":") {
		// "a user-id containing a colon character is invalid"
		// https://www.rfc-editor.org/rfc/rfc7617#section-2
		return nil, errors.New("shangcloud: Config.ClientID contains a colon, which the credentials of a client with a secret can't carry")
	}
	if c.ClientSecret == "" && c.DisablePKCE {
		return nil, errors.New("shangcloud: Config.DisablePKCE is set for a client without ClientSecret: nothing would bind a code to this application")
	}
	if len(c.Scopes) == 0 {
		c.Scopes = []string{ScopeUserBasic}
	}
	c.Scopes = slices.Clone(c.Scopes)
	if err := checkScopes(c.Scopes); err != nil {
		return nil, fmt.Errorf("shangcloud: Config.Scopes: %w", err)
	}
	redirect, err := parseRedirectURL(c.RedirectURL, c.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("shangcloud: Config.RedirectURL: %w", err)
	}
	if c.BaseURL == "" {
		c.BaseURL = DefaultBaseURL
	}
	base, err := parseBaseURL(c.BaseURL, c.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("shangcloud: Config.BaseURL: %w", err)
	}
	c.BaseURL = base.String()
	if c.Issuer != "" {
		if _, err := parseBaseURL(c.Issuer, c.AllowHTTP); err != nil {
			return nil, fmt.Errorf("shangcloud: Config.Issuer: %w", err)
		}
	}
	var sealed *sealedLogins
	switch {
	case c.StateKeys != nil && c.States != nil:
		return nil, errors.New("shangcloud: Config.StateKeys and Config.States are both set")
	case c.StateKeys != nil:
		keys, err := seal.New(c.StateKeys)
		if err != nil {
			return nil, fmt.Errorf("shangcloud: Config.StateKeys: %w", err)
		}
		sealed, c.StateKeys = newSealedLogins(keys), nil
	case c.States == nil:
		c.States = state.NewMemory(0)
	}
	if c.EarlyRefresh < 0 {
		return nil, errors.New("shangcloud: Config.EarlyRefresh is negative")
	}
	c.EarlyRefresh = cmp.Or(c.EarlyRefresh, earlyRefresh)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}

	p := &Provider{sealed: sealed, id: providerID(c), plainHTTP: redirect.Scheme == "http", endpoint: EndpointAt(c.BaseURL), base: base, http: pinned(c.HTTPClient)}
	p.SetClientSecret(c.ClientSecret)
	c.ClientSecret = ""
	p.conf = c

	token, err := url.Parse(p.endpoint.TokenURL)
	if err != nil {
		return nil, fmt.Errorf("shangcloud: Config.BaseURL: %w", err)
	}
	device, err := url.Parse(p.endpoint.DeviceAuthURL)
	if err != nil {
		return nil, fmt.Errorf("shangcloud: Config.BaseURL: %w", err)
	}
	auth := *p.http
	auth.Transport = &oauthTransport{base: transportOf(p.http), token: token, device: device, canonicalDevice: p.canonicalDevice}
	p.auth = &auth
	return p, nil
}

func transportOf(hc *http.Client) http.RoundTripper {
	if hc.Transport == nil {
		return http.DefaultTransport
	}
	return hc.Transport
}

// providerID names an application at a deployment: what its states are bound to.
func providerID(c Config) string {
	h := sha256.New()
	for _, s := range []string{c.BaseURL, c.ClientID, c.RedirectURL} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func checkText(field, s string) error {
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("shangcloud: Config.%s contains a control character", field)
		}
	}
	return nil
}

// checkScopes holds scopes against RFC 6749, section 3.3:
//
//	scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
func checkScopes(scopes []string) error {
	for _, s := range scopes {
		bad := strings.ContainsFunc(s, func(r rune) bool {
			return r <= ' ' || r > '~' || r == '"' || r == '\\'
		})
		if s == "" || bad {
			return fmt.Errorf("%q is not a scope", s)
		}
	}
	return nil
}

func parseRedirectURL(s string, allowHTTP bool) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || strings.ContainsAny(s, " "):
		return nil, errors.New("not a URL")
	case !u.IsAbs():
		return nil, errors.New("not an absolute URL")
	case strings.Contains(s, "#"):
		// "The endpoint URI MUST NOT include a fragment component."
		// https://www.rfc-editor.org/rfc/rfc6749#section-3.1.2
		return nil, errors.New("has a fragment")
	case u.User != nil:
		return nil, errors.New("has a user name in it")
	case u.Scheme != "https" && u.Scheme != "http" && !strings.Contains(u.Scheme, "."):
		return nil, fmt.Errorf("scheme %q is neither https nor a reversed domain name", u.Scheme)
	}
	for _, name := range callbackParams {
		if u.Query().Has(name) {
			return nil, fmt.Errorf("has the parameter %s, which the callback brings", name)
		}
	}
	if u.Scheme == "https" || u.Scheme == "http" {
		return u, checkHost(u, allowHTTP)
	}
	return u, nil
}

// parseBaseURL checks the address of a deployment and takes a trailing slash off.
func parseBaseURL(s string, allowHTTP bool) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(s, "/"))
	switch {
	case err != nil:
		return nil, errors.New("not a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("not an https URL")
	case u.User != nil:
		return nil, errors.New("has a user name in it")
	case strings.ContainsAny(s, "?#"):
		return nil, errors.New("has a query or a fragment")
	}
	return u, checkHost(u, allowHTTP)
}

// checkHost demands https unless the host is this machine.
func checkHost(u *url.URL, allowHTTP bool) error {
	switch {
	case u.Hostname() == "":
		return errors.New("has no host")
	case badPort(u.Port()), strings.HasSuffix(u.Host, ":"):
		return errors.New("has an impossible port") // net/http takes an empty one off
	case u.Scheme == "http" && !allowHTTP && !isLoopback(u.Hostname()):
		return errors.New("plain http is for loopback hosts only; see Config.AllowHTTP")
	}
	return nil
}

func badPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return port != "" && err != nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}

// OAuth2 returns p as plain x/oauth2: a copy that is the caller's own. It holds
// the client secret of this moment.
//
// Requests made with it go through x/oauth2's default HTTP client unless the
// context is one of [Provider.ClientContext].
func (p *Provider) OAuth2() *oauth2.Config {
	conf := &oauth2.Config{
		ClientID:     p.conf.ClientID,
		ClientSecret: *p.secret.Load(),
		Endpoint:     p.endpoint,
		RedirectURL:  p.conf.RedirectURL,
		Scopes:       slices.Clone(p.conf.Scopes),
	}
	if conf.ClientSecret == "" {
		// Public clients "send client_id in the form body and no
		// Authorization header at all", as the game SDKs do.
		conf.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return conf
}

// ClientContext returns a context with which x/oauth2 makes its requests as p
// does: with p's HTTP client, without following redirects, within 10 seconds if
// ctx has no deadline, and with the client ID and secret in the form that
// ShangCloud accepts.
//
//	tok, err := p.OAuth2().Exchange(p.ClientContext(ctx), code, oauth2.VerifierOption(v))
//
// x/oauth2 percent-encodes ID and secret before it sends them; the platform is
// known to accept the plain form only. The two differ if either holds a
// character other than A–Z a–z 0–9 - . _ ~.
//
// Answers are checked as they are for p. x/oauth2's own DeviceAuth heeds no context,
// and ends after 10 seconds; [Provider.DeviceLogin] does without that.
func (p *Provider) ClientContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, p.auth)
}

// SetClientSecret changes the secret that requests from now on are made with.
// Logins and tokens under way go on. An empty secret makes p a public client.
func (p *Provider) SetClientSecret(secret string) { p.secret.Store(&secret) }

// Format prints p without its secret, whatever the verb.
func (p *Provider) Format(f fmt.State, verb rune) {
	if p == nil {
		formatText(f, verb, "(*shangcloud.Provider)(nil)")
		return
	}
	formatText(f, verb, fmt.Sprintf("shangcloud.Provider{ClientID:%q BaseURL:%q}", p.conf.ClientID, p.conf.BaseURL))
}

// AuthCodeURL starts a login where no browser is at hand to be redirected: the
// address goes to the user by mail or chat, say. It remembers a new state for 5
// minutes; [Provider.Exchange] redeems it.
//
// Nothing ties the state to one browser: whoever comes back with it is taken for
// the one who was sent the address. In a web application use
// [Provider.StartLogin]. WithReturnTo and WithValue are refused, for Exchange has
// no way to give them back.
//
// Errors are those of StartLogin. With [Config.StateKeys] it always fails.
func (p *Provider) AuthCodeURL(ctx context.Context, opts ...LoginOption) (string, error) {
	ctx, cancel := withLimit(ctx)
	defer cancel()
	l, err := newLogin(opts)
	if err != nil {
		return "", err
	}
	if l.ReturnTo != "" || l.Value != nil {
		return "", errors.New("shangcloud: WithReturnTo and WithValue need StartLogin")
	}
	if p.conf.States == nil {
		return "", errors.New("shangcloud: AuthCodeURL needs Config.States: with StateKeys a login is in its browser's cookie")
	}
	// 130 random bits; RFC 6749, section 10.10 asks for 128.
	stateParam := rand.Text()
	authURL := p.begin(stateParam, l)
	if err := p.put(ctx, directLogin, stateParam, l); err != nil {
		return "", err
	}
	return authURL, nil
}

// Exchange redeems a state of [Provider.AuthCodeURL] and then the authorization
// code, as both came back in the query of the redirect URL. A state works once,
// whether the exchange succeeds or not.
//
// It does not take states of [Provider.StartLogin], which belong to a browser.
// Errors are those of [Provider.FinishLogin].
func (p *Provider) Exchange(ctx context.Context, stateParam, code string) (*oauth2.Token, error) {
	ctx, cancel := withLimit(ctx)
	defer cancel()
	if err := checkParam("code", code); err != nil {
		return nil, err
	}
	if len(stateParam) != len(rand.Text()) || checkParam("state", stateParam) != nil || p.conf.States == nil {
		return nil, ErrStateNotFound
	}
	l, err := p.take(ctx, directLogin, stateParam)
	if err != nil {
		return nil, err
	}
	return p.redeem(ctx, code, l.Verifier)
}

// redeem exchanges a code, once.
func (p *Provider) redeem(ctx context.Context, code, verifier string) (*oauth2.Token, error) {
	var opts []oauth2.AuthCodeOption
	if verifier != "" {
		opts = append(opts, oauth2.VerifierOption(verifier))
	}
	tok, err := p.OAuth2().Exchange(p.ClientContext(ctx), code, opts...)
	if err != nil {
		return nil, callFailed(ctx, "exchange", err)
	}
	return tok, nil
}
