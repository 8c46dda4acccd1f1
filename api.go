package shangcloud

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"golang.org/x/oauth2"
)

// maxAPIBody caps an answer of the API. A variable of 1 MiB, each byte of it
// escaped as \u0001, fits.
const maxAPIBody = 8 << 20

// API is a client of ShangCloud's API. It is made by [NewAPI] or [Provider.API]
// and safe for concurrent use.
//
// Its errors are [*APIError] if the platform answered and refused, and otherwise
// match [ErrUnavailable], or wrap what the token source or the caller's context
// failed with. A call whose context has no deadline ends after 10 seconds.
type API struct {
	http *http.Client
	base string
	err  error // of the base URL; reported by every call
}

// An APIOption changes what NewAPI makes.
type APIOption func(*API)

// WithBaseURL is the deployment to talk to, instead of [DefaultBaseURL]: https,
// or http on a loopback host. Calls of an API with another base URL fail, and
// nothing is sent.
func WithBaseURL(baseURL string) APIOption {
	return func(a *API) {
		u, err := parseBaseURL(baseURL, false)
		if err != nil {
			a.err = fmt.Errorf("shangcloud: WithBaseURL: %w", err)
			return
		}
		a.base = u.String()
	}
}

// NewAPI returns a client of the API that sends its requests through hc, which
// has to authorize them: [oauth2.Config.Client] and [Provider.Client] make such
// clients. hc itself is not changed. A client that authorizes every request would
// pass the token on along a redirect; NewAPI's copy follows none. If hc's transport is
// not x/oauth2's own but one around it, an error of the token source can't be told
// from one of the connection, and matches ErrUnavailable.
func NewAPI(hc *http.Client, opts ...APIOption) *API {
	a := &API{http: pinned(hc), base: DefaultBaseURL}
	for _, opt := range opts {
		opt(a)
	}
	switch t := transportOf(a.http).(type) {
	case *authTransport:
	case *oauth2.Transport:
		to, _ := url.Parse(a.base) // it has been parsed before
		a.http.Transport = &authTransport{src: t.Source, base: transportOf(&http.Client{Transport: t.Base}), to: to}
	default:
		a.http.Transport = promptTransport{t}
	}
	return a
}

// APIError is an answer of ShangCloud's that refuses a call. It matches
// [ErrUnavailable] if StatusCode is 429 or 500 and above, or a redirect, and
// [ErrLoginRequired] if it is 401: the token is not accepted, and where a
// [TokenSource] could refresh it, neither is the next one.
type APIError struct {
	// StatusCode is that of the answer. It is 200 where the platform reports
	// a failure in the body only, as it can for variables.
	StatusCode int

	// Code is what the platform gave as "error" if that looks like a code, such
	// as insufficient_scope, or "".
	Code string

	// Message is the platform's explanation, or "". It is not part of Error's
	// text: it is the other side's word.
	Message string

	// Body is what was answered, up to 8 MiB.
	Body []byte

	// RetryAfter is how long the platform asks to wait before another try, mostly
	// with status 429 or 503, or 0 if it does not say. (RFC 9110, section 10.2.3)
	RetryAfter time.Duration

	op string
}

// Error gives the call, the status and, if it is a registered one, the code.
func (e *APIError) Error() string {
	s := fmt.Sprintf("shangcloud: %s: status %d", cmp.Or(e.op, "call"), e.StatusCode)
	if code := printableCode(e.Code); code != "" {
		s += " " + code
	}
	return s
}

// Is matches ErrUnavailable and ErrLoginRequired.
func (e *APIError) Is(target error) bool {
	return target == ErrUnavailable && unavailable(e.StatusCode) ||
		target == ErrLoginRequired && e.StatusCode == http.StatusUnauthorized
}

// Format prints the text of Error for every verb, not the body.
func (e *APIError) Format(f fmt.State, verb rune) { formatText(f, verb, e.Error()) }

// MarshalJSON writes e without the platform's own words.
func (e *APIError) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"StatusCode": e.StatusCode, "Code": printableCode(e.Code)})
}

// UserInfo is a ShangCloud user.
type UserInfo struct {
	ID        int64  `json:"uid"` // above zero; accounts are told apart by it
	Nickname  string `json:"nickname"`
	Email     string `json:"mail"` // as the platform gives it; whether it is verified is unknown
	AvatarURL string `json:"avatar"`
}

