package shangcloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

// assumedLifetime is the lifetime of a token if the platform sends no expires_in. The
// platform most likely sends it: the reference clients need a numeric expires_in.
const assumedLifetime = time.Hour

// Provider logs the users of one application in with ShangCloud, and gives access to the
// API. It extends [oauth2login.Provider]. [New] makes it. A program makes one Provider and
// keeps it. It is safe for concurrent use.
type Provider struct {
	*oauth2login.Provider
	baseURL string
}

// New makes a Provider from a copy of conf. shared may be nil. If conf has no Endpoint, New
// uses [Endpoint]. If conf has no Scopes, New uses [ScopeUserBasic]. For another
// deployment, set the Endpoint with [EndpointAt]. An error names the field that is wrong.
//
// New makes two settings for the platform. It sends the client ID and the secret in HTTP
// Basic without percent-encoding, the only form that ShangCloud is known to accept. It
// assumes a lifetime of one hour if the platform sends none. Options in row override both
// settings. For everything else see [oauth2login.New].
func New(conf *oauth2.Config, shared *oauth2login.Options, row ...oauth2login.ProviderOption) (*Provider, error) {
	if conf == nil {
		return nil, errors.New("shangcloud: the oauth2.Config is nil")
	}
	c := *conf
	if c.Endpoint == (oauth2.Endpoint{}) {
		c.Endpoint = Endpoint
	}
	if len(c.Scopes) == 0 {
		c.Scopes = []string{ScopeUserBasic}
	}
	baseURL, ok := strings.CutSuffix(c.Endpoint.TokenURL, tokenPath)
	if !ok {
		return nil, errors.New("shangcloud: Endpoint.TokenURL is not that of a ShangCloud deployment; use EndpointAt")
	}
	quirks := []oauth2login.ProviderOption{oauth2login.WithRawBasicAuth(), oauth2login.WithAssumedLifetime(assumedLifetime)}
	p, err := oauth2login.New(&c, shared, slices.Concat(quirks, row)...)
	if err != nil {
		return nil, fmt.Errorf("shangcloud: %w", err)
	}
	return &Provider{p, baseURL}, nil
}

// API returns a client of the deployment's API. The client sends the tokens of src.
func (p *Provider) API(src oauth2.TokenSource) *API {
	return &API{http: p.Client(src, p.baseURL), base: p.baseURL}
}

// StartLogin sends the browser to ShangCloud: see [oauth2login.Provider.StartLogin].
func (p *Provider) StartLogin(w http.ResponseWriter, r *http.Request, opts ...oauth2login.LoginOption) error {
	return p.Provider.StartLogin(w, r, opts...)
}

// FinishLogin handles the browser's return: see [oauth2login.Provider.FinishLogin].
func (p *Provider) FinishLogin(w http.ResponseWriter, r *http.Request) (*oauth2login.Login, error) {
	return p.Provider.FinishLogin(w, r)
}

// DeviceLogin logs a user in with a code on another device: see
// [oauth2login.Provider.DeviceLogin]. The platform's game clients use it as public
// clients. It is unknown whether a client with a secret may use it.
func (p *Provider) DeviceLogin(ctx context.Context, prompt func(*oauth2.DeviceAuthResponse) error) (*oauth2login.Login, error) {
	return p.Provider.DeviceLogin(ctx, prompt)
}
