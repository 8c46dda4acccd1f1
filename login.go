package shangcloud

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/speculative"
	"golang.org/x/oauth2"
)

// What FinishLogin and Exchange fail with, besides [ErrUnavailable],
// [*CallbackError] and [*oauth2.RetrieveError].
var (
	// ErrBadCallback is a callback that no login of ShangCloud's leads to: a
	// parameter is missing, repeated, too long or of impossible characters, or
	// the request is not a GET, or one that a browser makes in advance. Nothing
	// has been redeemed.
	ErrBadCallback = errors.New("shangcloud: malformed callback")

	// ErrStateNotFound is a state that is unknown, expired after 5 minutes, or
	// used already, by a second click perhaps. The user can log in again.
	ErrStateNotFound = errors.New("shangcloud: login state unknown, expired or used")

	// ErrWrongBrowser is a callback from a browser that does not hold the
	// cookie of this login: another browser started it, it is finished and the
	// page was reloaded, or the browser keeps no cookies for the host that
	// StartLogin answered on. The state is left for its owner.
	ErrWrongBrowser = errors.New("shangcloud: this browser did not start the login, or no longer has its cookie")

	// ErrNoCookies is an ErrWrongBrowser that has sent no cookie at all: it may not
	// keep any for this host, which its user can change.
	ErrNoCookies = fmt.Errorf("%w; it has sent no cookie at all: it may not keep any for this host", ErrWrongBrowser)

	// ErrAccessDenied is a user's No. It is in the chain of the
	// [*CallbackError] that says so.
	ErrAccessDenied = errors.New("shangcloud: the user denied access")

	// ErrStateStore is a state store that failed: a reason to answer 503. The
	// login is refused.
	ErrStateStore = errors.New("shangcloud: the state store failed")
)

const (
	// stateLifetime is how long the user has to log in, as in the platform's
	// reference documentation.
	stateLifetime = 5 * time.Minute

	// storeSkew is how far a store's clock, which ends a state on time, and those of
	// two machines may be apart. Beyond that this machine's own clock ends it: of a
	// store whose clock was set back, of a machine that was suspended, and of a store
	// that keeps what it should not, no state comes back.
	storeSkew = 5 * time.Minute

	// maxPendingLogins is how many logins one browser can have under way, and
	// maxPendingBytes how long their cookies may be together. At the next start
	// the oldest cookies are dropped: those of abandoned logins do not pile up
	// until a server refuses the header. Many allow 8 KB for a line of it.
	maxPendingLogins = 20
	maxPendingBytes  = 4 << 10

	// maxReturnTo and maxValue bound what a login makes the store keep.
	maxReturnTo = 2 << 10
	maxValue    = 1 << 10
)

// Login is a finished login. It prints and marshals without its token.
type Login struct {
	// Token is what the platform issued: never nil, never without an
	// AccessToken and an Expiry.
	Token *oauth2.Token

	// ReturnTo is the local path that WithReturnTo was given, or "/".
	ReturnTo string

	// Value is what WithValue was given, byte for byte, or "".
	Value string
}

// Format prints l without its token and value, whatever the verb.
func (l Login) Format(f fmt.State, verb rune) {
	formatText(f, verb, fmt.Sprintf("shangcloud.Login{ReturnTo:%q}", l.ReturnTo))
}

// MarshalJSON writes l without its token and value.
func (l Login) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"ReturnTo": l.ReturnTo})
}

// A LoginOption changes one login. See the With… functions.
type LoginOption func(*pendingLogin)

// WithReturnTo says where on this site the user wants to be after the login; it
// comes back in [Login.ReturnTo]. It may be taken from the request as it is:
// anything but a path of at most 2048 bytes on this site, "//evil.example" and
// "/\evil.example" for instance, is replaced by "/".
func WithReturnTo(localPath string) LoginOption {
	return func(l *pendingLogin) {
		if !isLocalPath(localPath) {
			localPath = "/"
		}
		l.ReturnTo = localPath
	}
}

// WithValue adds a value of the application's own, which comes back in
// [Login.Value]: which account to link, say. The browser never sees it. At most
// 1024 bytes; more is an error of StartLogin.
func WithValue(value string) LoginOption {
	return func(l *pendingLogin) { l.Value = []byte(value) }
}

