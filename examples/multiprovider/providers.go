package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/endpoints"
)

// user is what a provider says of a person.
type user struct {
	Subject string // who it is, to this provider: never empty, never another person's

	// To be shown, and for nothing else; each may be empty. A mail address is
	// no proof of who somebody is: providers have different ideas of when one
	// is verified, and addresses change hands.
	Name, Mail, Avatar string
}

// provider is a row of the table: all that the login knows about one.
type provider struct {
	ID     string // in paths and in the key of every identity: it can never change
	Name   string
	Config oauth2.Config
	API    string // what User asks

	// User asks who has signed in. hc authorizes its requests.
	User func(ctx context.Context, hc *http.Client, api string) (user, error)

	Options []oauth2login.ProviderOption // what is special about the provider

	StandIn bool // it is in this process; see standin.go
	login   *oauth2login.Provider
}

// table is all that tells the providers apart.
func table() []*provider {
	return []*provider{
		{
			ID: "github", Name: "GitHub",
			Config: oauth2.Config{Endpoint: endpoints.GitHub}, // the public profile needs no scope
			API:    "https://api.github.com/user",
			User: func(ctx context.Context, hc *http.Client, api string) (user, error) {
				var u struct {
					ID                 int64
					Login, Name, Email string
					Avatar             string `json:"avatar_url"`
				}
				if err := getJSON(ctx, hc, api, &u); err != nil || u.ID <= 0 {
					return user{}, cmp.Or(err, errNoSubject)
				}
				return user{strconv.FormatInt(u.ID, 10), cmp.Or(u.Name, u.Login), u.Email, u.Avatar}, nil
			},
		},
		{
			ID: "google", Name: "Google",
			Config:  oauth2.Config{Endpoint: endpoints.Google, Scopes: []string{"openid", "profile", "email"}},
			API:     "https://openidconnect.googleapis.com/v1/userinfo",
			Options: []oauth2login.ProviderOption{oauth2login.WithIssuer("https://accounts.google.com")},
			User: func(ctx context.Context, hc *http.Client, api string) (user, error) {
				var u struct{ Sub, Name, Email, Picture string }
				if err := getJSON(ctx, hc, api, &u); err != nil || u.Sub == "" {
					return user{}, cmp.Or(err, errNoSubject)
				}
				return user{u.Sub, u.Name, u.Email, u.Picture}, nil
			},
		},
		{
			ID: "shangcloud", Name: "ShangCloud",
			Config:  oauth2.Config{Endpoint: shangcloud.Endpoint, Scopes: []string{shangcloud.ScopeUserBasic}},
			API:     shangcloud.DefaultBaseURL,
			Options: []oauth2login.ProviderOption{oauth2login.WithRawBasicAuth(), oauth2login.WithAssumedLifetime(time.Hour)}, // as shangcloud.New has it
			User: func(ctx context.Context, hc *http.Client, api string) (user, error) {
				u, err := shangcloud.NewAPI(hc, shangcloud.WithBaseURL(api)).UserInfo(ctx)
				if err != nil {
					return user{}, err
				}
				return user{strconv.FormatInt(u.ID, 10), u.Nickname, u.Email, u.AvatarURL}, nil
			},
		},
	}
}

var errNoSubject = errors.New("the answer does not say who the user is")

// maxUser is far more than any of these answers has.
const maxUser = 1 << 20

func getJSON(ctx context.Context, hc *http.Client, url string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxUser)).Decode(v)
}

// configure fills in what differs from one deployment to the next. home is where
// browsers reach this application. A row without settings stays without a ClientID.
func configure(rows []*provider, home string, getenv func(string) string) error {
	for _, p := range rows {
		// One redirect URL for each provider, so that the answer of one is not
		// taken for that of another (RFC 9700, section 2.1: "mix-up").
		p.Config.RedirectURL = home + "/callback/" + p.ID

		id, secret := strings.ToUpper(p.ID)+"_CLIENT_ID", strings.ToUpper(p.ID)+"_CLIENT_SECRET"
		p.Config.ClientID, p.Config.ClientSecret = getenv(id), getenv(secret)
		if (p.Config.ClientID == "") != (p.Config.ClientSecret == "") {
			return fmt.Errorf("set both %s and %s, or neither for a stand-in", id, secret)
		}
		if base := getenv("SHANGCLOUD_BASE_URL"); p.ID == "shangcloud" && base != "" {
			if p.Config.ClientID == "" {
				return fmt.Errorf("SHANGCLOUD_BASE_URL is set, but %s is not", id)
			}
			if !secure(base) {
				return errors.New("SHANGCLOUD_BASE_URL has to be an https URL")
			}
			p.Config.Endpoint, p.API = shangcloud.EndpointAt(base), base
		}
	}
	return nil
}

// secure reports whether what is sent to s stays secret: to another machine over
// https only.
func secure(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Hostname() != "" && u.User == nil &&
		(u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()))
}

// origin is the scheme and the host of a URL.
func origin(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
