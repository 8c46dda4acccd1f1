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
	"strconv"
	"strings"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"golang.org/x/oauth2"
)

// demoProvider is the application of demoPlatform.
func demoProvider(platform *shangcloudtest.Server, redirectURL string) *shangcloud.Provider {
	provider, err := shangcloud.New(shangcloud.Config{
		ClientID: "demo", ClientSecret: "hush-hush",
		RedirectURL: redirectURL,
		BaseURL:     platform.URL, // leave out for ShangCloud itself
	})
	if err != nil {
		log.Fatal(err)
	}
	return provider
}

// greet is service code: all it gets is an HTTP client. It knows nothing of tokens.
func greet(ctx context.Context, hc *http.Client, baseURL string) (string, error) {
	user, err := shangcloud.NewAPI(hc, shangcloud.WithBaseURL(baseURL)).UserInfo(ctx)
	if err != nil {
		return "", err
	}
	return "Hello, " + user.Nickname, nil
}

// Service code that gets only an *http.Client: one that carries the user's token,
// refreshes it, and sends it to ShangCloud only.
func ExampleProvider_Client() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	provider := demoProvider(platform, "https://app.example/callback")
	access, refresh := platform.Issue("demo", 10001)
	src := provider.TokenSource(&oauth2.Token{AccessToken: access, RefreshToken: refresh}, nil)

	hc := provider.Client(src)
	fmt.Println(greet(context.Background(), hc, platform.URL))

	platform.ExpireTokens() // the client gets a new one by itself
	fmt.Println(greet(context.Background(), hc, platform.URL))

	_, err := hc.Get("https://api.other.example/")
	fmt.Println(err != nil) // nothing was sent
	// Output:
	// Hello, 小明 <nil>
	// Hello, 小明 <nil>
	// true
}

// Asking for more later: the first login asks who the user is, and only who turns
// on a feature is asked for the cloud variables.
//
// The new token takes the place of the old one, so it is asked for with the old
// scopes too; and it may be another user's, who is signed in to ShangCloud by now.
func ExampleWithScopes() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	provider := demoProvider(platform, "https://app.example/callback")
	ctx := context.Background()

	// The session of a user who has logged in with ScopeUserBasic.
	const sessionUID = 10001
	access, refresh := platform.Issue("demo", sessionUID, shangcloud.ScopeUserBasic)
	src := provider.TokenSource(&oauth2.Token{AccessToken: access, RefreshToken: refresh}, nil)
	api := provider.API(src)

	_, err := api.Variable(ctx, "theme")
	var refused *shangcloud.APIError
	fmt.Println(errors.As(err, &refused) && refused.StatusCode == http.StatusForbidden)

	enable := func(w http.ResponseWriter, r *http.Request) {
		err := provider.StartLogin(w, r,
			shangcloud.WithScopes(shangcloud.ScopeUserBasic, shangcloud.ScopeVariables),
			shangcloud.WithReturnTo("/settings"))
		if err != nil {
			http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
		}
	}
	callback := func(w http.ResponseWriter, r *http.Request) {
		login, err := provider.FinishLogin(w, r)
		if err != nil {
			http.Error(w, "not enabled", http.StatusForbidden) // the old token is as good as before
			return
		}
		user, err := provider.API(oauth2.StaticTokenSource(login.Token)).UserInfo(r.Context())
		if err != nil || user.ID != sessionUID {
			http.Error(w, "please sign in as the same user", http.StatusForbidden)
			return
		}
		if err := src.SetToken(r.Context(), login.Token); err != nil {
			log.Print(err) // in force all the same, and saved later
		}
		http.Redirect(w, r, login.ReturnTo, http.StatusSeeOther)
	}

	start := httptest.NewRecorder()
	enable(start, httptest.NewRequest("GET", "/enable", nil))
	back := userAgrees(platform, start.Header().Get("Location"))
	for _, c := range start.Result().Cookies() {
		back.AddCookie(c)
	}
	end := httptest.NewRecorder()
	callback(end, back)
	fmt.Println(end.Code, end.Header().Get("Location"))

	fmt.Println(api.SetVariable(ctx, "theme", "dark")) // the same api, with the new token
	// Output:
	// true
	// 303 /settings
	// <nil>
}

