package security_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// An endpoint is one of the platform's endpoints, with a call that sends one request to it.
type endpoint struct {
	name  string
	good  string // a valid answer
	must  string // the member that is required; "": none
	other string // optional members, separated by spaces
	token bool   // whether it issues tokens
	call  func(ctx context.Context, p *shangcloud.Provider) error
}

const (
	goodToken    = `{"access_token":"at","token_type":"Bearer","refresh_token":"rt","expires_in":3600}`
	goodUser     = `{"uid":10001,"nickname":"小明","mail":"ming@example.cn","avatar":"https://example.cn/a.png"}`
	goodVariable = `{"value":"dark"}`
	goodDevice   = `{"device_code":"dc","user_code":"ABCD","verification_uri":"https://api.yearnstudio.cn/device"}`
)

var endpoints = []endpoint{
	{"exchange", goodToken, "access_token", "token_type refresh_token expires_in error", true, func(ctx context.Context, p *shangcloud.Provider) error {
		w := httptest.NewRecorder()
		if err := p.StartLogin(w, httptest.NewRequest("GET", "https://app.example/login", nil)); err != nil {
			return err
		}
		back := mustParse(w.Header().Get("Location")).Query().Get("state")
		r := httptest.NewRequest("GET", "https://app.example/callback?code=code-"+hush+"&state="+back, nil).WithContext(ctx)
		r.AddCookie(w.Result().Cookies()[0])
		login, err := p.FinishLogin(httptest.NewRecorder(), r)
		if login != nil {
			return errors.Join(err, checkToken(login.Token))
		}
		return err
	}},
	{"refresh", goodToken, "access_token", "token_type refresh_token expires_in error", true, func(ctx context.Context, p *shangcloud.Provider) error {
		tok, err := p.TokenSource(&oauth2.Token{RefreshToken: "refresh-" + hush}).TokenContext(ctx)
		if tok != nil {
			return errors.Join(err, checkToken(tok))
		}
		return err
	}},
	{"exchange of a public client", goodToken, "access_token", "token_type", true, func(ctx context.Context, p *shangcloud.Provider) error {
		secret := p.OAuth2().ClientSecret
		defer func() { _ = p.SetClientSecret(secret) }()
		if err := p.SetClientSecret(""); err != nil {
			return err
		}
		authURL, err := p.StartUnbound(ctx)
		if err != nil {
			return err
		}
		_, err = p.FinishUnbound(ctx, url.Values{"state": {mustParse(authURL).Query().Get("state")}, "code": {"code-" + hush}})
		return err
	}},
	{"user info", goodUser, "uid", "mail nickname avatar error", false, func(ctx context.Context, p *shangcloud.Provider) error {
		user, err := p.API(hushed).UserInfo(ctx)
		if user != nil && user.ID != 10001 {
			return errors.Join(err, errOther)
		}
		return err
	}},
	{"read variable", goodVariable, "value", "error", false, func(ctx context.Context, p *shangcloud.Provider) error {
		value, err := p.API(hushed).Variable(ctx, hush)
		if err == nil && value != "dark" {
			return errOther
		}
		return err
	}},
	{"write variable", goodVariable, "", "value", false, func(ctx context.Context, p *shangcloud.Provider) error {
		return p.API(hushed).SetVariable(ctx, hush, hush)
	}},
	{"delete variable", goodVariable, "", "value", false, func(ctx context.Context, p *shangcloud.Provider) error {
		return p.API(hushed).DeleteVariable(ctx, hush)
	}},
	{"device", goodDevice, "device_code", "user_code verification_uri verification_uri_complete expires_in interval error", false, func(ctx context.Context, p *shangcloud.Provider) error {
		prompted := errors.New("prompted")
		_, err := p.DeviceLogin(ctx, func(d *oauth2.DeviceAuthResponse) error { return prompted })
		if errors.Is(err, prompted) {
			return nil
		}
		return err
	}},
}

var hushed = oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "access-" + hush})

// errOther means that a call returned a user or value that the good answer does not
// contain.
var errOther = errors.New("another user, or another value")

// checkToken returns an error unless the token is usable and has a plausible expiry.
func checkToken(tok *oauth2.Token) error {
	left := time.Until(tok.Expiry)
	if tok.AccessToken == "" || strings.ContainsAny(tok.AccessToken, "\r\n ") || !strings.EqualFold(tok.Type(), "Bearer") || left <= 0 || left > 365*24*time.Hour {
		return errors.New("an unusable token")
	}
	return nil
}

