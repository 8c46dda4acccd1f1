package shangcloud

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"golang.org/x/oauth2"
)

// ErrDeviceLoginExpired is a login that the user did not finish in time: a reason to
// offer a new one. The *oauth2.RetrieveError is in the chain if it was the platform
// that said so.
var ErrDeviceLoginExpired = errors.New("shangcloud: the user did not finish the login in time")

const (
	// "expires_in (900 where absent), interval (5 where absent)": the platform's
	// game clients.
	assumedDeviceLifetime = 15 * time.Minute
	maxDeviceLifetime     = time.Hour
	assumedPollInterval   = 5 * time.Second
	maxPollInterval       = time.Minute

	// maxUserCode is far above what a person types.
	maxUserCode = 64
)

// DeviceLogin logs a user in where no browser can come back to: a console, a game, a
// program at the other end of an SSH connection. It is the device authorization grant
// (RFC 8628), with PKCE as the platform's game clients do it.
//
// It calls prompt, once, with what the user has to be shown: VerificationURI, the page
// to open on any device, and UserCode, to be entered there. VerificationURIComplete,
// if it is not empty, has the code in it, for a QR code or a link. Expiry is when the
// login ends. DeviceCode is left out: it is a secret that nobody needs to see. Then it
// waits for the user's answer, until Expiry at most: 15 minutes where the platform names
// no time, and never more than an hour. prompt should not wait.
//
// A platform that is overloaded or out of reach does not end the login: it is asked
// less often.
//
// Errors: [ErrAccessDenied] if the user said no; [ErrDeviceLoginExpired]; what prompt
// returned; [*oauth2.RetrieveError] where the platform refuses the application;
// [ErrUnavailable] where it can't be reached to begin with, or gives no usable answer;
// the error of ctx, whose end is the end of the login.
//
// DeviceLogin is safe for concurrent use; each call is a login of its own.
func (p *Provider) DeviceLogin(ctx context.Context, prompt func(*oauth2.DeviceAuthResponse) error) (*oauth2.Token, error) {
	if prompt == nil {
		return nil, errors.New("shangcloud: device login: prompt is nil")
	}
	conf := p.OAuth2()
	var challenge, verifier []oauth2.AuthCodeOption
	if !p.conf.DisablePKCE || conf.ClientSecret == "" {
		v := oauth2.GenerateVerifier()
		challenge = append(challenge, oauth2.S256ChallengeOption(v))
		verifier = append(verifier, oauth2.VerifierOption(v))
	}
	device, err := p.askDevice(ctx, conf, challenge)
	if err != nil {
		return nil, callFailed(ctx, "device login", err)
	}
	ctx, cancel := context.WithDeadlineCause(ctx, device.Expiry, ErrDeviceLoginExpired)
	defer cancel()
	shown := *device
	shown.DeviceCode = ""
	device.Expiry = time.Time{} // ctx ends at that time, and knows why
	if err := prompt(&shown); err != nil {
		return nil, fmt.Errorf("shangcloud: device login: %w", err)
	}

	conf.Scopes = nil // they were asked for already
	auth := *p.auth
	polls := &pollTransport{base: auth.Transport, pause: time.Duration(device.Interval) * time.Second}
	auth.Transport = polls
	tok, err := conf.DeviceAccessToken(context.WithValue(ctx, oauth2.HTTPClient, &auth), device, verifier...)
	if err != nil {
		return nil, deviceFailed(ctx, errors.Join(err, polls.failure))
	}
	return tok, nil
}

// deviceFailed explains why there is no token.
func deviceFailed(ctx context.Context, err error) error {
	const op = "device login"
	var refused *oauth2.RetrieveError
	switch errors.As(err, &refused); {
	case refused != nil && refused.ErrorCode == "access_denied":
		return &callError{op, "the user denied access", []error{ErrAccessDenied, err}}
	case refused != nil && refused.ErrorCode == "expired_token", errors.Is(context.Cause(ctx), ErrDeviceLoginExpired):
		return &callError{op, "the user did not finish it in time", []error{ErrDeviceLoginExpired, err}}
	case refused == nil && ctx.Err() != nil:
		return &callError{op, "given up by the caller", []error{context.Cause(ctx), err}}
	}
	return callFailed(ctx, op, err)
}