// UserInfo returns the user that the token belongs to. It needs ScopeUserBasic.
// An answer without a whole number above zero as user ID is an error.
func (a *API) UserInfo(ctx context.Context) (*UserInfo, error) {
	const op = "user info"
	body, err := a.post(ctx, op, "/api/user/info", []byte("{}"))
	if err != nil {
		return nil, err
	}
	var out struct {
		UserInfo
		Error string `json:"error"`
	}
	if err := decodeObject(body, &out, "uid", "nickname", "mail", "avatar", "error"); err != nil {
		return nil, callFailed(ctx, op, err)
	}
	if out.Error != "" {
		return nil, newAPIError(op, http.StatusOK, body)
	}
	if out.ID <= 0 {
		return nil, callFailed(ctx, op, badAnswer("no user ID"))
	}
	return &out.UserInfo, nil
}

// Variable returns the value of one of the user's cloud variables. It needs
// ScopeVariables, as SetVariable and DeleteVariable do.
//
// How the platform answers for a variable that does not exist is not documented:
// the value may come back empty, or an [*APIError] with status 200 or 404.
func (a *API) Variable(ctx context.Context, key string) (string, error) {
	return a.variable(ctx, "read variable", variableRequest{Key: key, Action: "read"})
}

// SetVariable sets one of the user's cloud variables. Key and value are UTF-8 and
// are kept byte for byte; how long they may be is not documented.
func (a *API) SetVariable(ctx context.Context, key, value string) error {
	_, err := a.variable(ctx, "write variable", variableRequest{Key: key, Action: "write", Value: value})
	return err
}

// DeleteVariable deletes one of the user's cloud variables. How the platform
// answers if there is none is not documented.
func (a *API) DeleteVariable(ctx context.Context, key string) error {
	_, err := a.variable(ctx, "delete variable", variableRequest{Key: key, Action: "delete"})
	return err
}

type variableRequest struct {
	Key    string `json:"key"`
	Action string `json:"action"`
	Value  string `json:"value"`
}

func (a *API) variable(ctx context.Context, op string, v variableRequest) (string, error) {
	// encoding/json would silently replace what is not UTF-8.
	if !utf8.ValidString(v.Key) || !utf8.ValidString(v.Value) {
		return "", fmt.Errorf("shangcloud: %s: key or value is not UTF-8", op)
	}
	in, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("shangcloud: %s: %w", op, err)
	}
	body, err := a.post(ctx, op, "/api/varibles", in) // the platform's spelling
	if err != nil {
		return "", err
	}
	if v.Action != "read" && len(bytes.TrimSpace(body)) == 0 {
		return "", nil // done; there is nothing to tell
	}
	var out struct {
		Value *string `json:"value"`
		Error string  `json:"error"`
	}
	if err := decodeObject(body, &out, "value", "error"); err != nil {
		return "", callFailed(ctx, op, err)
	}
	if out.Error != "" {
		return "", newAPIError(op, http.StatusOK, body)
	}
	if v.Action != "read" {
		return "", nil
	}
	if out.Value == nil {
		return "", callFailed(ctx, op, badAnswer("no value"))
	}
	return *out.Value, nil
}

// post sends one call and returns the body of a successful answer.
func (a *API) post(ctx context.Context, op, path string, in []byte) ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	limited, cancel := withLimit(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodPost, a.base+path, bytes.NewReader(in))
	if err != nil {
		return nil, fmt.Errorf("shangcloud: %s: %w", op, err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := a.http.Do(req)
	if err != nil {
		return nil, callFailed(ctx, op, err)
	}
	defer res.Body.Close()
	body, err := readBody(res, maxAPIBody)
	if err != nil {
		return nil, callFailed(ctx, op, err)
	}
	if !isSuccess(res.StatusCode) {
		e := newAPIError(op, res.StatusCode, body)
		e.RetryAfter = retryAfter(res.Header.Get("Retry-After"), time.Now())
		return nil, e
	}
	return body, nil
}

// retryAfter reads a number of seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(date.Sub(now), 0)
	}
	return 0
}

// newAPIError makes what it can of the body of a refusal, whose form the platform
// does not document.
func newAPIError(op string, status int, body []byte) *APIError {
	e := &APIError{StatusCode: status, Body: body, op: op}
	var known struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Message     string `json:"message"`
	}
	if decodeObject(body, &known) != nil {
		return e
	}
	if codePattern.MatchString(known.Error) {
		e.Code = known.Error
	}
	switch {
	case known.Description != "":
		e.Message = known.Description
	case known.Message != "":
		e.Message = known.Message
	case e.Code == "":
		e.Message = known.Error
	}
	return e
}
