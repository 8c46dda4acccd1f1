package oauth2login

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"golang.org/x/oauth2"
)

const (
	// maxGrantBody caps the size of an answer of an OAuth endpoint. Tokens take a few
	// kilobytes. x/oauth2 itself stops reading at 1 MiB and reports no error.
	maxGrantBody = 1 << 20

	// maxLifetime caps the lifetime of a token.
	maxLifetime = 365 * 24 * time.Hour

	// unclearLifetime is the lifetime of a token whose expires_in is not a number, if
	// WithAssumedLifetime is not set. Such a token must not live for ever by accident.
	unclearLifetime = time.Hour
)

// redeemCode exchanges a code, once. The end of ctx does not cancel the request. Only the
// time-out cancels it.
func (p *Provider) redeemCode(ctx context.Context, code string, l *pendingLogin) (*oauth2.Token, error) {
	conf := p.configFor(l)
	var opts []oauth2.AuthCodeOption
	switch {
	case l.Verifier != "":
		opts = append(opts, oauth2.VerifierOption(l.Verifier))
	case conf.ClientSecret == "":
		return nil, p.errorf("exchange: the login has no proof key, and the client has no secret any more")
	}
	if !p.sending.begin() {
		return nil, p.shuttingDown("exchange")
	}
	defer p.sending.end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.opts.Timeout)
	defer cancel()
	tok, err := conf.Exchange(p.ClientContext(ctx), code, opts...)
	if err != nil {
		return nil, p.callFailed(ctx, "exchange", err)
	}
	return tok, nil
}

// callFailed explains why a request to an OAuth endpoint failed.
func (p *Provider) callFailed(ctx context.Context, op string, err error) error {
	err = wire.Failed(ctx, p.where, op, err)
	re, refused := isRefusal(err)
	if !refused || re.Response == nil {
		return err
	}
	status, code, hint := re.Response.StatusCode, re.ErrorCode, ""
	if p.mayBeStyle(re) {
		hint = "; set Endpoint.AuthStyle: the next request sends the client credentials in the other style"
	}
	switch {
	case refusesClient(status, code):
		text := op + ": the client credentials were refused"
		if code := quiet.Code(code); code != "" {
			text += " (" + code + ")"
		}
		check := "; check the client ID and the client secret"
		if *p.secret.Load() == "" {
			check = "; check the client ID: no client secret is set"
		}
		err = p.errorf(text+check+hint, ErrClientCredentials, err)
	case hint != "":
		err = p.errorf(op+": "+quiet.Describe(re)+hint, err)
	default:
		return err
	}
	p.opts.Logger.WarnContext(ctx, "oauth2login: a request was refused, perhaps for its client credentials", "error", err)
	return err
}

// mayBeStyle reports whether the provider may have refused because of where the
// credentials were sent. While p does not know which place the provider reads, such a
// refusal says nothing about the code or the token.
func (p *Provider) mayBeStyle(re *oauth2.RetrieveError) bool {
	return p.conf.Endpoint.AuthStyle == oauth2.AuthStyleAutoDetect && *p.secret.Load() != "" &&
		!p.style.proven.Load() && re.Response != nil && mayRefuseStyle(re.Response.StatusCode, re.ErrorCode)
}

// styleMemory learns how a provider takes the client's credentials if Endpoint.AuthStyle
// does not say. It begins with HTTP Basic: "The authorization server MUST support the
// HTTP Basic authentication scheme" (RFC 6749, section 2.3.1). After a refusal the next
// request uses the other style. A style that worked is kept.
type styleMemory struct {
	inParams, proven atomic.Bool
}

