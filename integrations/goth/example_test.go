package gothshangcloud_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	gothshangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2/integrations/goth"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/gorilla/sessions"
	"github.com/markbates/goth"
	"github.com/markbates/goth/gothic"
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

// A login with gothic's handlers.
func Example() {
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()
	platform := demoPlatform(app.URL + "/auth/shangcloud/callback")
	defer platform.Close()

	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush",
		RedirectURL: app.URL + "/auth/shangcloud/callback",
		Endpoint:    shangcloud.EndpointAt(platform.URL), // leave out for ShangCloud itself
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	p := gothshangcloud.New(provider)
	goth.UseProviders(p)
	defer goth.ClearProviders()

	store := sessions.NewCookieStore([]byte("32 random bytes from your settings"))
	store.Options = &sessions.Options{
		Path: "/", MaxAge: 300, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: false, // true on https
	}
	gothic.Store = store

	mux.Handle("/auth/{provider}", p.BeginHandler(http.HandlerFunc(gothic.BeginAuthHandler)))
	mux.Handle("/auth/{provider}/callback", p.CallbackHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := gothic.CompleteUserAuth(w, r) // ErrAccessDenied of package oauth2login: the user refused
		if err != nil {
			http.Error(w, "not logged in", http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, "%s %s", user.UserID, user.NickName)
	})))

	// A browser follows the link to /auth/shangcloud.
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	res, err := browser.Get(app.URL + "/auth/shangcloud")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	page, _ := io.ReadAll(res.Body)
	fmt.Println(string(page))
	// Output: 10001 小明
}

// After a login, goth.User holds an access token and a refresh token. A token source
// manages both: it refreshes the access token when it is due, and saves the result if it
// has a store.
func ExampleProvider_RefreshToken() {
	platform := demoPlatform("https://app.example/auth/shangcloud/callback")
	defer platform.Close()
	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush",
		RedirectURL: "https://app.example/auth/shangcloud/callback",
		Endpoint:    shangcloud.EndpointAt(platform.URL),
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	access, refresh := platform.Issue("demo", 10001)
	user := goth.User{AccessToken: access, RefreshToken: refresh} // returned by CompleteUserAuth

	// RefreshToken refreshes at once. This uses up the old refresh token.
	tok, err := gothshangcloud.New(provider).RefreshToken(user.RefreshToken)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(tok.RefreshToken != user.RefreshToken)

	// A token source refreshes the token only when it is due. With provider.StoredTokens,
	// the source also saves the token.
	me, err := provider.API(provider.TokenSource(tok)).UserInfo(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(me.ID, me.Nickname)
	// Output:
	// true
	// 10001 小明
}
