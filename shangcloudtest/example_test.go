package shangcloudtest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

// A complete login with golang.org/x/oauth2 alone. In a test, use NewServer(t) instead of
// Start and Close.
func Example() {
	platform, err := shangcloudtest.Start("")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer platform.Close()
	platform.AddClient(shangcloudtest.Client{
		ID:           "demo-client",
		Secret:       "demo-secret",
		RedirectURIs: []string{"http://127.0.0.1:8080/oauth/callback"},
	})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小云", Email: "yun@example.com"})

	conf := &oauth2.Config{
		ClientID:     "demo-client",
		ClientSecret: "demo-secret",
		RedirectURL:  "http://127.0.0.1:8080/oauth/callback",
		Scopes:       []string{"user:basic"},
		Endpoint: oauth2.Endpoint{
			AuthURL:   platform.URL + "/oauth/authorize",
			TokenURL:  platform.URL + "/oauth/token",
			AuthStyle: oauth2.AuthStyleInHeader,
		},
	}

	// The user allows the login, and the browser returns with a code.
	back, err := platform.Approve(conf.AuthCodeURL("state-1"), 10001)
	if err != nil {
		fmt.Println(err)
		return
	}
	u, _ := url.Parse(back)
	fmt.Println(u.Path, u.Query().Get("state"))

	ctx := context.Background()
	token, err := conf.Exchange(ctx, u.Query().Get("code"))
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := conf.Client(ctx, token).Post(platform.URL+"/api/user/info", "application/json", strings.NewReader("{}"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)

	for _, r := range platform.Requests() {
		fmt.Println(r)
	}
	// Output:
	// /oauth/callback state-1
	// 200 OK
	// GET /oauth/authorize
	// POST /oauth/consent
	// POST /oauth/token
	// POST /api/user/info
}

// The first answer is lost after the platform has handled the request. The second answer
// is an error.
func ExampleServer_Fault() {
	platform := shangcloudtest.New()
	defer platform.Close()
	platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Process: true, Drop: true})
	platform.Fault("/api/user/info", shangcloudtest.Fault{Times: 1, Status: http.StatusServiceUnavailable})

	client := &http.Client{Transport: platform.Transport()}
	for range 3 {
		resp, err := client.Post(platform.URL+"/api/user/info", "application/json", strings.NewReader("{}"))
		if err != nil {
			fmt.Println("no answer")
			continue
		}
		fmt.Println(resp.StatusCode)
		_ = resp.Body.Close()
	}
	// Output:
	// no answer
	// 503
	// 401
}
