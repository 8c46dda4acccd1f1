package oauth2login_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/endpoints"
)

// exampleProvider starts a platform in this process, where secret is the client's secret.
// It returns the platform and a provider whose secret is "hush-hush".
func exampleProvider(secret string) (*shangcloudtest.Server, *oauth2login.Provider) {
	platform, err := shangcloudtest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: secret, RedirectURIs: []string{"https://app.example/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明"})
	provider, err := oauth2login.New(&oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush",
		RedirectURL: "https://app.example/callback",
		Endpoint:    shangcloud.EndpointAt(platform.URL), // or one of golang.org/x/oauth2/endpoints
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	return platform, provider
}

// Several providers. Each has its own configuration; common settings are in Options.
func ExampleNew() {
	shared := &oauth2login.Options{} // stores, time-outs, a logger
	table := make(map[string]*oauth2login.Provider)
	for name, endpoint := range map[string]oauth2.Endpoint{
		"github":     endpoints.GitHub,
		"google":     endpoints.Google,
		"shangcloud": shangcloud.Endpoint, // shangcloud.New adds settings for this platform
	} {
		var err error
		table[name], err = oauth2login.New(&oauth2.Config{
			ClientID: "id", ClientSecret: "secret", // of this provider
			RedirectURL: "https://app.example/callback/" + name, // a path of its own for each
			Endpoint:    endpoint,
		}, shared)
		if err != nil {
			log.Fatal(err)
		}
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /login/{provider}", func(w http.ResponseWriter, r *http.Request) {
		p := table[r.PathValue("provider")]
		if p == nil {
			http.NotFound(w, r)
		} else if err := p.StartLogin(w, r); err != nil {
			http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
		}
	})
	for _, name := range []string{"github", "gitlab"} {
		start := httptest.NewRecorder()
		mux.ServeHTTP(start, httptest.NewRequest("GET", "/login/"+name, nil))
		fmt.Println(start.Code)
	}
	// Output:
	// 302
	// 404
}

// An account is signed in, and a login links a provider to this account. The value names
// the account. The browser can neither read nor change the value.
func ExampleWithValue() {
	platform, provider := exampleProvider("hush-hush")
	defer platform.Close()

	start := httptest.NewRecorder()
	err := provider.StartLogin(start, httptest.NewRequest("GET", "/link", nil), oauth2login.WithValue("account-7"))
	if err != nil {
		log.Fatal(err)
	}
	address, err := platform.Approve(start.Header().Get("Location"), 10001)
	if err != nil {
		log.Fatal(err)
	}
	back := httptest.NewRequest("GET", address, nil)
	for _, c := range start.Result().Cookies() {
		back.AddCookie(c)
	}

	login, err := provider.FinishLogin(httptest.NewRecorder(), back)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("link to", login.Value) // check first that this account is still signed in
	// Output: link to account-7
}

// Logout: the session ends, and the token is deleted. Later requests that use the same
// store get ErrLoginRequired.
func ExampleTokenSource_Delete() {
	platform, provider := exampleProvider("hush-hush")
	defer platform.Close()
	ctx := context.Background()
	row := &tokenstore.Memory{} // or sqlstore's Tokens.User("10001")
	access, refresh := platform.Issue("demo", 10001)
	if err := provider.StoredTokens(row).SetToken(ctx, &oauth2.Token{AccessToken: access, RefreshToken: refresh}); err != nil {
		log.Fatal(err)
	}

	logout := func(w http.ResponseWriter, r *http.Request) { // POST only: a link must not log out
		http.SetCookie(w, &http.Cookie{Name: "session", Path: "/", MaxAge: -1})
		if err := provider.StoredTokens(row).Delete(r.Context()); err != nil {
			log.Print(err)
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
	w := httptest.NewRecorder()
	logout(w, httptest.NewRequest("POST", "/logout", nil))
	fmt.Println(w.Code)

	_, err := provider.StoredTokens(row).TokenContext(ctx)
	fmt.Println(errors.Is(err, oauth2login.ErrLoginRequired))
	// Output:
	// 303
	// true
}

// A program on a command line logs in through the browser of its machine. Port 0 in the
// redirect URL is any free port.
func ExampleProvider_LocalLogin() {
	platform, err := shangcloudtest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	defer platform.Close()
	platform.AddClient(shangcloudtest.Client{ID: "tool", RedirectURIs: []string{"http://127.0.0.1/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001})
	platform.AutoApprove(10001)
	provider, err := oauth2login.New(&oauth2.Config{
		ClientID: "tool", RedirectURL: "http://127.0.0.1:0/callback", Endpoint: shangcloud.EndpointAt(platform.URL),
	}, &oauth2login.Options{EarlyRefresh: -1}) // a short program needs no refresh in the background
	if err != nil {
		log.Fatal(err)
	}

	login, err := provider.LocalLogin(context.Background(), func(address string) error {
		fmt.Println("Your browser opens", address[:len("http://127.0.0.1:")]+"…")
		jar, _ := cookiejar.New(nil) // the browser of this example
		_, err := (&http.Client{Jar: jar}).Get(address)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(login.Scopes)
	if err := provider.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// Your browser opens http://127.0.0.1:…
	// [user:basic]
}

// A grant type without a method in this package, sent through this package's transport.
// The transport has a time-out, follows no redirects, and checks the answers.
func ExampleProvider_ClientContext() {
	platform, provider := exampleProvider("hush-hush")
	defer platform.Close()
	conf, verifier := provider.OAuth2(), oauth2.GenerateVerifier()
	back, err := platform.Approve(conf.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)), 10001)
	if err != nil {
		log.Fatal(err)
	}
	code := httptest.NewRequest("GET", back, nil).FormValue("code")

	tok, err := conf.Exchange(provider.ClientContext(context.Background()), code, oauth2.VerifierOption(verifier))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(tok.Type(), tok.Valid())
	// Output: Bearer true
}

// The client secret changes while the program runs. Sessions and pending logins continue.
func ExampleProvider_SetClientSecret() {
	platform, provider := exampleProvider("new-secret")
	defer platform.Close()
	access, refresh := platform.Issue("demo", 10001)
	src := provider.TokenSource(&oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now()})

	if err := provider.SetClientSecret("new-secret"); err != nil { // load it from your secrets when it changes
		log.Fatal(err)
	}
	tok, err := src.TokenContext(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("refreshed:", tok.RefreshToken != refresh)
	// Output: refreshed: true
}

// Other packages' handlers start and finish logins. NavigationsOnly restricts them to
// navigations, so a prefetch or a fetch by JavaScript starts no login.
func ExampleNavigationsOnly() {
	login := oauth2login.NavigationsOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://provider.example/authorize", http.StatusFound)
	}))
	for _, mode := range []string{"navigate", "cors"} {
		r, w := httptest.NewRequest("GET", "/login", nil), httptest.NewRecorder()
		r.Header.Set("Sec-Fetch-Mode", mode)
		login.ServeHTTP(w, r)
		fmt.Println(mode, w.Code)
	}
	// Output:
	// navigate 302
	// cors 403
}

// The page to show after the login may come from the request. LocalPath accepts only a
// path on this site.
func ExampleLocalPath() {
	for _, next := range []string{"/album?page=2", "https://evil.example/", "//evil.example/"} {
		fmt.Println(oauth2login.LocalPath(next, "/start"))
	}
	// Output:
	// /album?page=2
	// /start
	// /start
}
