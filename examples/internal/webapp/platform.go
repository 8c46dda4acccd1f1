package webapp

import (
	"embed"
	"net/http"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

//go:embed avatars/*.svg
var avatars embed.FS

// startDemoPlatform starts a platform in this process, registers the application
// there, and fills in the rest of config.
func startDemoPlatform(config *settings) (*shangcloudtest.Server, error) {
	platform, err := shangcloudtest.Start("")
	if err != nil {
		return nil, err
	}
	config.baseURL = platform.URL
	config.ClientID = "weblogin"
	config.ClientSecret = "no secret: the platform is in this process"
	platform.AddClient(shangcloudtest.Client{
		ID:           config.ClientID,
		Secret:       config.ClientSecret,
		RedirectURIs: []string{config.RedirectURL},
	})

	platform.Handle("/avatars/", http.FileServerFS(avatars))
	for _, u := range []shangcloudtest.User{
		{ID: 10001, Nickname: "林小满", Email: "xiaoman@example.com", AvatarURL: platform.URL + "/avatars/10001.svg"},
		{ID: 10002, Nickname: "Ada King", Email: "ada@example.com", AvatarURL: platform.URL + "/avatars/10002.svg"},
		{ID: 10003, Nickname: "Søren O’Neill", Email: "soren@example.com"}, // no avatar
	} {
		platform.AddUser(u)
		platform.SetVariable(u.ID, "greeting", "你好，世界\nHello, world")
	}
	return platform, nil
}
