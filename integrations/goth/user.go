package gothshangcloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/markbates/goth"
	"golang.org/x/oauth2"
)

// FetchUser asks ShangCloud who logged in. It needs [shangcloud.ScopeUserBasic].
//
// UserID is the user's ID in decimal. Name and NickName are both the nickname. RawData is
// the platform's answer, with two changes. The ID is an int64, because a float64 could
// round it. Null members are left out, because encoding/gob, the format of gorilla's
// sessions, refuses them.
//
// FetchUser returns an error if the session has not been authorized, or if the answer
// contains no user ID. Other errors are those of [shangcloud.API.UserInfo]. With every
// error, the returned user is the zero value, without tokens.
func (p *Provider) FetchUser(session goth.Session) (goth.User, error) {
	s, ok := session.(*Session)
	if !ok || s == nil {
		return goth.User{}, errors.New("shangcloud: goth: the session is another provider's")
	}
	tok := s.token.Load()
	if tok == nil {
		return goth.User{}, errors.New("shangcloud: goth: no access token: the session has not been authorized")
	}
	info, raw, err := p.userInfo(context.Background(), tok)
	if err != nil {
		return goth.User{}, err
	}
	return goth.User{
		Provider:     p.Name(),
		UserID:       strconv.FormatInt(info.ID, 10),
		Name:         info.Nickname,
		NickName:     info.Nickname,
		Email:        info.Email,
		AvatarURL:    info.AvatarURL,
		RawData:      raw,
		AccessToken:  tok.AccessToken,
		RefreshToken: tok.RefreshToken,
		ExpiresAt:    tok.Expiry,
	}, nil
}

// userInfo returns the result of [shangcloud.API.UserInfo], and the answer's JSON object
// with all of its members.
func (p *Provider) userInfo(ctx context.Context, tok *oauth2.Token) (*shangcloud.UserInfo, map[string]any, error) {
	client := p.p.Client(oauth2.StaticTokenSource(tok))
	t := &tap{base: client.Transport, to: p.base}
	client.Transport = t
	info, err := shangcloud.NewAPI(client).UserInfo(ctx)
	if err != nil {
		return nil, nil, err
	}
	var raw map[string]any
	if err := json.Unmarshal(t.body.Bytes(), &raw); err != nil {
		return nil, nil, fmt.Errorf("shangcloud: goth: user info: %w", oauth2login.ErrUnavailable)
	}
	maps.DeleteFunc(raw, func(_ string, v any) bool { return v == nil })
	raw["uid"] = info.ID
	return info, raw, nil
}

// tap is a transport for one request. It sends the request to the deployment whose base
// URL is t.to, and records the answer's body.
type tap struct {
	base http.RoundTripper
	to   string
	body bytes.Buffer
}

func (t *tap) RoundTrip(req *http.Request) (*http.Response, error) {
	u, err := url.Parse(t.to + req.URL.Path)
	if err != nil {
		return nil, err // impossible: shangcloud.New has checked the URL
	}
	out := *req
	out.URL, out.Host = u, u.Host
	res, err := t.base.RoundTrip(&out)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.TeeReader(res.Body, &t.body), res.Body}
	return res, nil
}
