package shangcloudtest

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// browserKey marks the requests of Approve and Deny in their context.
type browserKey struct{}

// Approve plays the user and the browser of a login: it opens the authorization
// URL, allows what the page asks for as uid, and returns the address that the
// browser is sent to, with the code in it. It needs no network, and AutoApprove
// and AutoDeny do not matter. Only the path and the query of authURL count.
//
// A request that the platform refuses by redirect, as for an unknown scope,
// gives an address too; one that it answers with an error page, an error.
func (s *Server) Approve(authURL string, uid int64) (callbackURL string, err error) {
	return s.browse(authURL, url.Values{"decision": {"allow"}, "user": {strconv.FormatInt(uid, 10)}})
}

// Deny is [Server.Approve], refusing.
func (s *Server) Deny(authURL string) (callbackURL string, err error) {
	return s.browse(authURL, url.Values{"decision": {"deny"}})
}

var (
	nonceField = regexp.MustCompile(`name="nonce" value="([^"]+)"`)
	detailText = regexp.MustCompile(`id="detail">([^<]*)<`)
)

func (s *Server) browse(authURL string, answer url.Values) (string, error) {
	u, err := url.Parse(authURL)
	if err != nil || !strings.HasSuffix(u.Path, "/oauth/authorize") {
		return "", errors.New("shangcloudtest: not an authorization URL") // it may hold a state: not shown
	}
	location, body, err := s.visit(http.MethodGet, "/oauth/authorize?"+u.RawQuery, "")
	if location != "" || err != nil {
		return location, err
	}
	nonce := nonceField.FindStringSubmatch(body)
	if nonce == nil {
		return "", errors.New("shangcloudtest: the answer is not a consent page")
	}
	answer.Set("nonce", nonce[1])
	location, _, err = s.visit(http.MethodPost, "/oauth/consent", answer.Encode())
	return location, err
}

// visit sends one request and returns where it redirects to, or else its page.
func (s *Server) visit(method, target, form string) (location, body string, err error) {
	ctx := context.WithValue(context.Background(), browserKey{}, true)
	req, err := http.NewRequestWithContext(ctx, method, inProcessURL+target, strings.NewReader(form))
	if err != nil {
		return "", "", errors.New("shangcloudtest: not an authorization URL")
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := s.Transport().RoundTrip(req)
	if err != nil {
		return "", "", fmt.Errorf("shangcloudtest: %w", err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "", fmt.Errorf("shangcloudtest: %w", err)
	}
	if location = resp.Header.Get("Location"); location != "" {
		return location, "", nil
	}
	if resp.StatusCode != http.StatusOK {
		detail := http.StatusText(resp.StatusCode)
		if found := detailText.FindSubmatch(page); found != nil {
			detail = html.UnescapeString(string(found[1]))
		}
		return "", "", fmt.Errorf("shangcloudtest: status %d: %s", resp.StatusCode, detail)
	}
	return "", string(page), nil
}
