package shangcloudtest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
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

// A test of an application's own handlers. The login handler redirects to an authorization
// URL, and the test passes this URL to Approve. Then the test sends the URL that Approve
// returns to the callback handler, with the cookies that the login handler has set.
func ExampleServer_Approve() {
	platform := shangcloudtest.New() // NewServer(t) in a test
	defer platform.Close()
	platform.AddClient(shangcloudtest.Client{ID: "app", Secret: "s3cret", RedirectURIs: []string{"https://app.example/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小云"})
	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "app", ClientSecret: "s3cret", RedirectURL: "https://app.example/callback",
		Endpoint: shangcloud.EndpointAt(platform.URL),
	}, &oauth2login.Options{HTTPClient: &http.Client{Transport: platform.Transport()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	app := http.NewServeMux() // the application under test
	app.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		_ = provider.StartLogin(w, r, oauth2login.WithReturnTo("/album"))
	})
	app.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		login, err := provider.FinishLogin(w, r)
		if err != nil {
			http.Error(w, "not logged in", http.StatusForbidden)
			return
		}
		http.Redirect(w, r, login.ReturnTo, http.StatusSeeOther)
	})

	for _, answer := range []func(authURL string) (string, error){
		func(authURL string) (string, error) { return platform.Approve(authURL, 10001) },
		platform.Deny,
	} {
		start, end := httptest.NewRecorder(), httptest.NewRecorder()
		app.ServeHTTP(start, httptest.NewRequest("GET", "/login", nil))
		back, err := answer(start.Header().Get("Location"))
		if err != nil {
			fmt.Println(err)
			return
		}
		callback := httptest.NewRequest("GET", back, nil)
		for _, cookie := range start.Result().Cookies() {
			callback.AddCookie(cookie)
		}
		app.ServeHTTP(end, callback)
		fmt.Println(end.Code, end.Header().Get("Location"))
	}
	// Output:
	// 303 /album
	// 403
}

// An expired token is refreshed. After the user has revoked the token, only a new login
// helps.
func ExampleServer_Revoke() {
	platform := shangcloudtest.New()
	defer platform.Close()
	platform.AddClient(shangcloudtest.Client{ID: "app", Secret: "s3cret", RedirectURIs: []string{"https://app.example/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小云"})
	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "app", ClientSecret: "s3cret", RedirectURL: "https://app.example/callback",
		Endpoint: shangcloud.EndpointAt(platform.URL),
	}, &oauth2login.Options{HTTPClient: &http.Client{Transport: platform.Transport()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	access, refresh := platform.Issue("app", 10001) // the tokens of a login
	api := provider.API(provider.TokenSource(&oauth2.Token{AccessToken: access, RefreshToken: refresh}))
	ctx := context.Background()

	platform.ExpireTokens()
	user, err := api.UserInfo(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(user.Nickname)

	platform.Revoke(10001)
	_, err = api.UserInfo(ctx)
	fmt.Println(errors.Is(err, oauth2login.ErrLoginRequired))
	// Output:
	// 小云
	// true
}