// askDevice sends the device authorization request, which x/oauth2 makes without a
// context and without the client's secret.
func (p *Provider) askDevice(ctx context.Context, conf *oauth2.Config, opts []oauth2.AuthCodeOption) (*oauth2.DeviceAuthResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	hc := *p.auth
	hc.Transport = transportFunc(func(req *http.Request) (*http.Response, error) {
		out := req.Clone(ctx)
		if conf.ClientSecret != "" {
			out.SetBasicAuth(conf.ClientID, conf.ClientSecret)
		}
		return p.auth.Transport.RoundTrip(out)
	})
	return conf.DeviceAuth(context.WithValue(ctx, oauth2.HTTPClient, &hc), opts...)
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// canonicalDevice checks the body of a successful device authorization response (RFC
// 8628, section 3.2) and rewrites it so that it has one meaning, and times that
// x/oauth2 can count with: an interval of its liking, and an Expiry that does not wrap around.
func (p *Provider) canonicalDevice(body []byte) ([]byte, error) {
	var device struct {
		DeviceCode              string          `json:"device_code"`
		UserCode                string          `json:"user_code"`
		VerificationURI         string          `json:"verification_uri"`
		VerificationURIComplete string          `json:"verification_uri_complete"`
		ExpiresIn               json.RawMessage `json:"expires_in"`
		Interval                json.RawMessage `json:"interval"`
		Error                   json.RawMessage `json:"error"`
	}
	if err := decodeObject(body, &device, "device_code", "user_code", "verification_uri", "verification_uri_complete",
		"expires_in", "interval", "error"); err != nil {
		return nil, err
	}
	switch {
	case len(device.Error) > 0 && !bytes.Equal(device.Error, []byte("null")):
		return nil, badAnswer("an error with a successful status")
	case device.DeviceCode == "":
		return nil, badAnswer("no device_code")
	case !showable(device.UserCode) || len(device.UserCode) > maxUserCode:
		return nil, badAnswer("no usable user_code")
	case !p.showableURL(device.VerificationURI):
		return nil, badAnswer("no usable verification_uri")
	case device.VerificationURIComplete != "" && !p.showableURL(device.VerificationURIComplete):
		return nil, badAnswer("unusable verification_uri_complete")
	}
	return withMembers(body, map[string]json.RawMessage{
		"expires_in": wholeSeconds(seconds(device.ExpiresIn, assumedDeviceLifetime, maxDeviceLifetime)),
		"interval":   wholeSeconds(seconds(device.Interval, assumedPollInterval, maxPollInterval)),
	})
}

// showable reports whether text can be put on a terminal: with control characters,
// it could be made to do things.
func showable(text string) bool {
	for _, r := range text {
		if !unicode.IsGraphic(r) {
			return false
		}
	}
	return text != ""
}

// showableURL reports whether a user can be sent to address.
func (p *Provider) showableURL(address string) bool {
	if !showable(address) || len(address) > maxParam {
		return false
	}
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil && checkHost(u, p.conf.AllowHTTP) == nil
}

// pollTransport keeps a poll that failed from ending the login, as it would in
// x/oauth2: it waits, "unilaterally reducing [the] polling frequency" (RFC 8628,
// section 3.5), and reports that the user has not answered yet. It is used by one
// call of DeviceLogin, whose polls come one after another.
type pollTransport struct {
	base  http.RoundTripper
	pause time.Duration // after the next failure

	failure error // of the last poll: why the user's answer did not arrive
}

func (t *pollTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), callTimeout)
	defer cancel()
	res, err := t.base.RoundTrip(req.WithContext(ctx))
	pause := t.pause
	t.failure = ErrUnavailable
	var (
		unusable *badAnswerError
		cert     *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &unusable), errors.As(err, &cert):
		return nil, err // a token may have been in the answer, or the other side is an impostor
	case err == nil && !isOverloaded(res.StatusCode):
		t.failure = nil
		return res, nil
	case err == nil:
		pause = max(pause, min(retryAfter(res.Header.Get("Retry-After"), time.Now()), maxPollInterval))
	}
	t.pause = min(2*t.pause, maxPollInterval)
	select {
	case <-time.After(pause):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	return pending(req), nil
}

func isOverloaded(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

// pending is the answer for a user who has not answered yet.
func pending(req *http.Request) *http.Response {
	const body = `{"error":"authorization_pending"}`
	return &http.Response{
		StatusCode: http.StatusBadRequest, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		Request: &http.Request{Method: req.Method, URL: req.URL},
	}
}
