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

// browserKey is the context key of the requests that Approve and Deny send.
type browserKey struct{}

// Approve plays the user and the browser of a login. It opens the authorization URL and
// allows the request as the user uid. Then the platform redirects the browser to the
// application, and Approve returns the URL of this redirect, which contains the code.
// Approve needs no network and ignores AutoApprove and AutoDeny. It uses only the path and
// the query of authURL.
//
// The platform may refuse the request with a redirect, for example because of an unknown
// scope. Then Approve returns the URL of that redirect. If the platform shows an error
// page, Approve returns an error.
func (s *Server) Approve(authURL string, uid int64) (callbackURL string, err error) {
	return s.browse(authURL, url.Values{"decision": {"allow"}, "user": {strconv.FormatInt(uid, 10)}})
}

// Deny is like [Server.Approve], but the user denies the request.
func (s *Server) Deny(authURL string) (callbackURL string, err error) {
	return s.browse(authURL, url.Values{"decision": {"deny"}})
}

var (
	nonceField = regexp.MustCompile(`name="nonce" value="([^"]+)"`)
	detailText = regexp.MustCompile(`id="detail">([^<]*)<`)
)

// browse opens the authorization URL and submits the answer on the consent page.
func (s *Server) browse(authURL string, answer url.Values) (string, error) {
	u, err := url.Parse(authURL)
	if err != nil || !strings.HasSuffix(u.Path, "/oauth/authorize") {
		return "", errors.New("shangcloudtest: not an authorization URL") // not quoted: it may contain a state
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

// visit sends one request. It returns the Location of a redirect, or the page.
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