// A registry that runs the login itself and asks a function who the user is, as
// github.com/volatiletech/authboss/v3 does:
//
//	config.Modules.OAuth2Providers["shangcloud"] = authboss.OAuth2Provider{
//		OAuth2Config: &oauth2.Config{Endpoint: shangcloud.Endpoint, …},
//		FindUserDetails: findUserDetails,
//	}
//
// State and exchange are the registry's: what this package guarantees of them holds
// for a Provider only.
func Example_findUserDetails() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()

	findUserDetails := func(ctx context.Context, conf oauth2.Config, tok *oauth2.Token) (map[string]string, error) {
		base := strings.TrimSuffix(conf.Endpoint.TokenURL, "/oauth/token")
		user, err := shangcloud.NewAPI(conf.Client(ctx, tok), shangcloud.WithBaseURL(base)).UserInfo(ctx)
		if err != nil {
			return nil, err
		}
		// The mail address is no key: whether it is verified is unknown.
		return map[string]string{"uid": strconv.FormatInt(user.ID, 10), "name": user.Nickname, "email": user.Email}, nil
	}

	conf := oauth2.Config{ClientID: "demo", ClientSecret: "hush-hush", Endpoint: shangcloud.EndpointAt(platform.URL)}
	access, _ := platform.Issue("demo", 10001)
	fmt.Println(findUserDetails(context.Background(), conf, &oauth2.Token{AccessToken: access}))
	// Output: map[email:ming@example.cn name:小明 uid:10001] <nil>
}

// loginHandlers is what a registry of login handlers wants of each provider: the
// interface provider.Provider of github.com/go-pkgz/auth/v2, for one, whose
// AddCustomHandler takes it.
type loginHandlers interface {
	Name() string
	LoginHandler(w http.ResponseWriter, r *http.Request)
	AuthHandler(w http.ResponseWriter, r *http.Request)
	LogoutHandler(w http.ResponseWriter, r *http.Request)
}

// shangcloudHandlers is ShangCloud in such a registry. The session is the registry's:
// signIn makes one, with go-pkgz/auth by TokenService.Set, and signOut ends it.
type shangcloudHandlers struct {
	provider *shangcloud.Provider
	signIn   func(w http.ResponseWriter, r *http.Request, user *shangcloud.UserInfo) error
	signOut  func(w http.ResponseWriter, r *http.Request)
}

var _ loginHandlers = (*shangcloudHandlers)(nil)

func (h *shangcloudHandlers) Name() string { return "shangcloud" }

func (h *shangcloudHandlers) LoginHandler(w http.ResponseWriter, r *http.Request) {
	if err := h.provider.StartLogin(w, r, shangcloud.WithReturnTo(r.FormValue("from"))); err != nil {
		http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
	}
}

func (h *shangcloudHandlers) AuthHandler(w http.ResponseWriter, r *http.Request) {
	login, err := h.provider.FinishLogin(w, r)
	if err != nil {
		http.Error(w, "not logged in", http.StatusForbidden)
		return
	}
	user, err := h.provider.API(oauth2.StaticTokenSource(login.Token)).UserInfo(r.Context())
	if err == nil {
		err = h.signIn(w, r, user)
	}
	if err != nil {
		http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
		return
	}
	http.Redirect(w, r, login.ReturnTo, http.StatusSeeOther)
}

func (h *shangcloudHandlers) LogoutHandler(w http.ResponseWriter, r *http.Request) {
	h.signOut(w, r)
}

// A registry that wants handlers, as github.com/go-pkgz/auth/v2 does: the login is this
// package's, with all it guarantees, and the session the registry's.
func Example_loginHandlers() {
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()
	redirectURL := app.URL + "/auth/shangcloud/callback"
	platform := demoPlatform(redirectURL)
	defer platform.Close()

	var handlers loginHandlers = &shangcloudHandlers{
		provider: demoProvider(platform, redirectURL),
		signIn: func(w http.ResponseWriter, _ *http.Request, user *shangcloud.UserInfo) error {
			id := "shangcloud_" + strconv.FormatInt(user.ID, 10)
			http.SetCookie(w, &http.Cookie{Name: "jwt", Value: id, Path: "/", HttpOnly: true}) // signed, in earnest
			return nil
		},
		signOut: func(w http.ResponseWriter, _ *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "jwt", Path: "/", MaxAge: -1})
		},
	}
	mux.HandleFunc("GET /auth/shangcloud/login", handlers.LoginHandler)
	mux.HandleFunc("GET /auth/shangcloud/callback", handlers.AuthHandler)
	mux.HandleFunc("POST /auth/shangcloud/logout", handlers.LogoutHandler)
	mux.HandleFunc("GET /album", func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie("jwt"); err == nil {
			fmt.Fprintf(w, "the album of %s", c.Value)
		}
	})

	jar, _ := cookiejar.New(nil)
	fmt.Println(get(&http.Client{Jar: jar}, app.URL+"/auth/shangcloud/login?from=/album"))
	// Output: the album of shangcloud_10001
}
