package serve

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestStart(t *testing.T) {
	for name, c := range map[string]struct {
		conf           oauth2.Config
		home, redirect string // with the port that was free as PORT
	}{
		"demo":         {oauth2.Config{RedirectURL: "http://127.0.0.1:8080/callback"}, "http://127.0.0.1:PORT/", "http://127.0.0.1:PORT/callback"},
		"real":         {oauth2.Config{ClientID: "id", RedirectURL: "http://127.0.0.1:8080/callback"}, "http://127.0.0.1:PORT/", "http://127.0.0.1:PORT/callback"},
		"below a path": {oauth2.Config{RedirectURL: "http://127.0.0.1:8080/portal/callback"}, "http://127.0.0.1:PORT/portal/", "http://127.0.0.1:PORT/portal/callback"},
		"proxy":        {oauth2.Config{ClientID: "id", RedirectURL: "https://app.example/portal/callback"}, "https://app.example/portal/", "https://app.example/portal/callback"},
	} {
		t.Run(name, func(t *testing.T) {
			demo := c.conf.ClientID == ""
			s, err := start(&c.conf, "127.0.0.1:0")
			require.NoError(t, err)
			defer s.listener.Close()
			_, port, _ := strings.Cut(s.listener.Addr().String(), ":")
			assert.Equal(t, strings.Replace(c.home, "PORT", port, 1), s.home)
			assert.Equal(t, strings.Replace(c.redirect, "PORT", port, 1), s.Config.RedirectURL)
			assert.Equal(t, demo, s.platform != nil)
			if demo {
				defer s.platform.Close()
				assert.Equal(t, s.platform.URL+"/oauth/token", s.Config.Endpoint.TokenURL)
			} else {
				assert.Equal(t, "id", s.Config.ClientID)
				assert.Empty(t, s.Config.Endpoint, "shangcloud.New fills it in")
			}
		})
	}
}

func TestStartFails(t *testing.T) {
	s, err := start(&oauth2.Config{RedirectURL: "http://127.0.0.1:8080/callback"}, "127.0.0.1:0")
	require.NoError(t, err)
	defer s.listener.Close()
	defer s.platform.Close()
	for says, c := range map[string]struct {
		conf oauth2.Config
		addr string
	}{
		"SHANGCLOUD_CLIENT_ID is not set": {oauth2.Config{ClientSecret: "s3cret", RedirectURL: "http://127.0.0.1:8080/callback"}, "127.0.0.1:0"},
		"choose another address":          {oauth2.Config{RedirectURL: "http://127.0.0.1:8080/callback"}, s.listener.Addr().String()},
		"%zz":                             {oauth2.Config{RedirectURL: "http://%zz/"}, "127.0.0.1:0"},
	} {
		_, err := start(&c.conf, c.addr)
		require.ErrorContains(t, err, says)
		assert.NotContains(t, err.Error(), "s3cret")
	}
}

func TestHome(t *testing.T) {
	for target, says := range map[string]string{"/": "Sign in with ShangCloud", "/?done": "The login is done"} {
		w := httptest.NewRecorder()
		Home(w, httptest.NewRequest(http.MethodGet, target, nil))
		assert.Contains(t, w.Body.String(), says)
	}
}
