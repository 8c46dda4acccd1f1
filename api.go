package shangcloud

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

const (
	// maxBody caps the size of an answer of the API. A variable of 1 MiB fits, even if each
	// of its bytes is escaped as \u0001.
	maxBody = 8 << 20

	// callTimeout ends a call whose context has no deadline. The official clients also give
	// up after 10 seconds.
	callTimeout = 10 * time.Second

	where = "shangcloud" // begins the text of errors
)

// API is a client of ShangCloud's API. [NewAPI] or [Provider.API] makes it. It is safe for
// concurrent use.
//
// If the platform answers and refuses a call, the error is an [*APIError]. If a call fails
// in another way, its error matches [oauth2login.ErrUnavailable], or wraps the error of the
// token source or of the context.
//
// A call whose context has no deadline ends after 10 seconds. If the API comes from a
// [Provider], the call ends after the Provider's Options.Timeout instead.
type API struct {
	http *http.Client
	base string
	err  error // the error in the base URL; every call returns it
}

// An APIOption is an option of [NewAPI].
type APIOption func(*API)

// WithBaseURL sets the URL of the deployment. The default is [DefaultBaseURL]. The URL must
// be https, or http on a loopback host. With any other URL every call returns an error and
// sends nothing.
func WithBaseURL(baseURL string) APIOption {
	return func(a *API) {
		a.base = strings.TrimRight(baseURL, "/")
		u, err := wire.ParseURL(a.base, false)
		if err == nil && u.RawQuery != "" {
			err = errors.New("has a query")
		}
		if err != nil {
			a.err = fmt.Errorf("shangcloud: WithBaseURL: %w", err)
		}
	}
}

// NewAPI returns a client of the API that sends its requests through a copy of hc. The
// client hc must add a token to each request: [oauth2.Config.Client] and
// [oauth2login.Provider.Client] make such clients. The copy follows no redirects, because a
// redirect would send the token to another address.
//
// If hc wraps the transport of x/oauth2 in another transport, NewAPI can't tell an error of
// the token source from an error of the connection. Then both errors match
// [oauth2login.ErrUnavailable].
func NewAPI(hc *http.Client, opts ...APIOption) *API {
	a := &API{http: wire.Client(hc), base: DefaultBaseURL}
	for _, opt := range opts {
		opt(a)
	}
	switch t := wire.Transport(a.http).(type) {
	case *wire.Bearer:
	case *oauth2.Transport:
		bearer := &wire.Bearer{Base: wire.Transport(&http.Client{Transport: t.Base}), Limit: callTimeout, Where: where}
		if t.Source != nil {
			bearer.Source = &wire.Plain{Where: where, Source: t.Source}
		}
		if u, err := url.Parse(a.base); err == nil {
			bearer.Origins = []string{wire.Origin(u)}
		}
		a.http.Transport = bearer
	default:
		a.http.Transport = wire.Prompt{Base: t}
	}
	return a
}

// APIError is an answer with which the platform refuses a call. It matches
// [oauth2login.ErrUnavailable] if StatusCode is 429, 500 or above, or a redirect. It
// matches [oauth2login.ErrLoginRequired] if StatusCode is 401: the platform does not accept
// the token. If the API uses an [oauth2login.TokenSource], the platform has rejected the
// refreshed token too.
//
// Package fmt cannot call the methods of a value in an unexported field of a struct. It
// prints all fields of an APIError in such a field, the body included.
type APIError struct {
	// StatusCode is the HTTP status of the answer. It is 200 if the platform reports the
	// failure only in the body. Calls for variables can fail in this way.
	StatusCode int

	// Code is the error code in the member "error" of the answer, for example
	// insufficient_scope. It is "" if that member does not look like an error code.
	Code string

	// Message is the platform's explanation, or "". The method Error does not print it.
	Message string

	// Body is the body of the answer, cut after 8 MiB.
	Body []byte

	// RetryAfter is how long the platform asks the caller to wait, at most a day. It is 0
	// if the answer has no valid Retry-After header (RFC 9110, section 10.2.3).
	RetryAfter time.Duration

	op string
}

