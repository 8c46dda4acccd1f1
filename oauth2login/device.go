package oauth2login

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	// ShangCloud's game clients use "expires_in (900 where absent), interval (5 where
	// absent)". RFC 8628, section 3.2 has the same interval.
	assumedDeviceLifetime = 15 * time.Minute
	maxDeviceLifetime     = time.Hour
	assumedPollInterval   = 5 * time.Second
	maxPollInterval       = time.Minute

	// slowDown is what slow_down adds to the interval (RFC 8628, section 3.5).
	slowDown = 5 * time.Second

	// maxUserCode is the maximum length of a user code. The codes that people type are
	// far shorter.
	maxUserCode = 64

	deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"
)

// DeviceLogin logs a user in to a program that no browser can return to: a console, a
// game, or a program at the other end of an SSH connection. It uses the device
// authorization grant (RFC 8628), with PKCE unless [WithoutPKCE] turns it off.
//
// It calls prompt once with the data to show to the user. VerificationURI is the page to
// open on any device. UserCode is the code to enter there. VerificationURIComplete, if
// not empty, contains the code, for a QR code or a link. DeviceCode is a secret and is
// left out. prompt should not wait for the user. After prompt returns, DeviceLogin waits
// for the user's answer until Expiry: 15 minutes if the provider names no time, an hour
// at most. An overloaded or unreachable provider does not end the login. It is polled
// less often.
//
// Errors: [ErrAccessDenied]; [ErrLoginExpired]; the error of prompt; [ErrUnavailable] if
// the first request fails, or an answer is unusable; [*oauth2.RetrieveError] if the
// provider refuses the application; the error of ctx. Each call starts a new login.
func (p *Provider) DeviceLogin(ctx context.Context, prompt func(*oauth2.DeviceAuthResponse) error) (*Login, error) {
	begun := time.Now()
	login, err := p.deviceLogin(ctx, prompt)
	p.observe(ctx, "device", begun, err)
	return login, err
}

func (p *Provider) deviceLogin(ctx context.Context, prompt func(*oauth2.DeviceAuthResponse) error) (*Login, error) {
	const op = "device login"
	if prompt == nil {
		return nil, p.errorf(op + ": prompt is nil")
	}
	if p.deviceURL == nil {
		return nil, p.errorf(op + ": Endpoint.DeviceAuthURL is not set")
	}
	verifier := ""
	if p.usesPKCE() {
		verifier = oauth2.GenerateVerifier()
	}
	device, err := p.askDevice(ctx, verifier)
	if err != nil {
		return nil, p.callFailed(ctx, op, err)
	}
	ctx, cancel := context.WithDeadlineCause(ctx, device.Expiry, ErrLoginExpired)
	defer cancel()
	shown := *device
	shown.DeviceCode = ""
	if _, err := wire.Await(ctx, func() (struct{}, error) { return struct{}{}, prompt(&shown) }, nil); err != nil {
		return nil, p.errorf(op+": the prompt failed", err)
	}
	tok, err := p.pollDevice(ctx, device, verifier)
	if err != nil {
		return nil, p.deviceFailed(ctx, op, err)
	}
	return &Login{Token: tok, ReturnTo: "/", Scopes: grantedScopes(tok, p.conf.Scopes)}, nil
}

// deviceFailed returns the error for a device login that got no token.
func (p *Provider) deviceFailed(ctx context.Context, op string, err error) error {
	re, refused := isRefusal(err)
	switch {
	case refused && re.ErrorCode == "access_denied":
		return p.errorf(op+": the user denied access", ErrAccessDenied, err)
	case refused && re.ErrorCode == "expired_token", errors.Is(context.Cause(ctx), ErrLoginExpired):
		return p.errorf(op+": the user did not finish it in time", ErrLoginExpired, err)
	case !refused && ctx.Err() != nil:
		return p.errorf(op+": given up by the caller", context.Cause(ctx), err)
	}
	return p.callFailed(ctx, op, err)
}

// askDevice sends the device authorization request. It does not use x/oauth2's function
// for that, whose request has neither a context nor the client's secret.
func (p *Provider) askDevice(ctx context.Context, verifier string) (*oauth2.DeviceAuthResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, p.opts.Timeout)
	defer cancel()
	conf := p.OAuth2()
	form := url.Values{"client_id": {conf.ClientID}}
	if len(conf.Scopes) > 0 {
		form.Set("scope", strings.Join(conf.Scopes, " "))
	}
	if verifier != "" {
		form.Set("code_challenge", oauth2.S256ChallengeFromVerifier(verifier))
		form.Set("code_challenge_method", "S256")
	}
	inHeader := conf.Endpoint.AuthStyle == oauth2.AuthStyleInHeader
	if conf.ClientSecret != "" && !inHeader {
		form.Set("client_secret", conf.ClientSecret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, conf.Endpoint.DeviceAuthURL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if inHeader {
		req.SetBasicAuth(url.QueryEscape(conf.ClientID), url.QueryEscape(conf.ClientSecret))
	}
	begun := time.Now()
	res, err := p.auth.Do(req)
	if err != nil {
		return nil, err
	}
	a, err := wire.Read(res, maxGrantBody)
	if err != nil {
		return nil, err
	}
	if !a.OK() {
		return nil, &oauth2.RetrieveError{Response: res, Body: a.Body, ErrorCode: errorCode(a)}
	}
	device := new(oauth2.DeviceAuthResponse)
	if err := json.Unmarshal(a.Body, device); err != nil {
		return nil, wire.Unusable("not the expected JSON")
	}
	device.Expiry = device.Expiry.Add(-time.Since(begun))
	return device, nil
}

// pollDevice polls for the token until the user has answered or ctx ends. A temporary
// failure doubles the pause, "unilaterally reducing [the] polling frequency" (RFC 8628,
// section 3.5).
func (p *Provider) pollDevice(ctx context.Context, device *oauth2.DeviceAuthResponse, verifier string) (*oauth2.Token, error) {
	interval := time.Duration(device.Interval) * time.Second
	pause, last := interval, error(nil)
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), last)
		}
		tok, err := p.pollOnce(ctx, device.DeviceCode, verifier)
		if err == nil {
			return tok, nil
		}
		re, answered := errors.AsType[*oauth2.RetrieveError](err)
		switch {
		case answered && re.ErrorCode == "authorization_pending":
			pause, last = interval, nil
		case answered && re.ErrorCode == "slow_down":
			interval += slowDown
			pause, last = interval, nil
		case answered && re.Response != nil && isOverloaded(re.Response.StatusCode):
			asked := min(wire.RetryAfter(re.Response.Header, time.Now()), maxPollInterval)
			pause, last = max(min(2*pause, maxPollInterval), asked), ErrUnavailable
		case answered, isFinal(err):
			return nil, err
		default:
			pause, last = min(2*pause, maxPollInterval), ErrUnavailable
		}
	}
}