// WithScopes asks for these scopes instead of [Config.Scopes], to ask for
// ScopeVariables later than at the first login, say.
func WithScopes(scopes ...string) LoginOption {
	return func(l *pendingLogin) { l.scopes = scopes }
}

// WithAuthCodeOptions adds parameters to the authorization address. Those that
// this library sets itself (state, code_challenge and so on) can't be changed.
func WithAuthCodeOptions(opts ...oauth2.AuthCodeOption) LoginOption {
	return func(l *pendingLogin) { l.params = append(l.params, opts...) }
}

// pendingLogin is a login under way. The exported fields are what is remembered.
type pendingLogin struct {
	Verifier string `json:"v,omitempty"`
	ReturnTo string `json:"r,omitempty"`
	Value    []byte `json:"d,omitempty"`
	Expires  int64  `json:"e"` // Unix milliseconds

	scopes []string
	params []oauth2.AuthCodeOption
}

func newLogin(opts []LoginOption) (*pendingLogin, error) {
	l := new(pendingLogin)
	for _, opt := range opts {
		opt(l)
	}
	if len(l.Value) > maxValue {
		return nil, fmt.Errorf("shangcloud: WithValue: more than %d bytes", maxValue)
	}
	if err := checkScopes(l.scopes); err != nil {
		return nil, fmt.Errorf("shangcloud: WithScopes: %w", err)
	}
	return l, nil
}

// begun notes that l is remembered from now on, and for stateLifetime.
func (l *pendingLogin) begun(now time.Time) { l.Expires = now.Add(stateLifetime).UnixMilli() }

// underWay reports whether l has begun and not ended, as far as a clock can tell that
// is up to early behind the one it began by, or up to late ahead.
func (l *pendingLogin) underWay(now time.Time, early, late time.Duration) bool {
	left := time.UnixMilli(l.Expires).Sub(now)
	return left > -late && left <= stateLifetime+early
}

// StartLogin sends the browser to ShangCloud. It remembers a new state for 5
// minutes, ties it to this browser with a cookie, and answers with a redirect.
//
// The host that r came to must be that of Config.RedirectURL, or the browser will
// not send the cookie along when it comes back. Several logins of one browser may
// be under way at once, 20 with 4 KB of cookies together: a start drops the
// oldest beyond that which the browser has sent, so that abandoned logins do not fill
// the cookie jar. A HEAD request, or one that a browser makes in advance
// (Sec-Purpose: prefetch), starts none and gets an empty answer.
//
// On an error nothing has been written to w. The error matches [ErrStateStore] if
// the state could not be remembered; another one means a wrong option.
func (p *Provider) StartLogin(w http.ResponseWriter, r *http.Request, opts ...LoginOption) error {
	ctx, cancel := withLimit(r.Context())
	defer cancel()
	l, err := newLogin(opts)
	if err != nil {
		return err
	}
	if speculative.Answer(w, r) {
		return nil
	}
	secret := rand.Text()
	stateParam := p.browserState(secret)
	authURL := p.begin(stateParam, l)
	value := secret
	if p.sealed != nil {
		sealed, err := p.sealed.seal(p.stateKey(browserLogin, stateParam), l, time.Now())
		if err != nil {
			return fmt.Errorf("shangcloud: %w", err)
		}
		value += "." + sealed
	} else if err := p.put(ctx, browserLogin, stateParam, l); err != nil {
		return err
	}
	cookie := p.cookie(p.cookieName(stateParam), value, int(stateLifetime.Seconds()))
	p.dropOldCookies(w, r, cookie)
	http.SetCookie(w, cookie)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", authURL)
	w.WriteHeader(http.StatusFound)
	return nil
}