// Error returns the name of the call and the status. It adds Code only if a standard or a
// well-known provider defines that code.
func (e *APIError) Error() string {
	s := fmt.Sprintf("%s: %s: status %d", where, cmp.Or(e.op, "call"), e.StatusCode)
	if code := quiet.Code(e.Code); code != "" {
		s += " " + code
	}
	return s
}

// Is reports whether the error matches ErrUnavailable or ErrLoginRequired of package
// oauth2login.
func (e *APIError) Is(target error) bool {
	return target == oauth2login.ErrUnavailable && wire.Unavailable(e.StatusCode) ||
		target == oauth2login.ErrLoginRequired && e.StatusCode == http.StatusUnauthorized
}

// Format prints the text of Error, whatever the verb. It never prints the body.
func (e APIError) Format(f fmt.State, verb rune) { quiet.Format(f, verb, e.Error()) }

// MarshalJSON writes only StatusCode and Code. It writes Code as "" if Error would not
// print it.
func (e APIError) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"StatusCode": e.StatusCode, "Code": quiet.Code(e.Code)})
}

// UserInfo is a ShangCloud user. Nickname, Email and AvatarURL are optional: each is
// empty if the platform's answer has no such string.
type UserInfo struct {
	ID        int64 // above zero; use it to identify the account
	Nickname  string
	Email     string // may be unverified; the platform does not say
	AvatarURL string
}

// UserInfo returns the user that the token belongs to. The token needs [ScopeUserBasic].
// UserInfo returns an error if the user ID in the answer is not a whole number above zero.
func (a *API) UserInfo(ctx context.Context) (*UserInfo, error) {
	const op = "user info"
	body, err := a.post(ctx, call{op: op, path: "/api/user/info", body: []byte("{}"), isRead: true})
	if err != nil {
		return nil, err
	}
	var user struct {
		refusal
		ID       userID `json:"uid"`
		Nickname text   `json:"nickname"`
		Email    text   `json:"mail"`
		Avatar   text   `json:"avatar"`
	}
	if err := decode(op, body, &user, "uid", "nickname", "mail", "avatar"); err != nil {
		return nil, a.failed(ctx, op, err)
	}
	if user.ID == 0 {
		return nil, a.failed(ctx, op, wire.Unusable("no user ID"))
	}
	return &UserInfo{int64(user.ID), string(user.Nickname), string(user.Email), string(user.Avatar)}, nil
}

// userID decodes a user ID: a whole number above zero, or a string with such a number. Any
// other value decodes to 0. The reference documentation says "uid is an integer".
type userID int64

func (u *userID) UnmarshalJSON(data []byte) error {
	if quoted, ok := bytes.CutPrefix(data, []byte(`"`)); ok {
		data = bytes.TrimSuffix(quoted, []byte(`"`))
	}
	id, err := strconv.ParseInt(string(data), 10, 64)
	if err == nil && data[0] >= '1' && data[0] <= '9' { // no sign, no leading zero
		*u = userID(id)
	}
	return nil
}

// text decodes a JSON string. Any other value decodes to "".
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*t = text(s)
	}
	return nil
}

// Variable returns the value of one of the user's cloud variables. The token needs
// [ScopeVariables], also for SetVariable and DeleteVariable.
//
// It is unknown how the platform answers if the variable does not exist. Variable may
// return an empty value, or an [*APIError] with status 200 or 404.
func (a *API) Variable(ctx context.Context, key string) (string, error) {
	const op = "read variable"
	value, err := a.variable(ctx, op, variableRequest{Key: key, Action: "read"})
	if err == nil && value == nil {
		err = a.failed(ctx, op, wire.Unusable("no value"))
	}
	if err != nil {
		return "", err
	}
	return *value, nil
}

// SetVariable sets one of the user's cloud variables. Key and value must be UTF-8.
// SetVariable sends them unchanged. It is unknown how long they may be.
func (a *API) SetVariable(ctx context.Context, key, value string) error {
	_, err := a.variable(ctx, "write variable", variableRequest{Key: key, Action: "write", Value: value})
	return err
}

// DeleteVariable deletes one of the user's cloud variables. It is unknown how the platform
// answers if the variable does not exist.
func (a *API) DeleteVariable(ctx context.Context, key string) error {
	_, err := a.variable(ctx, "delete variable", variableRequest{Key: key, Action: "delete"})
	return err
}