// isFinal reports whether a failed poll without an OAuth error code ends the login. It
// does in three cases: the answer is unusable and may have contained a token, the
// server's certificate is wrong, or Shutdown was called.
func isFinal(err error) bool {
	_, impostor := errors.AsType[*tls.CertificateVerificationError](err)
	return impostor || errors.Is(err, wire.ErrUnusable) || errors.Is(err, errShuttingDown)
}

func isOverloaded(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

// pollOnce asks for the token once. It uses package clientcredentials because that
// package of x/oauth2 sends a single request with any grant type. The end of ctx does not
// cancel the request, because its answer may contain the token. Only the time-out cancels
// it.
func (p *Provider) pollOnce(ctx context.Context, deviceCode, verifier string) (*oauth2.Token, error) {
	conf := p.OAuth2()
	grant := clientcredentials.Config{
		ClientID: conf.ClientID, ClientSecret: conf.ClientSecret,
		TokenURL: conf.Endpoint.TokenURL, AuthStyle: conf.Endpoint.AuthStyle,
		EndpointParams: url.Values{"grant_type": {deviceGrant}, "device_code": {deviceCode}, "client_id": {conf.ClientID}},
	}
	if verifier != "" {
		grant.EndpointParams.Set("code_verifier", verifier)
	}
	if !p.sending.begin() {
		return nil, p.shuttingDown("device login")
	}
	defer p.sending.end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.opts.Timeout)
	defer cancel()
	tok, err := grant.Token(p.ClientContext(ctx))
	if err != nil {
		return nil, err
	}
	if lifetime, ok := tok.Extra("expires_in").(float64); ok {
		tok.ExpiresIn = int64(lifetime) // package clientcredentials does not set ExpiresIn
	}
	return tok, nil
}

// judgeDevice checks a successful device authorization answer (RFC 8628, section 3.2). It
// returns the answer as unambiguous JSON, with expires_in and interval in whole seconds.
func (p *Provider) judgeDevice(a *wire.Answer) ([]byte, error) {
	body, err := asJSON(a)
	if err != nil {
		return nil, err
	}
	var device struct {
		DeviceCode              string          `json:"device_code"`
		UserCode                string          `json:"user_code"`
		VerificationURI         string          `json:"verification_uri"`
		VerificationURL         string          `json:"verification_url"` // Google's name for verification_uri
		VerificationURIComplete string          `json:"verification_uri_complete"`
		ExpiresIn               json.RawMessage `json:"expires_in"`
		Interval                json.RawMessage `json:"interval"`
		Error                   json.RawMessage `json:"error"`
	}
	err = wire.DecodeObject(body, &device, "device_code", "user_code", "verification_uri", "verification_url",
		"verification_uri_complete", "expires_in", "interval", "error")
	if err != nil {
		return nil, err
	}
	page := device.VerificationURI
	if page == "" {
		page = device.VerificationURL
	}
	switch {
	case len(device.Error) > 0 && string(device.Error) != "null":
		return nil, wire.Unusable("an error with a successful status")
	case device.DeviceCode == "":
		return nil, wire.Unusable("no device_code")
	case !showable(device.UserCode) || len(device.UserCode) > maxUserCode:
		return nil, wire.Unusable("no usable user_code")
	case !p.showableURL(page):
		return nil, wire.Unusable("no usable verification_uri")
	case device.VerificationURIComplete != "" && !p.showableURL(device.VerificationURIComplete):
		return nil, wire.Unusable("unusable verification_uri_complete")
	}
	return withMembers(body, map[string]json.RawMessage{
		"expires_in": wholeSeconds(seconds(device.ExpiresIn, assumedDeviceLifetime, maxDeviceLifetime)),
		"interval":   wholeSeconds(seconds(device.Interval, assumedPollInterval, maxPollInterval)),
	})
}

// showable reports whether a text can be shown on a terminal. It allows no control
// characters, because they can be commands to the terminal.
func showable(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) })
}

// showableURL reports whether a user can be sent to address.
func (p *Provider) showableURL(address string) bool {
	if !showable(address) || len(address) > maxParam {
		return false
	}
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	u.Fragment = ""
	_, err = wire.ParseURL(u.String(), p.row.plainHTTP)
	return err == nil
}