// FinishLogin handles the browser's return to Config.RedirectURL. It redeems the
// state, which works once, and then exchanges the authorization code for a token,
// which it tries once. It sets headers of w (the login's cookie is cleared) and
// leaves the answer to the caller.
//
// The error tells what to say to the user:
//
//   - [ErrAccessDenied]: the user said no; [*CallbackError] has this and every
//     other error that came back in the callback.
//   - [ErrStateNotFound], [ErrWrongBrowser]: start again, if the user is not
//     logged in by now; [ErrNoCookies], if the browser is to accept cookies.
//   - [ErrBadCallback]: not a callback at all.
//   - [ErrUnavailable], [ErrStateStore]: the platform or the store is at fault.
//   - [*oauth2.RetrieveError]: the token endpoint refused the code.
//
// A state is only redeemed by the browser that StartLogin answered, at the
// provider that it was made for; in other hands it stays as it is.
func (p *Provider) FinishLogin(w http.ResponseWriter, r *http.Request) (*Login, error) {
	ctx, cancel := withLimit(r.Context())
	defer cancel()
	w.Header().Set("Cache-Control", "no-store")

	cb, err := parseCallback(r, p.conf.Issuer)
	if err != nil {
		return nil, err
	}
	if !isBrowserState(cb.state) {
		return nil, ErrStateNotFound
	}
	name := p.cookieName(cb.state)
	sealed, ok := p.startedHere(r, name, cb.state)
	if !ok && len(r.Cookies()) == 0 {
		return nil, ErrNoCookies
	}
	if !ok {
		return nil, ErrWrongBrowser
	}
	var l *pendingLogin
	if p.sealed == nil {
		l, err = p.take(ctx, browserLogin, cb.state)
	} else if l, ok = p.sealed.open(ctx, p.stateKey(browserLogin, cb.state), sealed, time.Now()); !ok {
		err = ErrStateNotFound
	}
	if err != nil && !errors.Is(err, ErrStateNotFound) {
		return nil, err // the state may still be there: the cookie stays
	}
	http.SetCookie(w, p.cookie(name, "", -1))
	if err != nil {
		return nil, err
	}
	if cb.err != nil {
		return nil, cb.err
	}
	tok, err := p.redeem(ctx, cb.code, l.Verifier)
	if err != nil {
		return nil, err
	}
	login := &Login{Token: tok, ReturnTo: l.ReturnTo, Value: string(l.Value)}
	if login.ReturnTo == "" {
		login.ReturnTo = "/"
	}
	return login, nil
}

// A loginKind keeps states apart that are redeemed under different conditions.
type loginKind string

const (
	browserLogin loginKind = "browser" // the cookie must match
	directLogin  loginKind = "direct"  // the state alone is enough
)

// begin makes a login's verifier and returns the address to send the user to, when
// the login has been remembered.
func (p *Provider) begin(stateParam string, l *pendingLogin) (authURL string) {
	conf := p.OAuth2()
	if len(l.scopes) > 0 {
		conf.Scopes = l.scopes
	}
	params := slices.Clone(l.params)
	if len(params) > 0 {
		// x/oauth2 lets parameters replace its own. Ours come last and win.
		params = append(params,
			oauth2.SetAuthURLParam("response_type", "code"),
			oauth2.SetAuthURLParam("client_id", conf.ClientID),
			oauth2.SetAuthURLParam("redirect_uri", conf.RedirectURL),
			oauth2.SetAuthURLParam("scope", strings.Join(conf.Scopes, " ")),
			oauth2.SetAuthURLParam("state", stateParam),
		)
	}
	if !p.conf.DisablePKCE || conf.ClientSecret == "" {
		l.Verifier = oauth2.GenerateVerifier()
		params = append(params, oauth2.S256ChallengeOption(l.Verifier))
	}
	return conf.AuthCodeURL(stateParam, params...)
}

// put remembers a login.
func (p *Provider) put(ctx context.Context, kind loginKind, stateParam string, l *pendingLogin) error {
	l.begun(time.Now())
	value, err := encode(l)
	if err != nil {
		return fmt.Errorf("shangcloud: %w", err)
	}
	if err := p.conf.States.Put(ctx, p.stateKey(kind, stateParam), value, stateLifetime); err != nil {
		return storeFailed(ctx, err)
	}
	return nil
}

// encode is json.Marshal without its care for HTML, which makes six bytes of one.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}

// take redeems a state: it finds it once.
func (p *Provider) take(ctx context.Context, kind loginKind, stateParam string) (*pendingLogin, error) {
	value, found, err := p.conf.States.Take(ctx, p.stateKey(kind, stateParam))
	if err != nil {
		return nil, storeFailed(ctx, err)
	}
	if !found {
		return nil, ErrStateNotFound
	}
	l := new(pendingLogin)
	if err := json.Unmarshal(value, l); err != nil {
		return nil, storeFailed(ctx, errors.New("it returned what was never stored"))
	}
	if !l.underWay(time.Now(), storeSkew, storeSkew) {
		return nil, ErrStateNotFound
	}
	return l, nil
}