type variableRequest struct {
	Key    string `json:"key"`
	Action string `json:"action"`
	Value  string `json:"value"`
}

// variable sends a request and returns the value in the answer, or nil if the answer has no
// value. The answer to a write or a delete may be empty.
func (a *API) variable(ctx context.Context, op string, v variableRequest) (*string, error) {
	// encoding/json would replace invalid UTF-8.
	if !utf8.ValidString(v.Key) || !utf8.ValidString(v.Value) {
		return nil, quiet.New(where, op+": key or value is not UTF-8")
	}
	in, err := json.Marshal(v)
	if err != nil {
		return nil, quiet.New(where, op+": it can't be sent", err)
	}
	isRead := v.Action == "read"
	body, err := a.post(ctx, call{op: op, path: "/api/varibles", body: in, isRead: isRead}) // the platform's spelling
	if err != nil || !isRead && isBlank(body) {
		return nil, err
	}
	var out struct {
		refusal
		Value *string `json:"value"`
	}
	if err := decode(op, body, &out, "value"); err != nil {
		return nil, a.failed(ctx, op, err)
	}
	return out.Value, nil
}

func isBlank(body []byte) bool { return len(bytes.TrimSpace(body)) == 0 }

// call is one call of the API.
type call struct {
	op     string // names it in errors
	path   string
	body   []byte
	header http.Header
	bare   bool // send the token without its type

	// isRead marks a call that changes nothing. The server may close an idle connection
	// at the moment when the client sends a call. Then net/http may send a read again on
	// a new connection.
	isRead bool
}

// A CallOption changes what [API.Call] sends.
type CallOption func(*call) error

// WithHeader adds a header to a call. Its name has to begin with "X-", so it can't replace
// a header that this library or net/http sets. The value must have no control characters,
// and no spaces around it. Otherwise the call fails, and nothing is sent.
func WithHeader(name, value string) CallOption {
	return func(c *call) error {
		if !headerName.MatchString(name) {
			return quiet.New(where, c.op+": the name of a header has to begin with X-")
		}
		if !headerValue.MatchString(value) || strings.TrimSpace(value) != value {
			return quiet.New(where, c.op+": the value of a header has control characters, or spaces around it")
		}
		c.header.Set(name, value)
		return nil
	}
}

var (
	headerName  = regexp.MustCompile(`^[Xx]-[A-Za-z0-9-]+$`)
	headerValue = regexp.MustCompile(`^[^\x00-\x1f\x7f]*$`)
)

// WithBareToken sends the access token alone in the Authorization header of a call, without
// its type before it. The platform's newer game clients do this for rooms. The call fails
// if [NewAPI] got an HTTP client that neither [oauth2.Config.Client] nor
// [oauth2login.Provider.Client] made, because such a client adds the header itself.
func WithBareToken() CallOption {
	return func(c *call) error {
		c.bare = true
		return nil
	}
}

// ReadOnly says that a call changes nothing on the platform. If the server closes an idle
// connection just as the call is sent, the call is repeated. Otherwise it fails with an
// error that matches [oauth2login.ErrUnavailable].
func ReadOnly() CallOption {
	return func(c *call) error {
		c.isRead = true
		return nil
	}
}

// Call sends a POST request to any path of the API, for example "/api/album/count". Use it
// for paths for which API has no method. Call sends body as JSON; if body is nil, it sends
// {}. It decodes the JSON object of the answer into answer, unless answer is nil.
//
// If the platform refuses the call, the error is an [*APIError]. An answer with status 200
// and an "error" in its body is a refusal too.
//
// The path may have a query. Call sends the path unchanged, including "//" and dot
// segments. It escapes only characters that a path can't contain. Some servers redirect the
// client to a cleaned path. Call returns such a redirect as an [*APIError].
func (a *API) Call(ctx context.Context, path string, body, answer any, opts ...CallOption) error {
	u, err := url.Parse(path)
	if err != nil || !strings.HasPrefix(path, "/") || u.Host != "" || u.Fragment != "" {
		return quiet.New(where, "call: the path has to begin with a slash")
	}
	c := call{op: "call " + u.EscapedPath(), path: path, header: make(http.Header)} // errors do not quote a query
	for _, opt := range opts {
		if err := opt(&c); err != nil {
			return err
		}
	}
	if body == nil {
		body = struct{}{}
	}
	if c.body, err = json.Marshal(body); err != nil {
		return quiet.New(where, c.op+": the body can't be sent as JSON", err)
	}
	out, err := a.post(ctx, c)
	if err != nil || answer == nil && isBlank(out) {
		return err
	}
	if err := decode(c.op, out, new(refusal)); err != nil {
		return a.failed(ctx, c.op, err)
	}
	if answer == nil {
		return nil
	}
	if err := wire.DecodeObject(out, answer); err != nil {
		return a.failed(ctx, c.op, err)
	}
	return nil
}

