//go:build unported

package shangcloud_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"golang.org/x/oauth2"
)

// demoPlatform stands in for ShangCloud: it knows one application and one user,
// who approves of every login.
func demoPlatform(redirectURL string) *shangcloudtest.Server {
	platform, err := shangcloudtest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{redirectURL}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明", Email: "ming@example.cn"})
	platform.AutoApprove(10001)
	return platform
}

// userAgrees plays the user at the platform's page and returns the request that
// the browser comes back with.
func userAgrees(platform *shangcloudtest.Server, authURL string) *http.Request {
	callbackURL, err := platform.Approve(authURL, 10001)
	if err != nil {
		log.Fatal(err)
	}
	return httptest.NewRequest("GET", callbackURL, nil)
}

// A whole login on net/http. Any other router will do: StartLogin and FinishLogin
// take what every handler has.
func Example() {
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()
	platform := demoPlatform(app.URL + "/callback")
	defer platform.Close()

	provider, err := shangcloud.New(shangcloud.Config{
		ClientID:     "demo",
		ClientSecret: "hush-hush",
		RedirectURL:  app.URL + "/callback",
		BaseURL:      platform.URL, // leave out for ShangCloud itself
	})
	if err != nil {
		log.Fatal(err)
	}
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		if err := provider.StartLogin(w, r, shangcloud.WithReturnTo(r.FormValue("next"))); err != nil {
			http.Error(w, "login is not possible right now", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		login, err := provider.FinishLogin(w, r)
		if err != nil {
			http.Error(w, "not logged in", http.StatusForbidden)
			return
		}
		user, err := provider.API(provider.TokenSource(login.Token, nil)).UserInfo(r.Context())
		if err != nil {
			http.Error(w, "ShangCloud does not answer", http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, "%d %s, back to %s", user.ID, user.Nickname, login.ReturnTo)
	})

	// A browser follows the link to /login.
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	fmt.Println(get(browser, app.URL+"/login?next=/album"))
	// Output: 10001 小明, back to /album
}

func get(c *http.Client, address string) string {
	res, err := c.Get(address)
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	var body [1024]byte
	n, _ := res.Body.Read(body[:])
	return string(body[:n])
}

// Plain x/oauth2 with ShangCloud as one more endpoint. State, cookie and PKCE are
// the application's business here.
func ExampleEndpointAt() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	ctx := context.Background()

	conf := &oauth2.Config{
		ClientID:     "demo",
		ClientSecret: "hush-hush",
		RedirectURL:  "https://app.example/callback",
		Scopes:       []string{shangcloud.ScopeUserBasic, shangcloud.ScopeVariables},
		Endpoint:     shangcloud.EndpointAt(platform.URL), // or shangcloud.Endpoint
	}
	verifier := oauth2.GenerateVerifier()
	back := userAgrees(platform, conf.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)))
	tok, err := conf.Exchange(ctx, back.FormValue("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		log.Fatal(err)
	}

	api := shangcloud.NewAPI(conf.Client(ctx, tok), shangcloud.WithBaseURL(platform.URL))
	user, err := api.UserInfo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := api.SetVariable(ctx, "theme", "dark"); err != nil {
		log.Fatal(err)
	}
	theme, err := api.Variable(ctx, "theme")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(user.Nickname, theme)
	// Output: 小明 dark
}

