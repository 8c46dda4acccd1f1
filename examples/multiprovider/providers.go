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

// user is a provider's description of a person.
type user struct {
	Subject string // the user's ID at this provider: never empty, never reused for another person

	// These fields are for display only; each may be empty. A mail address does not prove
	// who somebody is: providers verify it in different ways, and addresses change hands.
	Name, Mail, Avatar string
}

// provider is a row of the table. It has all that the login needs to know about a
// provider.
type provider struct {
	ID     string // in paths and in the key of every identity: never change it
	Name   string
	Config oauth2.Config
	API    string // base URL for User

	// User asks the provider who has signed in. hc authorizes its requests.
	User func(ctx context.Context, hc *http.Client, api string) (user, error)

	Options []oauth2login.ProviderOption // special cases of this provider

	StandIn bool // whether a stand-in in this process plays the provider; see standin.go
	login   *oauth2login.Provider
}

// table contains everything that differs between the providers.
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
			Options: []oauth2login.ProviderOption{oauth2login.WithRawBasicAuth(), oauth2login.WithAssumedLifetime(time.Hour)}, // the same options as in shangcloud.New
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

// maxUser limits the size of a provider's answer. No provider sends nearly as much.
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

// configure sets what depends on the deployment. home is the address of this application
// for browsers. A row without settings keeps an empty ClientID.
func configure(rows []*provider, home string, getenv func(string) string) error {
	for _, p := range rows {
		// Each provider has a separate redirect URL. So the answer of one provider is not
		// mistaken for that of another (RFC 9700, section 2.1: "mix-up").
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

// secure reports whether data sent to the address s stays secret: s is https or on a
// loopback host.
func secure(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Hostname() != "" && u.User == nil &&
		(u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()))
}

// origin returns the scheme and the host of a URL.
func origin(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