// refusal decodes the error in an answer with a successful status. According to the
// official SDKs, "a failure can come as status 200 with a non-empty error string".
type refusal struct {
	Error string `json:"error"`
}

func (r *refusal) refused() bool { return r.Error != "" }

// decode decodes an answer into v, which is a refusal or embeds a refusal. If the answer
// contains an error, decode returns an [*APIError]. In the answer, each of names may occur
// only once.
func decode(op string, body []byte, v interface{ refused() bool }, names ...string) error {
	if err := wire.DecodeObject(body, v, append(names, "error")...); err != nil {
		return err
	}
	if v.refused() {
		return newAPIError(op, http.StatusOK, body)
	}
	return nil
}

// failed returns the error of the call op, which failed because of err. It returns an
// [*APIError] unchanged.
func (a *API) failed(ctx context.Context, op string, err error) error {
	if refusal, ok := err.(*APIError); ok {
		return refusal
	}
	return wire.Failed(ctx, where, op, err)
}

// post sends one call and returns the body of a successful answer.
func (a *API) post(ctx context.Context, c call) ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	client := a.http
	if c.bare {
		if client = a.bareClient(); client == nil {
			return nil, quiet.New(where, c.op+": the bare token needs an HTTP client of oauth2.Config.Client or Provider.Client")
		}
	}
	limited, cancel := wire.WithLimit(ctx, a.limit())
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodPost, a.base+c.path, bytes.NewReader(c.body))
	if err != nil {
		return nil, quiet.New(where, c.op+": it can't be sent", err)
	}
	maps.Copy(req.Header, c.header)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept-Encoding", "identity")
	if c.isRead {
		req.Header["Idempotency-Key"] = []string{} // tells net/http that it may repeat the call; an empty list is not sent
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, a.failed(ctx, c.op, err)
	}
	answer, err := wire.Read(res, maxBody)
	if err != nil {
		return nil, a.failed(ctx, c.op, err)
	}
	if !answer.OK() {
		e := newAPIError(c.op, answer.Status, answer.Body)
		e.RetryAfter = wire.RetryAfter(answer.Header, time.Now())
		return nil, e
	}
	return answer.Body, nil
}

// bareClient returns an HTTP client that sends the token without its type, or nil if this
// library does not add the token itself.
func (a *API) bareClient() *http.Client {
	bearer, ok := a.http.Transport.(*wire.Bearer)
	if !ok {
		return nil
	}
	client, transport := *a.http, *bearer
	transport.Bare = true
	client.Transport = &transport
	return &client
}

func (a *API) limit() time.Duration {
	if bearer, ok := a.http.Transport.(*wire.Bearer); ok {
		return bearer.Limit
	}
	return callTimeout
}

// codePattern matches a string that looks like an error code.
var codePattern = regexp.MustCompile(`^[a-z_]{1,64}$`)

// newAPIError returns an error with all that it can read from the body of a refusal. The
// platform does not document the format of that body.
func newAPIError(op string, status int, body []byte) *APIError {
	e := &APIError{StatusCode: status, Body: body, op: op}
	var known struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Message     string `json:"message"`
	}
	if wire.DecodeObject(body, &known) != nil {
		return e
	}
	if codePattern.MatchString(known.Error) {
		e.Code = known.Error
	}
	e.Message = cmp.Or(known.Description, known.Message)
	if e.Message == "" && e.Code == "" {
		e.Message = known.Error
	}
	return e
}
