package shangcloud_test

import (
	"testing"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// newPlatform starts a platform that knows the client "demo" and the user 10001, who
// approves of every login at once.
func newPlatform(t *testing.T) *shangcloudtest.Server {
	t.Helper()
	platform := shangcloudtest.NewServer(t)
	platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{"https://app.example/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明", Email: "ming@example.cn", AvatarURL: "https://example.cn/a.png"})
	platform.AutoApprove(10001)
	return platform
}

// config returns the configuration of newPlatform's client.
func config(baseURL string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: "https://app.example/callback",
		Endpoint: shangcloud.EndpointAt(baseURL),
	}
}

func newProvider(t *testing.T, platform *shangcloudtest.Server) *shangcloud.Provider {
	t.Helper()
	p, err := shangcloud.New(config(platform.URL), nil)
	require.NoError(t, err)
	return p
}

// newAPI returns an API client, and the platform that it calls. The client has a token of
// user 10001 with the scopes user:basic and var:io.
func newAPI(t *testing.T) (*shangcloud.API, *shangcloudtest.Server) {
	t.Helper()
	platform := newPlatform(t)
	access, _ := platform.Issue("demo", 10001, "user:basic", "var:io")
	return newProvider(t, platform).API(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: access})), platform
}