// A badAnswer is an answer, and a description of the error that each call must return for
// it. Calls to the endpoints in accepted must return no error.
type badAnswer struct {
	name   string
	answer func(c net.Conn, e endpoint, r *http.Request, body []byte)
	setup  func(n *network)

	status   int                           // status of the *oauth2.RetrieveError or *APIError; 0: the error matches ErrUnavailable only
	accepted func(e endpoint) bool         // the endpoints whose calls accept the answer; nil: none
	where    func(e endpoint) bool         // the endpoints that can give the answer; nil: all
	check    func(t *testing.T, err error) // more checks of the error
	unsent   bool                          // the request is never sent
	warm     bool                          // over a connection that has been used before
	asked    bool                          // the client asks for compression
	slow     bool                          // only the time-out ends the call
	said     bool                          // the HTTP is well-formed, the body is bad
	large    bool                          // the answer is megabytes long
}

func everywhere(endpoint) bool     { return true }
func isLenient(e endpoint) bool    { return e.must == "" }
func issuesTokens(e endpoint) bool { return e.token }

// fits reports whether the tests let endpoint e give this answer. Large answers take long.
// So without SHANGCLOUD_LONG_TESTS only three endpoints give large answers, one for each
// kind of call.
func (bad badAnswer) fits(e endpoint) bool {
	if bad.large && !longTests && !slices.Contains([]string{"exchange", "user info", "device"}, e.name) {
		return false
	}
	return bad.where == nil || bad.where(e)
}

// say writes an HTTP answer to the client.
func say(c net.Conn, status int, header, body string) {
	fmt.Fprintf(c, "HTTP/1.1 %d x\r\n%sContent-Length: %d\r\n\r\n%s", status, header, len(body), body)
}

const asJSON = "Content-Type: application/json\r\n"

// saying returns a bad answer with status 200, whose body depends on the endpoint.
func saying(name string, body func(e endpoint) string) badAnswer {
	return badAnswer{name: name, said: true, answer: func(c net.Conn, e endpoint, _ *http.Request, _ []byte) { say(c, 200, asJSON, body(e)) }}
}

// more returns the good answer with an additional member.
func more(e endpoint, member string) string {
	return strings.TrimSuffix(e.good, "}") + "," + member + "}"
}