func (m *styleMemory) current() oauth2.AuthStyle {
	if m.inParams.Load() {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}

func (m *styleMemory) forget() { m.proven.Store(false) }

// learn records the answer to credentials that were sent in HTTP Basic or in the form.
// Only the token endpoint proves a style: many device endpoints ignore the secret.
func (m *styleMemory) learn(inParams, atTokenEndpoint bool, a *wire.Answer) {
	switch code := errorCode(a); {
	case a.OK() && code == "":
		if atTokenEndpoint {
			m.inParams.Store(inParams)
			m.proven.Store(true)
		}
	case !m.proven.Load() && mayRefuseStyle(a.Status, code):
		m.inParams.Store(!inParams)
	}
}

func errorCode(a *wire.Answer) string {
	var answer struct {
		Error json.RawMessage `json:"error"`
	}
	if wire.IsObject(a.Body) {
		var code string
		if json.Unmarshal(a.Body, &answer) != nil || json.Unmarshal(answer.Error, &code) != nil {
			return ""
		}
		return code
	}
	form, err := url.ParseQuery(string(a.Body))
	if err != nil {
		return ""
	}
	return form.Get("error")
}

// guard is the transport between x/oauth2 and the provider's OAuth endpoints. It passes
// on only answers that x/oauth2 can't misunderstand. To requests for other addresses it
// only adds a time-out.
type guard struct {
	p    *Provider
	base http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	var judge func(*wire.Answer) ([]byte, error)
	atTokenEndpoint := isEndpoint(g.p.tokenURL, req.URL)
	switch {
	case atTokenEndpoint:
		refreshing := isRefresh(req)
		judge = func(a *wire.Answer) ([]byte, error) { return g.p.judgeToken(a, refreshing) }
	case isEndpoint(g.p.deviceURL, req.URL):
		judge = g.p.judgeDevice
	default:
		return wire.Limited(req, g.p.opts.Timeout, func(out *http.Request) (*http.Response, error) {
			return wire.Send(g.base, out, 0)
		})
	}
	ctx, cancel := wire.WithLimit(req.Context(), g.p.opts.Timeout)
	defer cancel()
	out := req.WithContext(ctx)
	out.Header = req.Header.Clone()
	out.Header.Set("Accept", "application/json") // otherwise GitHub answers with a form
	out.Header.Set("Accept-Encoding", "identity")
	_, _, inHeader := out.BasicAuth()
	if g.p.row.rawBasic {
		setRawBasic(out)
	}
	res, err := wire.Send(g.base, out, 0) // a code is sent once
	if err != nil {
		return nil, err
	}
	a, err := wire.Read(res, maxGrantBody)
	if err != nil {
		return nil, err
	}
	g.p.style.learn(!inHeader, atTokenEndpoint, a)
	return respond(req, a, judge)
}

func isEndpoint(endpoint, u *url.URL) bool {
	return endpoint != nil && u.Scheme == endpoint.Scheme && u.Host == endpoint.Host && u.Path == endpoint.Path
}

// isRefresh reports whether a request to the token endpoint is a refresh.
func isRefresh(req *http.Request) bool {
	if req.GetBody == nil {
		return false
	}
	body, err := req.GetBody()
	if err != nil {
		return false
	}
	defer body.Close()
	form, err := io.ReadAll(io.LimitReader(body, maxGrantBody))
	return err == nil && bytes.Contains(form, []byte("grant_type=refresh_token"))
}

// respond converts an answer to a response. It passes a successful answer to judge first.
func respond(req *http.Request, a *wire.Answer, judge func(*wire.Answer) ([]byte, error)) (*http.Response, error) {
	body := a.Body
	if a.OK() {
		var err error
		if body, err = judge(a); err != nil {
			return nil, err
		}
	}
	header := a.Header.Clone()
	if wire.IsObject(body) { // x/oauth2 would parse JSON of type text/plain as a form
		header.Set("Content-Type", "application/json")
	}
	header.Del("Content-Encoding")
	return &http.Response{
		Status: strconv.Itoa(a.Status) + " " + http.StatusText(a.Status), StatusCode: a.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		// The response may end up in an *oauth2.RetrieveError, and the error in a log. So
		// this Request does not contain the credentials.
		Request: &http.Request{Method: req.Method, URL: req.URL},
	}, nil
}

// setRawBasic replaces the escaped Basic credentials of x/oauth2 by unescaped ones.
func setRawBasic(req *http.Request) {
	id, secret, ok := req.BasicAuth()
	if !ok {
		return
	}
	rawID, err1 := url.QueryUnescape(id)
	rawSecret, err2 := url.QueryUnescape(secret)
	if err1 != nil || err2 != nil {
		return // x/oauth2 did not make these credentials
	}
	req.SetBasicAuth(rawID, rawSecret)
}

// tokenMembers are the members of a token answer that judgeToken reads.
var tokenMembers = []string{"access_token", "token_type", "refresh_token", "expires_in", "error"}

// judgeToken checks a successful token answer and returns it as unambiguous JSON: with
// exact member names, a bearer token that fits in a header, and a lifetime in whole
// seconds.
//
// An answer with an error is passed on: x/oauth2 makes an oauth2.RetrieveError from it.
func (p *Provider) judgeToken(a *wire.Answer, refreshing bool) ([]byte, error) {
	body, err := asJSON(a)
	if err != nil {
		return nil, err
	}
	var tok struct {
		AccessToken  string          `json:"access_token"`
		TokenType    string          `json:"token_type"`
		RefreshToken string          `json:"refresh_token"`
		ExpiresIn    json.RawMessage `json:"expires_in"`
		Error        string          `json:"error"`
	}
	if err := wire.DecodeObject(body, &tok, tokenMembers...); err != nil {
		return nil, err
	}
	switch {
	case tok.Error != "":
		return body, nil
	case !headerSafe(tok.AccessToken):
		return nil, wire.Unusable("no usable access_token")
	case tok.TokenType != "" && !strings.EqualFold(tok.TokenType, "Bearer"):
		return nil, wire.Unusable("token_type is not Bearer")
	}
	expiresIn := p.expiresIn(tok.ExpiresIn, refreshing || tok.RefreshToken != "")
	if bytes.Equal(expiresIn, tok.ExpiresIn) {
		return body, nil
	}
	return withMembers(body, map[string]json.RawMessage{"expires_in": expiresIn})
}

// asJSON returns the body of an answer as a JSON object. Some providers answer with a
// form. In a form, a repeated name is an error.
func asJSON(a *wire.Answer) ([]byte, error) {
	content, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if wire.IsObject(a.Body) || content != "application/x-www-form-urlencoded" && content != "text/plain" {
		return a.Body, nil
	}
	form, err := url.ParseQuery(strings.TrimSpace(string(a.Body)))
	if err != nil {
		return nil, wire.Unusable("not a form")
	}
	object := make(map[string]string, len(form))
	for name, values := range form {
		if len(values) > 1 {
			return nil, wire.Unusable("ambiguous form")
		}
		object[name] = values[0]
	}
	return json.Marshal(object)
}

// expiresIn returns the expires_in for x/oauth2: whole seconds, or null for a token that
// does not expire. Some providers send 0 for a token that does not expire.
func (p *Provider) expiresIn(raw json.RawMessage, refreshable bool) json.RawMessage {
	text := string(raw)
	if s, err := strconv.Unquote(text); err == nil {
		text = strings.TrimSpace(s)
	}
	if text == "" || text == "null" || !refreshable && isZero(text) {
		if p.row.assumed == 0 {
			return json.RawMessage("null")
		}
		return wholeSeconds(p.row.assumed)
	}
	assumed := p.row.assumed
	if assumed == 0 {
		assumed = unclearLifetime
	}
	return wholeSeconds(seconds(raw, assumed, maxLifetime))
}

func isZero(number string) bool {
	f, err := strconv.ParseFloat(number, 64)
	return err == nil && f == 0
}

// seconds converts a JSON number, or a string that contains one, to whole seconds. The
// result is at least one second and at most the parameter most. If raw contains no finite
// number, seconds returns assumed.
func seconds(raw json.RawMessage, assumed, most time.Duration) time.Duration {
	text := string(raw)
	if s, err := strconv.Unquote(text); err == nil {
		text = strings.TrimSpace(s)
	}
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax), math.IsNaN(f), math.IsInf(f, 1):
		return assumed
	case f < 1:
		return time.Second
	case f > most.Seconds():
		return most
	}
	return time.Duration(f) * time.Second
}

func wholeSeconds(d time.Duration) json.RawMessage {
	return strconv.AppendInt(nil, int64(d/time.Second), 10)
}

// withMembers returns a JSON object with some of its members replaced.
func withMembers(object []byte, members map[string]json.RawMessage) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(object, &all); err != nil {
		return nil, wire.Unusable("not a JSON object")
	}
	maps.Copy(all, members)
	return json.Marshal(all)
}

// headerSafe reports whether a token can be sent in a header. RFC 6749, appendix A.12
// allows visible ASCII and spaces. But a space would split the token into two words.
func headerSafe(token string) bool {
	return token != "" && !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
}