// Several machines share a state store: a login that starts on one of them
// finishes on any other.
func ExampleConfig_states() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	shared := state.NewMemory(0) // any state.Store; one with a server behind it, in earnest

	machine := func() *shangcloud.Provider {
		p, err := shangcloud.New(shangcloud.Config{
			ClientID: "demo", ClientSecret: "hush-hush",
			RedirectURL: "https://app.example/callback",
			BaseURL:     platform.URL,
			States:      shared,
		})
		if err != nil {
			log.Fatal(err)
		}
		return p
	}
	one, two := machine(), machine()

	start := httptest.NewRecorder()
	if err := one.StartLogin(start, httptest.NewRequest("GET", "/login", nil)); err != nil {
		log.Fatal(err)
	}
	back := userAgrees(platform, start.Header().Get("Location"))
	for _, c := range start.Result().Cookies() {
		back.AddCookie(c)
	}
	login, err := two.FinishLogin(httptest.NewRecorder(), back)
	fmt.Println(login.Token.Valid(), err)

	_, err = one.FinishLogin(httptest.NewRecorder(), back)
	fmt.Println(errors.Is(err, shangcloud.ErrStateNotFound))
	// Output:
	// true <nil>
	// true
}

// A login without a browser at hand: the address goes to the user by other means.
func ExampleProvider_AuthCodeURL() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	provider, err := shangcloud.New(shangcloud.Config{
		ClientID: "demo", ClientSecret: "hush-hush",
		RedirectURL: "https://app.example/callback",
		BaseURL:     platform.URL,
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	authURL, err := provider.AuthCodeURL(ctx, shangcloud.WithScopes(shangcloud.ScopeVariables))
	if err != nil {
		log.Fatal(err)
	}

	// What comes back to https://app.example/callback has a state and a code.
	back := userAgrees(platform, authURL)
	tok, err := provider.Exchange(ctx, back.FormValue("state"), back.FormValue("code"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(tok.Valid(), time.Until(tok.Expiry) > 59*time.Minute)
	// Output: true true
}

// What FinishLogin's errors mean for the user.
func ExampleProvider_FinishLogin() {
	explain := func(err error) (status int, message string) {
		var refused *oauth2.RetrieveError
		switch {
		case errors.Is(err, shangcloud.ErrAccessDenied):
			return http.StatusForbidden, "You said no. That is fine."
		case errors.Is(err, shangcloud.ErrStateNotFound), errors.Is(err, shangcloud.ErrWrongBrowser):
			return http.StatusBadRequest, "This login is over. Please start again."
		case errors.Is(err, shangcloud.ErrUnavailable), errors.Is(err, shangcloud.ErrStateStore):
			return http.StatusServiceUnavailable, "Please try again in a minute."
		case errors.As(err, &refused):
			return http.StatusBadGateway, "ShangCloud refused the login."
		default:
			return http.StatusBadRequest, "This is not a login."
		}
	}
	fmt.Println(explain(&shangcloud.CallbackError{Code: "access_denied"}))
	fmt.Println(explain(shangcloud.ErrWrongBrowser))
	fmt.Println(explain(shangcloud.ErrBadCallback))
	// Output:
	// 403 You said no. That is fine.
	// 400 This login is over. Please start again.
	// 400 This is not a login.
}

func ExampleProvider_DeviceLogin() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	platform.Configure(func(s *shangcloudtest.Settings) { s.DeviceInterval = time.Second })
	provider, err := shangcloud.New(shangcloud.Config{
		ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: "https://app.example/callback", BaseURL: platform.URL,
	})
	if err != nil {
		log.Fatal(err)
	}

	tok, err := provider.DeviceLogin(context.Background(), func(d *oauth2.DeviceAuthResponse) error {
		fmt.Println("Open", strings.TrimPrefix(d.VerificationURI, platform.URL), "and enter a code of", len(d.UserCode), "characters.")
		return platform.ApproveDevice(d.UserCode, 10001) // in the example, the user is quick
	})
	switch {
	case errors.Is(err, shangcloud.ErrAccessDenied), errors.Is(err, shangcloud.ErrDeviceLoginExpired):
		fmt.Println("Not logged in.")
	case err != nil:
		log.Fatal(err)
	default:
		user, err := provider.API(provider.TokenSource(tok, nil)).UserInfo(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("Hello,", user.Nickname)
	}
	// Output:
	// Open /device and enter a code of 9 characters.
	// Hello, 小明
}