// badAnswers lists the answers of the tests. Each endpoint gives every answer that fits it.
var badAnswers = sync.OnceValue(func() []badAnswer {
	var all []badAnswer
	add := func(bad ...badAnswer) { all = append(all, bad...) }

	// Good answers, as a control: calls must accept them.
	for name, header := range map[string]string{
		"a good answer": asJSON, "labelled text": "Content-Type: text/plain; charset=utf-8\r\n", "labelled a form": "Content-Type: application/x-www-form-urlencoded\r\n",
		"no label": "", "a label of no form": "Content-Type: ;;\r\n",
	} {
		add(badAnswer{name: name, accepted: everywhere, answer: func(c net.Conn, e endpoint, _ *http.Request, _ []byte) { say(c, 200, header, e.good) }})
	}

	// Redirects.
	for _, status := range []int{301, 302, 303, 307, 308} {
		for name, target := range map[string]string{
			"another host": "https://evil.example/", "another port": "https://example.com:8443/oauth/token", "plain http": "http://example.com/oauth/token",
			"a host that looks alike": "https://example.com@evil.example/", "no scheme": "//evil.example/", "itself": "/oauth/token", "no URL": "https://%zz", "nowhere": "",
		} {
			bad := badAnswer{name: fmt.Sprint("redirect ", status, " to ", name), status: status, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
				say(c, status, "Location: "+target+"\r\n", "")
			}}
			if name == "plain http" { // from https to plain http; the other targets are about the host
				bad.setup = func(n *network) { n.secure(true) }
			}
			add(bad)
		}
	}

	// Status 200 with a wrong body.
	for name, body := range map[string]string{
		"null": "null", "a list": "[]", "a list of objects": `[{}]`, "a string": `"access_token uid value"`, "a number": "1", "true": "true",
		"HTML": "<!DOCTYPE html><title>access_token</title>", "a form": "access_token=at&token_type=Bearer&uid=10001&value=dark",
		"NUL": "\x00", "a closing brace": "}", "an open brace": "{", "a byte order mark": "\xef\xbb\xbf{}", "UTF-16": "{\x00}\x00",
		"nested too deep": `{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}",
	} {
		add(saying(name, func(endpoint) string { return body }))
	}
	for _, body := range []string{"", " \r\n", "{}", `{"x":{"access_token":"at","uid":10001}}`} {
		bad := saying(fmt.Sprintf("nothing: %q", body), func(endpoint) string { return body })
		bad.accepted = isLenient // calls that need nothing from the answer accept it
		add(bad)
	}
	add(
		badAnswer{name: "status 204", accepted: isLenient, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) { fmt.Fprint(c, "HTTP/1.1 204 x\r\n\r\n") }},
		saying("garbage behind", func(e endpoint) string { return e.good + " x" }),
		saying("a second object behind", func(e endpoint) string { return e.good + e.good }),
		saying("cut off", func(e endpoint) string { return e.good[:len(e.good)-1] }),
		saying("not UTF-8", func(e endpoint) string { return more(e, "\"x\":\"\xff\"") }),
		saying("not UTF-8, overlong", func(e endpoint) string { return more(e, "\"x\":\"\xc0\xaf\"") }),
		saying("an error that is no text", func(e endpoint) string { return more(e, `"error":{"code":1}`) }),
		saying("errors, two of them", func(e endpoint) string { return `{"error":"a","error":"b"}` }),
	)
	for i := range 6 {
		other := func(e endpoint) string { return strings.Fields(e.other)[i] }
		for name, body := range map[string]func(e endpoint) string{
			"twice":         func(e endpoint) string { return more(e, fmt.Sprintf(`%q:null,%[1]q:null`, other(e))) },
			"twice, hidden": func(e endpoint) string { return more(e, fmt.Sprintf(`"x":"\"",%q:null,%[1]q:null`, other(e))) },
			"in capitals":   func(e endpoint) string { return more(e, fmt.Sprintf(`%q:null`, strings.ToUpper(other(e)))) },
			"in disguise": func(e endpoint) string {
				return more(e, fmt.Sprintf(`%q:null,"\u%04x%s":null`, other(e), other(e)[0], other(e)[1:]))
			},
			"of another type": func(e endpoint) string { return fmt.Sprintf(`{%q:[{}]}`, other(e)) },
		} {
			bad := saying(fmt.Sprintf("member %d %s", i, name), body)
			bad.where = func(e endpoint) bool { return len(strings.Fields(e.other)) > i }
			add(bad)
		}
	}
	for name, body := range map[string]string{
		"an error object": `{"error":"invalid_request","error_description":"no"}`, "an error in words": `{"error":"Kaputt!"}`,
		"an error, and all the rest": `{"error":"server_error","access_token":"at","token_type":"Bearer","uid":10001,"value":"dark"}`,
	} {
		bad := saying(name, func(endpoint) string { return body })
		bad.status = 200
		add(bad)
	}
	for name, body := range map[string]func(e endpoint) string{
		"twice":              func(e endpoint) string { return strings.Replace(e.good, "{", fmt.Sprintf(`{%q:null,`, e.must), 1) },
		"twice, in capitals": func(e endpoint) string { return more(e, fmt.Sprintf(`%q:null`, strings.ToUpper(e.must))) },
		"in capitals only":   func(e endpoint) string { return strings.Replace(e.good, e.must, strings.ToUpper(e.must), 1) },
		"null":               func(e endpoint) string { return fmt.Sprintf(`{%q:null}`, e.must) },
		"of another type":    func(e endpoint) string { return fmt.Sprintf(`{%q:[]}`, e.must) },
		"inside":             func(e endpoint) string { return `{"data":` + e.good + `}` },
	} {
		bad := saying("what matters, "+name, body)
		bad.where = func(e endpoint) bool { return e.must != "" }
		add(bad)
	}

	// Token answers with a bad type, a bad token or an unusual lifetime.
	for _, kind := range []string{`"mac"`, `"Basic"`, `"DPoP"`, `"Bearer "`, `"Bearer\r\nX-Evil: 1"`, `"\r\n"`, `"Bearer\u0000"`, `1`, `["Bearer"]`} {
		add(badAnswer{name: "token_type " + kind, where: issuesTokens, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			say(c, 200, asJSON, `{"access_token":"at","token_type":`+kind+`}`)
		}})
	}
	for _, token := range []string{`""`, `" "`, `"a b"`, `"at\r\nX-Evil: 1"`, `"at\u0000"`, `"at\u007f"`, `"令牌"`, `1`} {
		add(badAnswer{name: "access_token " + token, where: issuesTokens, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			say(c, 200, asJSON, `{"access_token":`+token+`,"token_type":"Bearer"}`)
		}})
	}
	for _, lifetime := range []string{`0`, `-1`, `1`, `0.5`, `1e999`, `-9223372036854775809`, `9223372036854775807`, `9223372037`, `99999999999999999999`, `"7200"`, `" 7200 "`, `"soon"`, `""`, `"NaN"`, `"-Inf"`, `null`, `true`, `{}`, `[3600]`} {
		add(badAnswer{name: "expires_in " + lifetime, where: issuesTokens, accepted: everywhere, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			say(c, 200, asJSON, `{"access_token":"at","token_type":"bEARER","expires_in":`+lifetime+`}`)
		}})
	}
	for _, expiry := range []string{`"expires_in":3600,"expires_in":7200`, `"EXPIRES_IN":3600`} {
		add(badAnswer{name: expiry, where: issuesTokens, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			say(c, 200, asJSON, `{"access_token":"at","token_type":"Bearer",`+expiry+`}`)
		}})
	}

	// Ordinary error answers, which repeat the secrets of the request.
	for _, status := range []int{400, 401, 403, 404, 418, 429, 500, 502, 503, 599} {
		add(badAnswer{name: fmt.Sprint("status ", status), status: status,
			answer: func(c net.Conn, _ endpoint, r *http.Request, body []byte) {
				said := fmt.Sprintf("%q", r.Header.Get("Authorization")+string(body))
				say(c, status, asJSON+"Retry-After: 120\r\nX-Said: "+said+"\r\n", `{"error":`+said+`,"error_description":`+said+`,"message":`+said+`}`)
			},
			check: func(t *testing.T, err error) { assert.Equal(t, 2*time.Minute, retryAfter(err)) },
		})
		add(badAnswer{name: fmt.Sprint("status ", status, " in HTML"), status: status, answer: func(c net.Conn, _ endpoint, r *http.Request, body []byte) {
			say(c, status, "", "<html>"+r.Header.Get("Authorization")+string(body))
		}})
	}
	add(
		badAnswer{name: "repeated in a status line", answer: func(c net.Conn, _ endpoint, r *http.Request, body []byte) {
			fmt.Fprintf(c, "HTTP/1.1 %s %s\r\n\r\n", r.Header.Get("Authorization"), body)
			c.Close()
		}},
		badAnswer{name: "repeated in a header of no form", answer: func(c net.Conn, _ endpoint, r *http.Request, body []byte) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%s %s\r\n\r\n", r.Header.Get("Authorization"), body)
			c.Close()
		}},
		badAnswer{name: "repeated in a trailer of no form", answer: func(c net.Conn, _ endpoint, r *http.Request, body []byte) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n%s %s\r\n\r\n", r.Header.Get("Authorization"), body)
			c.Close()
		}},
		badAnswer{name: "repeated in a redirect", status: 307, answer: func(c net.Conn, _ endpoint, r *http.Request, body []byte) {
			say(c, 307, "Location: https://%zz?"+r.Header.Get("Authorization")+string(body)+"\r\n", "")
		}},
	)

	// Endless and slow answers.
	add(
		badAnswer{name: "endless", large: true, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			fmt.Fprintf(c, "HTTP/1.1 200 x\r\n%s\r\n{", asJSON)
			flood(c, " ")
		}},
		badAnswer{name: "endless in chunks", large: true, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			fmt.Fprintf(c, "HTTP/1.1 200 x\r\n%sTransfer-Encoding: chunked\r\n\r\n", asJSON)
			flood(c, "400\r\n"+strings.Repeat(" ", 1<<10)+"\r\n")
		}},
		badAnswer{name: "an endless error", large: true, status: 400, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			fmt.Fprintf(c, "HTTP/1.1 400 x\r\n%s\r\n", asJSON)
			flood(c, " ")
		}},
		badAnswer{name: "an endless chunk header", answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			fmt.Fprint(c, "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n")
			flood(c, "0")
		}},
		badAnswer{name: "endless trailers", answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			fmt.Fprint(c, "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
			flood(c, "X: "+strings.Repeat("y", 1<<10)+"\r\n")
		}},
		badAnswer{name: "endless headers", large: true, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			fmt.Fprint(c, "HTTP/1.1 200 x\r\n")
			flood(c, "X: "+strings.Repeat("y", 1<<10)+"\r\n")
		}},
		badAnswer{name: "an endless status line", large: true, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) { flood(c, "H") }},
		badAnswer{name: "endless promises", large: true, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			flood(c, "HTTP/1.1 103 Early Hints\r\nX: "+strings.Repeat("y", 1<<10)+"\r\n\r\n")
		}},
		badAnswer{name: "a byte a second", slow: true, answer: func(c net.Conn, e endpoint, _ *http.Request, _ []byte) {
			fmt.Fprintf(c, "HTTP/1.1 200 x\r\n%s\r\n", asJSON)
			trickle(c, e.good)
		}},
		badAnswer{name: "an error, a byte a second", slow: true, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			fmt.Fprintf(c, "HTTP/1.1 400 x\r\n%s\r\n", asJSON)
			trickle(c, `{"error":"invalid_request"}`)
		}},
		badAnswer{name: "headers, a byte a second", slow: true, answer: func(c net.Conn, e endpoint, _ *http.Request, _ []byte) { trickle(c, "HTTP/1.1 200 x\r\n") }},
		badAnswer{name: "silence", slow: true, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) { _, _ = c.Read(make([]byte, 1)) }},
		badAnswer{name: "silence after the headers", slow: true, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			fmt.Fprint(c, "HTTP/1.1 200 x\r\nContent-Length: 1\r\n\r\n")
			_, _ = c.Read(make([]byte, 1))
		}},
		badAnswer{name: "silence at the handshake", slow: true, unsent: true, setup: func(n *network) {
			n.secure(true)
			n.wrap = func(net.Conn) net.Conn { mute, _ := net.Pipe(); return mute }
		}},
		badAnswer{name: "another protocol", answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			trickle(c, "")
		}},
	)
	for _, asked := range []bool{true, false} {
		add(badAnswer{name: fmt.Sprint("a bomb, asked for: ", asked), large: true, asked: asked, answer: func(c net.Conn, _ endpoint, _ *http.Request, _ []byte) {
			say(c, 200, asJSON+"Content-Encoding: gzip\r\n", bomb())
		}})
		add(badAnswer{name: fmt.Sprint("no gzip, asked for: ", asked), asked: asked,
			answer: func(c net.Conn, e endpoint, _ *http.Request, _ []byte) {
				say(c, 200, asJSON+"Content-Encoding: gzip\r\n", e.good)
			}})
	}

	// Broken connections.
	cut := func(text string) func(net.Conn, endpoint, *http.Request, []byte) {
		return func(c net.Conn, e endpoint, _ *http.Request, _ []byte) {
			fmt.Fprint(c, strings.ReplaceAll(text, "GOOD", e.good))
			c.Close()
		}
	}
	add(
		badAnswer{name: "hung up", answer: cut("")},
		badAnswer{name: "hung up on a connection in use", warm: true, answer: cut("")},
		badAnswer{name: "cut in the status line", answer: cut("HTTP/1.")},
		badAnswer{name: "cut in the headers", answer: cut("HTTP/1.1 200 x\r\nContent-")},
		badAnswer{name: "shorter than announced", answer: cut("HTTP/1.1 200 x\r\nContent-Length: 1000\r\n\r\nGOOD")},
		badAnswer{name: "an error shorter than announced", answer: cut("HTTP/1.1 400 x\r\nContent-Length: 1000\r\n\r\n{\"error\":\"invalid_grant\"}")},
		badAnswer{name: "chunks without the last", answer: cut("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")},
		badAnswer{name: "chunks of no size", answer: cut("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n")},
		badAnswer{name: "two lengths", answer: cut("HTTP/1.1 200 x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nGOOD")},
		badAnswer{name: "a negative length", answer: cut("HTTP/1.1 200 x\r\nContent-Length: -1\r\n\r\nGOOD")},
		badAnswer{name: "not HTTP", answer: cut("SSH-2.0-OpenSSH_9.9\r\n")},
		badAnswer{name: "a body without headers", answer: cut("GOOD")},
		badAnswer{name: "reset", setup: func(n *network) { n.wrap = func(c net.Conn) net.Conn { return resetting{c, n} } }, answer: cut("")},
		badAnswer{name: "unknown authority", unsent: true, setup: func(n *network) { n.secure(false) },
			check: func(t *testing.T, err error) {
				assert.ErrorAs(t, err, new(*tls.CertificateVerificationError))
				assert.ErrorAs(t, err, new(x509.UnknownAuthorityError))
			}},
		badAnswer{name: "wrong host", unsent: true, setup: func(n *network) { n.secure(true); n.TLSClientConfig.ServerName = "shangcloud.example" },
			check: func(t *testing.T, err error) { assert.ErrorAs(t, err, new(x509.HostnameError)) }},
		badAnswer{name: "not TLS", unsent: true, setup: func(n *network) { n.secure(true); n.tls = nil },
			check: func(t *testing.T, err error) { assert.ErrorIs(t, err, oauth2login.ErrUnavailable) }},
		badAnswer{name: "an old TLS", unsent: true, setup: func(n *network) {
			n.secure(true)
			n.tls.MaxVersion = tls.VersionTLS11
			n.tls.MinVersion = tls.VersionTLS10
		}},
	)
	return all
})

// resetting is a connection on which every read error looks as if the other side had reset
// the connection.
type resetting struct {
	net.Conn
	n *network
}

func (r resetting) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	if err != nil {
		err = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}
	}
	return n, err
}

// bomb is 1 GiB of spaces, compressed to 1 MiB.
var bomb = sync.OnceValue(func() string {
	var member bytes.Buffer
	z, _ := gzip.NewWriterLevel(&member, gzip.BestCompression)
	_, _ = z.Write(bytes.Repeat([]byte(" "), 1<<20))
	_ = z.Close()
	return strings.Repeat(member.String(), 1<<10)
})

// refusal returns the status and Retry-After of the platform's error answer.
func refusal(err error) (status int, retryAfter time.Duration) {
	var (
		ae *shangcloud.APIError
		re *oauth2.RetrieveError
	)
	switch {
	case errors.As(err, &ae):
		return ae.StatusCode, ae.RetryAfter
	case errors.As(err, &re):
		wait, _ := time.ParseDuration(re.Response.Header.Get("Retry-After") + "s")
		return re.Response.StatusCode, wait
	}
	return 0, 0
}

func retryAfter(err error) time.Duration { _, wait := refusal(err); return wait }

// prepare returns a provider, and a network in which e gives the bad answer.
func (bad badAnswer) prepare(t *testing.T, e endpoint) (*network, *shangcloud.Provider) {
	t.Helper()
	cold := !bad.warm
	n := newNetwork(t, func(c net.Conn, r *http.Request, body []byte) {
		if cold {
			bad.answer(c, e, r, body)
			return
		}
		cold = true
		say(c, 200, "", e.good)
	})
	n.DisableCompression = !bad.asked
	if bad.setup != nil {
		bad.setup(n)
	}
	conf := valid()
	conf.ClientSecret = "secret-" + hush
	conf.HTTPClient = &http.Client{Transport: n}
	conf.Endpoint = shangcloud.EndpointAt("http://127.0.0.1:8000")
	if n.TLSClientConfig != nil {
		conf.Endpoint = shangcloud.EndpointAt("https://example.com")
	}
	return n, conf.provider(t)
}

// ask calls e and returns the error of the call. It also returns the network, which has
// recorded the requests. If bad.warm is set, ask makes another call first, and that call
// must succeed.
func (bad badAnswer) ask(t *testing.T, e endpoint) (*network, error) {
	t.Helper()
	n, p := bad.prepare(t, e)
	if bad.warm {
		require.NoError(t, e.call(context.Background(), p))
	}
	return n, e.call(context.Background(), p)
}

// Each endpoint gives every bad answer. The call returns an error of the right type, in
// time and with bounded memory. No request is sent twice or to another host. No error
// prints a secret.
func TestAnswers(t *testing.T) {
	for _, e := range endpoints {
		for _, bad := range badAnswers() {
			if !bad.fits(e) {
				continue
			}
			t.Run(e.name+"/"+bad.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					bomb() // made before memory is measured
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					start := time.Now()
					n, err := bad.ask(t, e)
					took := time.Since(start)
					runtime.ReadMemStats(&after)
					bad.judge(t, e, err)

					assert.LessOrEqual(t, took, 10*time.Second, "on the bubble's clock")
					assert.Equal(t, bad.slow, took > 0)
					assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(256<<20), "no bomb is unpacked")
					bad.judgeTraffic(t, e, err, n)
				})
			})
		}
	}
}

// A plainCall calls the endpoint that the field "of" names.
type plainCall struct {
	name, of string
	call     func(ctx context.Context, p *shangcloud.Provider, n *network) error
}

func (c plainCall) endpoint() endpoint {
	return endpoints[slices.IndexFunc(endpoints, func(e endpoint) bool { return e.name == c.of })]
}

// plainCalls use plain x/oauth2 and net/http with HTTP clients of this library.
var plainCalls = []plainCall{
	{"Client", "user info", func(ctx context.Context, p *shangcloud.Provider, _ *network) error {
		req, _ := http.NewRequestWithContext(ctx, "POST", p.OAuth2().Endpoint.TokenURL, strings.NewReader(hush))
		res, err := p.Client(hushed).Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, err = io.CopyN(io.Discard, res.Body, 8<<20)
		return err
	}},
	{"Exchange with ClientContext", "exchange", func(ctx context.Context, p *shangcloud.Provider, _ *network) error {
		_, err := p.OAuth2().Exchange(p.ClientContext(ctx), "code-"+hush)
		return err
	}},
	{"TokenSource with ClientContext", "refresh", func(ctx context.Context, p *shangcloud.Provider, _ *network) error {
		_, err := p.OAuth2().TokenSource(p.ClientContext(ctx), &oauth2.Token{RefreshToken: hush}).Token()
		return err
	}},
	{"DeviceAuth with ClientContext", "device", func(ctx context.Context, p *shangcloud.Provider, _ *network) error {
		_, err := p.OAuth2().DeviceAuth(p.ClientContext(ctx))
		return err
	}},
	{"NewAPI of x/oauth2's client", "user info", func(ctx context.Context, p *shangcloud.Provider, n *network) error {
		return askPlain(ctx, p, &oauth2.Transport{Source: hushed, Base: n})
	}},
	{"NewAPI of a client around x/oauth2's", "user info", func(ctx context.Context, p *shangcloud.Provider, n *network) error {
		return askPlain(ctx, p, roundTripper((&oauth2.Transport{Source: hushed, Base: n}).RoundTrip))
	}},
	{"NewAPI of Client", "user info", func(ctx context.Context, p *shangcloud.Provider, _ *network) error {
		return askPlain(ctx, p, p.Client(hushed).Transport)
	}},
}

func askPlain(ctx context.Context, p *shangcloud.Provider, transport http.RoundTripper) error {
	base := strings.TrimSuffix(p.OAuth2().Endpoint.TokenURL, "/oauth/token")
	_, err := shangcloud.NewAPI(&http.Client{Transport: transport}, shangcloud.WithBaseURL(base)).UserInfo(ctx)
	return err
}

// Each plain call ends in time and sends at most one request. Its error prints no secret,
// unless it is an error of x/oauth2 that quotes the answer.
func TestAnswersToPlainCalls(t *testing.T) {
	for _, c := range plainCalls {
		e := c.endpoint()
		for _, bad := range badAnswers() {
			if bad.where != nil || bad.said || bad.warm || bad.large {
				continue // this test is about what the library hands to x/oauth2
			}
			t.Run(c.name+"/"+bad.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n, p := bad.prepare(t, e)
					start := time.Now()
					err := c.call(t.Context(), p, n)
					assert.LessOrEqual(t, time.Since(start), 10*time.Second, "on the bubble's clock")
					dialled, requests := n.sent()
					assert.LessOrEqual(t, len(requests), 1)
					assert.Len(t, dialled, 1)
					if re := (*oauth2.RetrieveError)(nil); !errors.As(err, &re) || c.of == "user info" {
						assertKeepsQuiet(t, err, nil)
					} // the text of x/oauth2's own error quotes the answer
				})
			})
		}
	}
}

// The caller's context allows an hour. The connection must be closed when the call returns.
func TestAnswersLeaveNoConnection(t *testing.T) {
	calls := slices.Clone(plainCalls)
	for _, e := range endpoints {
		calls = append(calls, plainCall{e.name, e.name, func(ctx context.Context, p *shangcloud.Provider, _ *network) error { return e.call(ctx, p) }})
	}
	for _, bad := range badAnswers() {
		if bad.slow || bad.warm || bad.said || bad.large && bad.name != "endless" && bad.name != "an endless error" {
			continue // these take long, and end in the same way
		}
		t.Run(bad.name, func(t *testing.T) {
			for _, c := range calls {
				if e := c.endpoint(); bad.fits(e) {
					synctest.Test(t, func(t *testing.T) { leaveNoConnection(t, bad, e, c) })
				}
			}
		})
	}
}

func leaveNoConnection(t *testing.T, bad badAnswer, e endpoint, c plainCall) {
	n, p := bad.prepare(t, e)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	_ = c.call(ctx, p, n)
	n.CloseIdleConnections()
	synctest.Wait()
	assert.Zero(t, n.open.Load(), "%s has left a connection open", c.name)
}

// countedBody counts its Close calls.
type countedBody struct {
	io.Reader
	closed *int
}

func (b countedBody) Close() error { *b.closed++; return nil }

// The application's transport ignores contexts. The call still ends in time, and the body
// of the late answer is closed.
func TestAPITransportIgnoresContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := 0
		slow := roundTripper(func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Minute)
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: countedBody{strings.NewReader(goodUser), &closed}, Request: r}, nil
		})
		start := time.Now()
		_, err := shangcloud.NewAPI(&http.Client{Transport: slow}).UserInfo(t.Context())
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
		assert.Equal(t, 10*time.Second, time.Since(start))
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, 1, closed)
	})
}

// noOAuth reports whether this error answer cannot come from an OAuth server.
func (bad badAnswer) noOAuth() bool {
	return strings.HasSuffix(bad.name, "in HTML") && bad.status != 400 && bad.status != 401
}

func (bad badAnswer) judge(t *testing.T, e endpoint, err error) {
	t.Helper()
	if bad.accepted != nil && bad.accepted(e) {
		assert.NoError(t, err)
		return
	}
	require.Error(t, err)
	if e.name == "device" && bad.status == 200 {
		bad.status = 0 // x/oauth2 reports errors of this endpoint only with their status
	}
	status, _ := refusal(err)
	assert.Equal(t, bad.status, status, "%v", err)
	unavailable := bad.status == 0 || bad.status == 429 || bad.status >= 500 || bad.status/100 == 3 ||
		e.name == "refresh" && bad.noOAuth()
	assert.Equal(t, unavailable, errors.Is(err, oauth2login.ErrUnavailable), "%v", err)
	if bad.slow {
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	}
	if bad.check != nil {
		bad.check(t, err)
	}
}

// judgeTraffic checks which requests were sent, and that the error contains none of their
// secrets.
func (bad badAnswer) judgeTraffic(t *testing.T, e endpoint, err error, n *network) {
	t.Helper()
	dialled, requests := n.sent()
	want, connections := 1, 1
	if bad.warm {
		want = 2
		if e.name == "user info" || e.name == "read variable" {
			want, connections = 3, 2 // a read is repeated on a new connection
		}
	}
	if bad.unsent {
		want = 0
	}
	assert.Len(t, requests, want, "a code is sent once, whatever the answer")
	for _, address := range dialled {
		assert.Contains(t, []string{"127.0.0.1:8000", "example.com:443"}, address, "sent elsewhere")
	}
	assert.Len(t, dialled, connections)
	assertKeepsQuiet(t, err, requests)
}

// assertKeepsQuiet checks that the text of an error contains no secrets of the requests.
func assertKeepsQuiet(t *testing.T, err error, requests []sentRequest) {
	t.Helper()
	if err == nil {
		return
	}
	assertPrintsNoSecret(t, err.Error(), err)
	for _, r := range requests {
		_, basic, _ := r.BasicAuth()
		assert.Contains(t, fmt.Sprint(r.Header, basic)+string(r.body), hush, "there is a secret to be printed")
		if verifier := formOf(r).Get("code_verifier"); verifier != "" {
			assert.NotContains(t, printed(err), verifier)
		}
	}
}
