package shangcloud_test

import (
	"testing"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/stretchr/testify/assert"
	"golang.org/x/oauth2"
)

func TestEndpoint(t *testing.T) {
	want := oauth2.Endpoint{
		AuthURL:       "https://api.yearnstudio.cn/oauth/authorize",
		TokenURL:      "https://api.yearnstudio.cn/oauth/token",
		DeviceAuthURL: "https://api.yearnstudio.cn/oauth/device_authorization",
		AuthStyle:     oauth2.AuthStyleInHeader,
	}
	assert.Equal(t, want, shangcloud.Endpoint)
	assert.Equal(t, want, shangcloud.EndpointAt("https://api.yearnstudio.cn/"))
	assert.Equal(t, "http://127.0.0.1:1/below/oauth/token", shangcloud.EndpointAt("http://127.0.0.1:1/below").TokenURL)
}
