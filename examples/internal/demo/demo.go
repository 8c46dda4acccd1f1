// Package demo runs a stand-in for ShangCloud inside the example programs, for readers
// without an account.
package demo

import (
	"cmp"
	"crypto/rand"
	"embed"
	"net/http"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"golang.org/x/oauth2"
)

//go:embed avatars/*.svg
var avatars embed.FS

// Avatars serves the pictures of People.
var Avatars http.Handler = http.FileServerFS(avatars)

// People are made-up users. AvatarURL is a path that Avatars serves. Some users have no
// picture.
var People = []shangcloudtest.User{
	{ID: 10001, Nickname: "林小满", Email: "xiaoman@example.com", AvatarURL: "/avatars/10001.svg"},
	{ID: 10002, Nickname: "Ada King", Email: "ada@example.com", AvatarURL: "/avatars/10002.svg"},
	{ID: 10003, Nickname: "Søren O’Neill", Email: "soren@example.com"},
}

// Start starts a platform with the users of People and the application of conf. In conf,
// it sets the endpoint and the secret. It also sets the client ID if that is empty.
func Start(conf *oauth2.Config) (*shangcloudtest.Server, error) {
	platform, err := shangcloudtest.Start("")
	if err != nil {
		return nil, err
	}
	conf.ClientID, conf.ClientSecret = cmp.Or(conf.ClientID, "demo"), rand.Text()
	conf.Endpoint = shangcloud.EndpointAt(platform.URL)
	platform.AddClient(shangcloudtest.Client{ID: conf.ClientID, Secret: conf.ClientSecret, RedirectURIs: []string{conf.RedirectURL}})
	platform.Handle("/avatars/", Avatars)
	for _, u := range People {
		if u.AvatarURL != "" {
			u.AvatarURL = platform.URL + u.AvatarURL
		}
		platform.AddUser(u)
		platform.SetVariable(u.ID, "greeting", "你好，世界\nHello, world")
	}
	return platform, nil
}
