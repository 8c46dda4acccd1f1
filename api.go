package shangcloud

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	// maxBody caps an answer of the API. A variable of 1 MiB fits, each byte of it
	// escaped as \u0001.
	maxBody = 8 << 20

	// callTimeout ends a call whose context has no deadline. The official clients give
	// up after 10 seconds.
	callTimeout = 10 * time.Second

	where = "shangcloud" // begins the text of errors
)

// API is a client of ShangCloud's API. [NewAPI] or [Provider.API] makes it. It is safe for
// concurrent use.
//
// An error is an [*APIError] if the platform answered and refused. Otherwise it matches
// [oauth2login.ErrUnavailable], or wraps the error of the token source or of the context.
// A call whose context has no deadline ends after 10 seconds, or after Options.Timeout of
// the Provider.
type API struct {
	http *http.Client
	base string
	err  error // of the base URL; every call returns it
}

// An APIOption changes what NewAPI makes.
type APIOption func(*API)

// WithBaseURL names the deployment, instead of [DefaultBaseURL]: https, or http on a
// loopback host. With any other URL every call fails, and nothing is sent.
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

// NewAPI returns a client of the API that sends its requests through a copy of hc, which
// has to authorize them: [oauth2.Config.Client] and [oauth2login.Provider.Client] make
// such clients. The copy follows no redirects: they would send the token to another
// address.
//
// If the transport of hc is a wrapper around that of x/oauth2, NewAPI can't tell an error
// of the token source from one of the connection. Then both match
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

// APIError is an answer that refuses a call. It matches [oauth2login.ErrUnavailable] if
// StatusCode is 429, 500 or above, or a redirect. It matches
// [oauth2login.ErrLoginRequired] if StatusCode is 401: the platform does not accept the
// token, nor the refreshed one if there is a [oauth2login.TokenSource].
//
// Package fmt cannot call methods of a value in an unexported field of a struct. For an
// APIError there, it prints all fields, the body included.
type APIError struct {
	// StatusCode is that of the answer. It is 200 where the platform reports a failure
	// in the body only, as it can for variables.
	StatusCode int

	// Code is what the platform sent as "error" if that looks like a code, for example
	// insufficient_scope, and otherwise "".
	Code string

	// Message is the platform's explanation, or "". Error does not print it.
	Message string

	// Body is the answer, up to 8 MiB.
	Body []byte

	// RetryAfter is how long the platform asks to wait, a day at most; 0 if it does not
	// say (RFC 9110, section 10.2.3).
	RetryAfter time.Duration

	op string
}

// Error gives the call, the status and, if it is a registered one, the code.
func (e *APIError) Error() string {
	s := fmt.Sprintf("%s: %s: status %d", where, cmp.Or(e.op, "call"), e.StatusCode)
	if code := quiet.Code(e.Code); code != "" {
		s += " " + code
	}
	return s
}

// Is matches ErrUnavailable and ErrLoginRequired of package oauth2login.
func (e *APIError) Is(target error) bool {
	return target == oauth2login.ErrUnavailable && wire.Unavailable(e.StatusCode) ||
		target == oauth2login.ErrLoginRequired && e.StatusCode == http.StatusUnauthorized
}

// Format prints the text of Error for every verb, not the body.
func (e APIError) Format(f fmt.State, verb rune) { quiet.Format(f, verb, e.Error()) }

// MarshalJSON writes the status and, if it is a registered one, the code.
func (e APIError) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"StatusCode": e.StatusCode, "Code": quiet.Code(e.Code)})
}

// UserInfo is a ShangCloud user. Nickname, Email and AvatarURL are optional: each is
// empty if the platform's answer has no such string.
type UserInfo struct {
	ID        int64 // above zero; tell accounts apart by it
	Nickname  string
	Email     string // whether it is verified is unknown
	AvatarURL string
}

// UserInfo returns the user that the token belongs to. It needs [ScopeUserBasic]. An
// answer without a whole number above zero as user ID is an error.
func (a *API) UserInfo(ctx context.Context) (*UserInfo, error) {
	const op = "user info"
	body, err := a.post(ctx, op, "/api/user/info", []byte("{}"), isRead)
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

// userID is a whole number above zero, or 0 for anything else. "uid is an integer"
// (reference documentation). A string of digits is one, too.
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

// text is a JSON string; anything else is read as "".
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*t = text(s)
	}
	return nil
}

// Variable returns the value of one of the user's cloud variables. It needs
// [ScopeVariables], as SetVariable and DeleteVariable do.
//
// How the platform answers for a variable that does not exist is unknown: the value may be
// empty, or the error an [*APIError] with status 200 or 404.
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

// SetVariable sets one of the user's cloud variables. Key and value are UTF-8 and are kept
// byte for byte. Their limits are unknown.
func (a *API) SetVariable(ctx context.Context, key, value string) error {
	_, err := a.variable(ctx, "write variable", variableRequest{Key: key, Action: "write", Value: value})
	return err
}