func storeFailed(ctx context.Context, err error) error {
	return &callError{"state store", storeText(err), []error{err, ctx.Err(), ErrStateStore}}
}

// browserState derives a state from the secret in a browser's cookie. Before the store
// is asked, a callback proves with the secret that it comes from the browser that has
// the state's cookie: nobody else can burn the state. (Who makes up both, cookie and
// state, has the store asked for what is not there.)
func (p *Provider) browserState(secret string) string {
	return p.hash("state", secret)
}

// stateKey is what a state is stored under. It is bound to the provider and to
// the kind of login, so that a state of others is simply not found, and left
// alone; and it is a hash, so that who can read the store can't finish logins.
func (p *Provider) stateKey(kind loginKind, stateParam string) string {
	return p.hash(string(kind), stateParam)
}

// hash returns 43 letters, digits, '-' and '_'. What is hashed holds no NUL.
func (p *Provider) hash(purpose, s string) string {
	var buf [128]byte // on the stack, for all but forged cookies
	b := append(append(append(buf[:0], p.id...), 0), purpose...)
	sum := sha256.Sum256(append(append(b, 0), s...))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// isBrowserState reports whether s has the form of a state of browserState.
func isBrowserState(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// startedHere reports whether r brings the secret that stateParam was made from,
// and returns the sealed login that came with it, if any.
func (p *Provider) startedHere(r *http.Request, cookieName, stateParam string) (sealed string, ok bool) {
	for _, c := range r.CookiesNamed(cookieName) {
		secret, sealed, _ := strings.Cut(c.Value, ".")
		if subtle.ConstantTimeCompare([]byte(p.browserState(secret)), []byte(stateParam)) == 1 {
			return sealed, true
		}
	}
	return "", false
}

func (p *Provider) cookiePrefix() string {
	prefix := "shangcloud-" + p.id[:8] + "-"
	if p.secureCookies() {
		// Set for this host only, over https: a sibling subdomain can't.
		return "__Host-" + prefix
	}
	return prefix
}

// cookieName is different for every login, so that several can be under way.
func (p *Provider) cookieName(stateParam string) string {
	return p.cookiePrefix() + stateParam[:8]
}

func (p *Provider) cookie(name, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name:     name,
		Value:    value,
		Path:     "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		Secure:   p.secureCookies(),
		// Lax, not Strict: the way back from ShangCloud is a navigation from
		// another site, and has to bring the cookie.
		SameSite: http.SameSiteLaxMode,
	}
}

func (p *Provider) secureCookies() bool { return !p.plainHTTP }

// dropOldCookies makes room for the cookie of one more login. Browsers send the
// oldest cookies first (RFC 6265, section 5.4).
func (p *Provider) dropOldCookies(w http.ResponseWriter, r *http.Request, next *http.Cookie) {
	logins, size := 1, len(next.Name)+len(next.Value)
	for _, c := range slices.Backward(r.Cookies()) {
		if !strings.HasPrefix(c.Name, p.cookiePrefix()) {
			continue
		}
		logins++
		size += len(c.Name) + len(c.Value)
		if logins > maxPendingLogins || size > maxPendingBytes {
			http.SetCookie(w, p.cookie(c.Name, "", -1))
		}
	}
}

// isLocalPath reports whether s, as the target of a redirect, stays on this site
// in every browser. Browsers read '\' as '/', and drop tabs and line ends;
// some servers decode a path, or take its dot segments out, before they redirect
// to it. So this is about the decoded path, and "//" is refused wherever it stands.
// net/http.Redirect takes the fragment for a part of the path: of "/#/../\evil.example"
// it leaves "/\evil.example".
func isLocalPath(s string) bool {
	if len(s) > maxReturnTo || !strings.HasPrefix(s, "/") || !isPlainText(s) {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || u.Host != "" || u.User != nil || u.Path == "" { // "//" has neither host nor path
		return false
	}
	return isPlainText(u.Path) && !strings.Contains(u.Path, "//") && !strings.Contains(u.Path+u.Fragment, `\`)
}
