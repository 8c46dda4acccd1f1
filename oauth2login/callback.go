package oauth2login

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Limits of a callback. Authorization codes are opaque and of unknown length (RFC 6749,
// section 4.1.2); the longest known codes have about 2 KB.
const (
	maxQuery = 16 << 10
	maxParam = 4 << 10
)

// callbackParams are the parameters of a callback that this package reads.
var callbackParams = []string{"state", "code", "error", "error_description", "error_uri", "iss"}

type callback struct {
	state, code string
	err         *CallbackError // instead of a code
}

// callbackRequest reads an authorization response from a request.
func (p *Provider) callbackRequest(r *http.Request) (callback, error) {
	if r.Method == http.MethodPost {
		return callback{}, p.badCallback("the method is POST: response_mode=form_post is not supported")
	}
	if r.Method != http.MethodGet {
		return callback{}, p.badCallback("the method is not GET")
	}
	if notNavigation(r) != 0 {
		return callback{}, p.badCallback("the request is not a navigation")
	}
	if len(r.URL.RawQuery) > maxQuery {
		return callback{}, p.badCallback("the query is too long")
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return callback{}, p.badCallback("the query is malformed")
	}
	return p.parseCallback(q)
}

func (p *Provider) badCallback(text string) error {
	return p.errorf("callback: "+text, ErrBadCallback)
}

// parseCallback reads the parameters of an authorization response. It demands a state
// and either a code or an error, each once (RFC 6749, section 3.1: "parameters MUST NOT
// be included more than once").
func (p *Provider) parseCallback(q url.Values) (callback, error) {
	for _, name := range callbackParams {
		if len(q[name]) > 1 {
			return callback{}, p.badCallback(name + " is repeated")
		}
	}
	cb := callback{state: q.Get("state"), code: q.Get("code")}
	if text := checkParam("state", cb.state); text != "" {
		return callback{}, p.badCallback(text)
	}
	// "If the value does not match the expected issuer identifier, clients MUST
	// reject the authorization response."
	// https://www.rfc-editor.org/rfc/rfc9207#section-2.4
	if p.row.issuer != "" && q.Get("iss") != p.row.issuer {
		return callback{}, p.badCallback("iss is missing or names another issuer")
	}
	if !q.Has("error") {
		if text := checkParam("code", cb.code); text != "" {
			return callback{}, p.badCallback(text)
		}
		return cb, nil
	}
	if q.Has("code") {
		return callback{}, p.badCallback("both code and error")
	}
	if text := checkParam("error", q.Get("error")); text != "" {
		return callback{}, p.badCallback(text)
	}
	cb.err = &CallbackError{q.Get("error"), plainOrEmpty(q.Get("error_description")), plainOrEmpty(q.Get("error_uri"))}
	return cb, nil
}

// plainOrEmpty returns s, or "" if s is too long or not plain text. It is for parameters
// that are only passed on, such as error_description. Azure sends line breaks in its
// error descriptions, and other providers send GBK.
func plainOrEmpty(s string) string {
	if len(s) > maxParam || !isPlainText(s) {
		return ""
	}
	return s
}

// checkParam demands 1 to maxParam visible ASCII characters or spaces (RFC 6749,
// appendix A). It returns what is wrong, or "".
func checkParam(name, value string) string {
	switch {
	case value == "":
		return "no " + name
	case len(value) > maxParam:
		return name + " is too long"
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }):
		return name + " has impossible characters"
	}
	return ""
}

// checkScopes compares scopes with RFC 6749, section 3.3:
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
