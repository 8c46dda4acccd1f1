package shangcloudtest_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

func TestClientAuthentication(t *testing.T) {
	s := platform(t)
	const odd, oddSecret = "应用:a b", "p+/=%:é"
	s.AddClient(shangcloudtest.Client{ID: odd, Secret: oddSecret, RedirectURIs: []string{callback}})
	form := func(more ...string) string {
		v := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"none"}}
		for i := 0; i < len(more); i += 2 {
			v.Add(more[i], more[i+1])
		}
		return v.Encode()
	}
	for name, row := range map[string]struct {
		body   string
		header []string
		want   string // invalid_grant: the authentication succeeded
	}{
		"Basic header":              {form(), []string{basic(webClient, webSecret)}, "invalid_grant"},
		"special characters":        {form(), []string{basic(odd, oddSecret)}, "invalid_grant"},
		"header and client_id":      {form("client_id", webClient), []string{basic(webClient, webSecret)}, "invalid_grant"},
		"public client":             {form("client_id", publicClient), nil, "invalid_grant"},
		"percent-encoded":           {form(), []string{basic(url.QueryEscape(odd), url.QueryEscape(oddSecret))}, "invalid_client"},
		"wrong secret":              {form(), []string{basic(webClient, "other")}, "invalid_client"},
		"unknown client":            {form(), []string{basic("nobody", webSecret)}, "invalid_client"},
		"truncated header":          {form(), []string{basic(odd, oddSecret)[:20]}, "invalid_client"},
		"two headers":               {form(), []string{basic(webClient, webSecret), basic(webClient, webSecret)}, "invalid_client"},
		"empty header":              {form("client_id", publicClient), []string{""}, "invalid_client"},
		"secret in the body":        {form("client_id", webClient, "client_secret", webSecret), nil, "invalid_client"},
		"secret in header and body": {form("client_secret", webSecret), []string{basic(webClient, webSecret)}, "invalid_client"},
		"confidential, no header":   {form("client_id", webClient), nil, "invalid_client"},
		"public, with header":       {form("client_id", publicClient), []string{basic(publicClient, "")}, "invalid_client"},
		"no credentials":            {form(), nil, "invalid_client"},
		"another client_id":         {form("client_id", odd), []string{basic(webClient, webSecret)}, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			headers := []string{"Content-Type", formType}
			for _, h := range row.header {
				headers = append(headers, "Authorization", h)
			}
			a := send(t, "POST", s.URL+"/oauth/token", row.body, headers...)
			assert.Equal(t, row.want, a.value(t, "error"))
			assert.Equal(t, row.want == "invalid_client", a.status == http.StatusUnauthorized)
			assert.Equal(t, row.want == "invalid_client", a.header.Get("WWW-Authenticate") != "")
			assert.Equal(t, "no-store", a.header.Get("Cache-Control"))
		})
	}

	s.AddClient(shangcloudtest.Client{ID: webClient, Secret: "new", RedirectURIs: []string{callback}})
	assert.Equal(t, http.StatusUnauthorized, redeem(t, s, url.Values{"grant_type": {"x"}}).status, "AddClient changed the secret")
	a := send(t, "POST", s.URL+"/oauth/token", form(), "Content-Type", formType, "Authorization", basic(webClient, "new"))
	assert.Equal(t, "invalid_grant", a.value(t, "error"))
}