// DeleteVariable deletes one of the user's cloud variables. How the platform answers if
// there is none is unknown.
func (a *API) DeleteVariable(ctx context.Context, key string) error {
	_, err := a.variable(ctx, "delete variable", variableRequest{Key: key, Action: "delete"})
	return err
}

type variableRequest struct {
	Key    string `json:"key"`
	Action string `json:"action"`
	Value  string `json:"value"`
}

// variable returns the value in the answer, or nil if there is none. The answer to a
// change may be empty.
func (a *API) variable(ctx context.Context, op string, v variableRequest) (*string, error) {
	// encoding/json would replace what is not UTF-8.
	if !utf8.ValidString(v.Key) || !utf8.ValidString(v.Value) {
		return nil, quiet.New(where, op+": key or value is not UTF-8")
	}
	in, err := json.Marshal(v)
	if err != nil {
		return nil, quiet.New(where, op+": it can't be sent", err)
	}
	isRead := v.Action == "read"
	body, err := a.post(ctx, op, "/api/varibles", in, isRead) // the platform's spelling
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

// Call sends a POST to a path of the API that this library does not know, for example
// "/api/mmo/room/usercount". body is sent as JSON; if nil, {}. The answer, a JSON object,
// is decoded into answer unless that is nil. A refusal is an [*APIError], also one with
// status 200 and an "error" in its body.
//
// The path may have a query. It is sent as it is, "//" and dot segments included; only
// characters that a path can't hold are escaped. An answer that redirects, as some servers
// do to clean a path, is an [*APIError].
func (a *API) Call(ctx context.Context, path string, body, answer any) error {
	u, err := url.Parse(path)
	if err != nil || !strings.HasPrefix(path, "/") || u.Host != "" || u.Fragment != "" {
		return quiet.New(where, "call: the path has to begin with a slash")
	}
	op := "call " + u.EscapedPath() // errors do not quote a query
	if body == nil {
		body = struct{}{}
	}
	in, err := json.Marshal(body)
	if err != nil {
		return quiet.New(where, op+": the body can't be sent as JSON", err)
	}
	out, err := a.post(ctx, op, path, in, !isRead)
	if err != nil || answer == nil && isBlank(out) {
		return err
	}
	if err := decode(op, out, new(refusal)); err != nil {
		return a.failed(ctx, op, err)
	}
	if answer == nil {
		return nil
	}
	if err := wire.DecodeObject(out, answer); err != nil {
		return a.failed(ctx, op, err)
	}
	return nil
}

// refusal is the error that an answer with a successful status can contain: "a failure
// can come as status 200 with a non-empty error string" (official SDKs).
type refusal struct {
	Error string `json:"error"`
}

func (r *refusal) refused() bool { return r.Error != "" }

// decode reads an answer into a struct that is a refusal or embeds one.
func decode(op string, body []byte, v interface{ refused() bool }, names ...string) error {
	if err := wire.DecodeObject(body, v, append(names, "error")...); err != nil {
		return err
	}
	if v.refused() {
		return newAPIError(op, http.StatusOK, body)
	}
	return nil
}

// failed returns the error of a call that failed with err. An [*APIError] is returned
// unchanged.
func (a *API) failed(ctx context.Context, op string, err error) error {
	if refusal, ok := err.(*APIError); ok {
		return refusal
	}
	return wire.Failed(ctx, where, op, err)
}

// isRead marks a call that changes nothing. If the server closes an idle connection just
// as the call is sent, net/http repeats the call on a new connection.
const isRead = true

// post sends one call and returns the body of a successful answer.
func (a *API) post(ctx context.Context, op, path string, in []byte, isRead bool) ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	limited, cancel := wire.WithLimit(ctx, a.limit())
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodPost, a.base+path, bytes.NewReader(in))
	if err != nil {
		return nil, quiet.New(where, op+": it can't be sent", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept-Encoding", "identity")
	if isRead {
		req.Header["Idempotency-Key"] = []string{} // tells net/http that it may repeat the call; an empty list is not sent
	}
	res, err := a.http.Do(req)
	if err != nil {
		return nil, a.failed(ctx, op, err)
	}
	answer, err := wire.Read(res, maxBody)
	if err != nil {
		return nil, a.failed(ctx, op, err)
	}
	if !answer.OK() {
		e := newAPIError(op, answer.Status, answer.Body)
		e.RetryAfter = wire.RetryAfter(answer.Header, time.Now())
		return nil, e
	}
	return answer.Body, nil
}

func (a *API) limit() time.Duration {
	if bearer, ok := a.http.Transport.(*wire.Bearer); ok {
		return bearer.Limit
	}
	return callTimeout
}

// codePattern is what error codes look like.
var codePattern = regexp.MustCompile(`^[a-z_]{1,64}$`)

// newAPIError reads as much of a refusal as it can. The platform does not document the
// form.
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
