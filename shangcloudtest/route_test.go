package shangcloudtest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

// The server runs with TLS and below a path.
func TestServerBelowPath(t *testing.T) {
	s := populate(shangcloudtest.New())
	mux := http.NewServeMux()
	mux.Handle("/staging/", http.StripPrefix("/staging", s))
	ts := httptest.NewTLSServer(mux)
	defer ts.Close()
	resp, err := ts.Client().PostForm(ts.URL+"/staging/oauth/device_authorization", url.Values{"client_id": {publicClient}})
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, ts.URL+"/staging/device", answer{body: string(body)}.value(t, "verification_uri"))
}

func TestHandle(t *testing.T) {
	s := platform(t)
	access, _ := s.Issue(webClient, uid, "mmo")
	userToken, _ := s.Issue(webClient, uid)
	say := func(what string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			u, ok := s.UserOf(r.Header.Get("Authorization"), "mmo") // the game rooms expect the token without a scheme
			body, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprint(w, what, " ", u.ID, " ", ok, " ", string(body))
		})
	}
	s.Handle("/api/mmo/", say("below"))
	s.Handle("/api/mmo/room/", say("rooms"))
	s.Handle("/api/mmo/room/new", say("new"))
	s.Handle("/api/user/info", say("instead"))
	post := func(path string) string {
		return send(t, "POST", s.URL+path, "{}", "Authorization", access).body
	}
	assert.Equal(t, "new 10001 true {}", post("/api/mmo/room/new"))
	assert.Equal(t, "rooms 10001 true {}", post("/api/mmo/room/join"))
	assert.Equal(t, "below 10001 true {}", post("/api/mmo/other"))
	assert.Equal(t, "instead 10001 true {}", post("/api/user/info"))
	s.Handle("/api/user/info", nil)
	assert.Equal(t, http.StatusOK, call(t, s, "/api/user/info", userToken, "{}").status)
	assert.Equal(t, "{}", string(s.Requests("/api/mmo/room/new")[0].Body))
}
