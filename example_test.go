package shangcloud_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"golang.org/x/oauth2"
)

// demoPlatform starts a stand-in for ShangCloud with one application and one user. The user
// allows every login.
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

// userAgrees plays the user, who allows the login on the platform's page. It returns the
// request that the browser then sends to the application.
func userAgrees(platform *shangcloudtest.Server, authURL string) *http.Request {
	callbackURL, err := platform.Approve(authURL, 10001)
	if err != nil {
		log.Fatal(err)
	}
	return httptest.NewRequest("GET", callbackURL, nil)
}

// A whole login on net/http. It works with any other router too: StartLogin and
// FinishLogin take the http.ResponseWriter and *http.Request that every handler has.
func Example() {
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()
	platform := demoPlatform(app.URL + "/callback")
	defer platform.Close()

	provider, err := shangcloud.New(&oauth2.Config{
		ClientID:     "demo",
		ClientSecret: "hush-hush",
		RedirectURL:  app.URL + "/callback",
		Endpoint:     shangcloud.EndpointAt(platform.URL), // leave out for ShangCloud itself
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		if err := provider.StartLogin(w, r, oauth2login.WithReturnTo(r.FormValue("next"))); err != nil {
			http.Error(w, "login is not possible right now", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		login, err := provider.FinishLogin(w, r)
		if err != nil {
			http.Error(w, "not logged in", http.StatusForbidden)
			return
		}
		user, err := provider.API(oauth2.StaticTokenSource(login.Token)).UserInfo(r.Context())
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
	body, err := io.ReadAll(res.Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(body)
}

// This example uses plain x/oauth2 with the endpoint of ShangCloud. The application itself
// handles state, cookie and PKCE.
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
func ExampleNew_states() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	shared := state.NewMemory(0) // any state.Store; in production, a store that all machines can reach

	machine := func() *shangcloud.Provider {
		p, err := shangcloud.New(&oauth2.Config{
			ClientID: "demo", ClientSecret: "hush-hush",
			RedirectURL: "https://app.example/callback",
			Endpoint:    shangcloud.EndpointAt(platform.URL),
		}, &oauth2login.Options{States: shared})
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
	fmt.Println(errors.Is(err, oauth2login.ErrStateNotFound))
	// Output:
	// true <nil>
	// true
}

// A login without a browser on this machine. The application passes the login address to
// the user by other means.
func ExampleNew_unbound() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	provider := demoProvider(platform, "https://app.example/callback")
	ctx := context.Background()
	authURL, err := provider.StartUnbound(ctx, oauth2login.WithScopes(shangcloud.ScopeVariables))
	if err != nil {
		log.Fatal(err)
	}

	// The redirect to https://app.example/callback has a state and a code in its query.
	back := userAgrees(platform, authURL)
	login, err := provider.FinishUnbound(ctx, back.URL.Query())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(login.Scopes, time.Until(login.Token.Expiry) > 59*time.Minute)
	// Output: [var:io] true
}

// What FinishLogin's errors mean for the user.
func ExampleProvider_FinishLogin() {
	explain := func(err error) (status int, message string) {
		var refused *oauth2.RetrieveError
		switch {
		case errors.Is(err, oauth2login.ErrAccessDenied):
			return http.StatusForbidden, "You said no. That is fine."
		case errors.Is(err, oauth2login.ErrStateNotFound), errors.Is(err, oauth2login.ErrWrongBrowser):
			return http.StatusBadRequest, "This login is over. Please start again."
		case errors.Is(err, oauth2login.ErrUnavailable), errors.Is(err, oauth2login.ErrStateStore):
			return http.StatusServiceUnavailable, "Please try again in a minute."
		case errors.As(err, &refused):
			return http.StatusBadGateway, "ShangCloud refused the login."
		default:
			return http.StatusBadRequest, "This is not a login."
		}
	}
	fmt.Println(explain(&oauth2login.CallbackError{Code: "access_denied"}))
	fmt.Println(explain(oauth2login.ErrWrongBrowser))
	fmt.Println(explain(oauth2login.ErrBadCallback))
	// Output:
	// 403 You said no. That is fine.
	// 400 This login is over. Please start again.
	// 400 This is not a login.
}

func ExampleProvider_DeviceLogin() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	platform.Configure(func(s *shangcloudtest.Settings) { s.DeviceInterval = time.Second })
	provider := demoProvider(platform, "https://app.example/callback")

	login, err := provider.DeviceLogin(context.Background(), func(d *oauth2.DeviceAuthResponse) error {
		fmt.Println("Open", strings.TrimPrefix(d.VerificationURI, platform.URL), "and enter a code of", len(d.UserCode), "characters.")
		return platform.ApproveDevice(d.UserCode, 10001) // in the example, the user is quick
	})
	switch {
	case errors.Is(err, oauth2login.ErrAccessDenied), errors.Is(err, oauth2login.ErrLoginExpired):
		fmt.Println("Not logged in.")
	case err != nil:
		log.Fatal(err)
	default:
		user, err := provider.API(oauth2.StaticTokenSource(login.Token)).UserInfo(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("Hello,", user.Nickname)
	}
	// Output:
	// Open /device and enter a code of 9 characters.
	// Hello, 小明
}

// demoProvider returns a provider for the application that demoPlatform knows.
func demoProvider(platform *shangcloudtest.Server, redirectURL string) *shangcloud.Provider {
	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush",
		RedirectURL: redirectURL,
		Endpoint:    shangcloud.EndpointAt(platform.URL), // leave out for ShangCloud itself
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	return provider
}

// Call sends a request to a path of the API for which this library has no method. It sends
// the token and any JSON, and decodes any JSON object.
func ExampleAPI_Call() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	platform.Handle("/api/album/count", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Year int `json:"year"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Year == 0 {
			http.Error(w, `{"error":"missing_year"}`, http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"count":%d}`, 7)
	}))
	provider := demoProvider(platform, "https://app.example/callback")
	access, _ := platform.Issue("demo", 10001)
	api := provider.API(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: access}))
	ctx := context.Background()

	var album struct {
		Count int `json:"count"`
	}
	err := api.Call(ctx, "/api/album/count", map[string]int{"year": 2026}, &album)
	fmt.Println(album.Count, err)

	var refused *shangcloud.APIError
	if err := api.Call(ctx, "/api/album/count", nil, &album); errors.As(err, &refused) {
		fmt.Println(refused.StatusCode, refused.Code)
	}
	// Output:
	// 7 <nil>
	// 400 missing_year
}

// greet is service code. It gets only an HTTP client and knows nothing about tokens.
func greet(ctx context.Context, hc *http.Client, baseURL string) (string, error) {
	user, err := shangcloud.NewAPI(hc, shangcloud.WithBaseURL(baseURL)).UserInfo(ctx)
	if err != nil {
		return "", err
	}
	return "Hello, " + user.Nickname, nil
}

// Service code that gets only an *http.Client. The client adds the user's token to each
// request, refreshes it, and refuses to send it to any host but ShangCloud.
func ExampleProvider_Client() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	provider := demoProvider(platform, "https://app.example/callback")
	access, refresh := platform.Issue("demo", 10001)
	src := provider.TokenSource(&oauth2.Token{AccessToken: access, RefreshToken: refresh})

	hc := provider.Client(src)
	fmt.Println(greet(context.Background(), hc, platform.URL))

	platform.ExpireTokens() // the client gets a new access token by itself
	fmt.Println(greet(context.Background(), hc, platform.URL))

	_, err := hc.Get("https://api.other.example/")
	fmt.Println(err != nil) // the client refused the request: nothing was sent
	// Output:
	// Hello, 小明 <nil>
	// Hello, 小明 <nil>
	// true
}

// Incremental consent: the first login asks only who the user is. Access to the cloud
// variables is requested later, from users who turn on the feature that needs it.
//
// The new token replaces the old one, so the request names the old scopes as well. The
// new token may belong to another user, who has signed in to ShangCloud in the meantime.
func ExampleProvider_StartLogin_moreScopes() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	provider := demoProvider(platform, "https://app.example/callback")
	ctx := context.Background()

	// The session of a user who has logged in with ScopeUserBasic.
	const sessionUID = 10001
	access, refresh := platform.Issue("demo", sessionUID, shangcloud.ScopeUserBasic)
	src := provider.TokenSource(&oauth2.Token{AccessToken: access, RefreshToken: refresh})
	api := provider.API(src)

	_, err := api.Variable(ctx, "theme")
	var refused *shangcloud.APIError
	fmt.Println(errors.As(err, &refused) && refused.StatusCode == http.StatusForbidden)

	enable := func(w http.ResponseWriter, r *http.Request) {
		err := provider.StartLogin(w, r,
			oauth2login.WithScopes(shangcloud.ScopeUserBasic, shangcloud.ScopeVariables),
			oauth2login.WithReturnTo("/settings"))
		if err != nil {
			http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
		}
	}
	callback := func(w http.ResponseWriter, r *http.Request) {
		login, err := provider.FinishLogin(w, r)
		if err != nil {
			http.Error(w, "not enabled", http.StatusForbidden) // the old token remains valid
			return
		}
		user, err := provider.API(oauth2.StaticTokenSource(login.Token)).UserInfo(r.Context())
		if err != nil || user.ID != sessionUID {
			http.Error(w, "please sign in as the same user", http.StatusForbidden)
			return
		}
		if err := src.SetToken(r.Context(), login.Token); err != nil {
			log.Print(err) // the new token is used all the same, and saved later
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

// Some login frameworks run the OAuth flow themselves, and call a function to find out who
// the user is. An example is github.com/volatiletech/authboss/v3:
//
//	config.Modules.OAuth2Providers["shangcloud"] = authboss.OAuth2Provider{
//		OAuth2Config:    &oauth2.Config{Endpoint: shangcloud.Endpoint, …},
//		FindUserDetails: findUserDetails,
//	}
//
// The framework handles the state and the exchange. For both, this package gives guarantees
// only if the application uses a Provider.
func Example_findUserDetails() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()

	findUserDetails := func(ctx context.Context, conf oauth2.Config, tok *oauth2.Token) (map[string]string, error) {
		base := strings.TrimSuffix(conf.Endpoint.TokenURL, "/oauth/token")
		user, err := shangcloud.NewAPI(conf.Client(ctx, tok), shangcloud.WithBaseURL(base)).UserInfo(ctx)
		if err != nil {
			return nil, err
		}
		// Do not use the mail address as a key: it may not be verified.
		return map[string]string{"uid": strconv.FormatInt(user.ID, 10), "name": user.Nickname, "email": user.Email}, nil
	}

	conf := oauth2.Config{ClientID: "demo", ClientSecret: "hush-hush", Endpoint: shangcloud.EndpointAt(platform.URL)}
	access, _ := platform.Issue("demo", 10001)
	fmt.Println(findUserDetails(context.Background(), conf, &oauth2.Token{AccessToken: access}))
	// Output: map[email:ming@example.cn name:小明 uid:10001] <nil>
}

// loginHandlers is the interface that some auth frameworks require of a login provider. In
// github.com/go-pkgz/auth/v2 it is provider.Provider, the parameter of AddCustomHandler.
type loginHandlers interface {
	Name() string
	LoginHandler(w http.ResponseWriter, r *http.Request)
	AuthHandler(w http.ResponseWriter, r *http.Request)
	LogoutHandler(w http.ResponseWriter, r *http.Request)
}

// shangcloudHandlers adds ShangCloud to a framework that uses loginHandlers. The framework
// keeps the session: signIn creates the session (TokenService.Set in go-pkgz/auth), and
// signOut ends it.
type shangcloudHandlers struct {
	provider *shangcloud.Provider
	signIn   func(w http.ResponseWriter, r *http.Request, user *shangcloud.UserInfo) error
	signOut  func(w http.ResponseWriter, r *http.Request)
}

var _ loginHandlers = (*shangcloudHandlers)(nil)

func (h *shangcloudHandlers) Name() string { return "shangcloud" }

func (h *shangcloudHandlers) LoginHandler(w http.ResponseWriter, r *http.Request) {
	if err := h.provider.StartLogin(w, r, oauth2login.WithReturnTo(r.FormValue("from"))); err != nil {
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

// This example plugs the login into an auth framework that accepts custom handlers, such as
// github.com/go-pkgz/auth/v2. This package logs the user in. The framework keeps the session.
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
			http.SetCookie(w, &http.Cookie{Name: "jwt", Value: id, Path: "/", HttpOnly: true}) // in production, use a signed token
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

// usersTable stands for the application's table of users. The table has a column for the
// token.
type usersTable struct {
	mu     sync.Mutex
	tokens map[int64][]byte
}

// userToken is the TokenStore for one row of a usersTable.
type userToken struct {
	table *usersTable
	uid   int64
}

var _ oauth2login.TokenStore = userToken{}

func (u userToken) LoadToken(context.Context) (*oauth2.Token, error) {
	u.table.mu.Lock() // SELECT token FROM users WHERE uid = ?
	defer u.table.mu.Unlock()
	data, ok := u.table.tokens[u.uid]
	if !ok {
		return nil, nil
	}
	tok := new(oauth2.Token)
	return tok, json.Unmarshal(data, tok)
}

func (u userToken) SaveToken(_ context.Context, tok *oauth2.Token) error {
	data, err := json.Marshal(tok)
	if err != nil {
		return err
	}
	u.table.mu.Lock() // UPDATE users SET token = ? WHERE uid = ?
	defer u.table.mu.Unlock()
	u.table.tokens[u.uid] = data
	return nil
}

func (u userToken) DeleteToken(context.Context) error {
	u.table.mu.Lock() // UPDATE users SET token = NULL WHERE uid = ?
	defer u.table.mu.Unlock()
	delete(u.table.tokens, u.uid)
	return nil
}

// This example keeps a user's token in the application's own table. The reference SDK calls
// this custom User persistence.
func ExampleProvider_StoredTokens() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	provider := demoProvider(platform, "https://app.example/callback")
	ctx := context.Background()
	users := &usersTable{tokens: make(map[int64][]byte)}

	// After the login, the application asks who the user is. Then the user's row keeps
	// the token. The token of this example expires at once.
	access, refresh := platform.Issue("demo", 10001, shangcloud.ScopeUserBasic)
	token := &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now()}
	user, err := provider.API(oauth2.StaticTokenSource(token)).UserInfo(ctx) // a static source: the token is not refreshed
	if err != nil {
		log.Fatal(err)
	}
	row := userToken{users, user.ID}
	if err := provider.StoredTokens(row).SetToken(ctx, token); err != nil {
		log.Fatal(err)
	}

	// This is the next request, in any process. The source loads the token from the table.
	// It refreshes the token if necessary, and saves the new token before the new token is
	// used.
	src := provider.StoredTokens(row)
	user, err = provider.API(src).UserInfo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := provider.Shutdown(ctx); err != nil { // at the end of the program
		log.Fatal(err)
	}
	saved, err := row.LoadToken(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(user.Nickname, saved.RefreshToken != refresh, shangcloud.Expired(saved))
	// Output: 小明 true false
}

// Several machines without a state store. The cookie of a login contains the login itself,
// encrypted with a key that all machines share.
func ExampleNew_sealed() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	key := make([]byte, 32) // from your secrets, the same on every machine
	rand.Read(key)

	machine := func() *shangcloud.Provider {
		p, err := shangcloud.New(&oauth2.Config{
			ClientID: "demo", ClientSecret: "hush-hush",
			RedirectURL: "https://app.example/callback",
			Endpoint:    shangcloud.EndpointAt(platform.URL), // leave out for ShangCloud itself
		}, &oauth2login.Options{StateKeys: [][]byte{key}})
		if err != nil {
			log.Fatal(err)
		}
		return p
	}
	one, two := machine(), machine()

	start := httptest.NewRecorder()
	if err := one.StartLogin(start, httptest.NewRequest("GET", "/login", nil), oauth2login.WithReturnTo("/album")); err != nil {
		log.Fatal(err)
	}
	back := userAgrees(platform, start.Header().Get("Location"))
	for _, c := range start.Result().Cookies() {
		back.AddCookie(c)
	}
	login, err := two.FinishLogin(httptest.NewRecorder(), back)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(login.ReturnTo)
	// Output: /album
}

// What the errors of the API mean for the user.
func ExampleAPIError() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	provider := demoProvider(platform, "https://app.example/callback")
	access, _ := platform.Issue("demo", 10001, shangcloud.ScopeUserBasic)
	api := provider.API(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: access}))

	explain := func(err error) {
		var refused *shangcloud.APIError
		switch {
		case err == nil:
			fmt.Println("Saved.")
		case errors.Is(err, oauth2login.ErrLoginRequired):
			fmt.Println("Please log in again.")
		case errors.Is(err, oauth2login.ErrUnavailable):
			fmt.Println("Please try again in a minute.")
		case errors.As(err, &refused) && refused.Code == "insufficient_scope":
			fmt.Println("Please allow this application to use your variables.")
		default:
			fmt.Println("Not saved.")
		}
	}
	ctx := context.Background()
	explain(api.SetVariable(ctx, "theme", "dark")) // the login did not ask for the variables scope

	platform.Fault("/api/varibles", shangcloudtest.Fault{Times: 1, Status: http.StatusServiceUnavailable})
	explain(api.SetVariable(ctx, "theme", "dark"))

	platform.Revoke(10001)
	explain(api.SetVariable(ctx, "theme", "dark"))
	// Output:
	// Please allow this application to use your variables.
	// Please try again in a minute.
	// Please log in again.
}

// A token source for one process. It refreshes the token when necessary. To keep the token
// across restarts, see StoredTokens.
func ExampleProvider_TokenSource() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	provider := demoProvider(platform, "https://app.example/callback")
	access, refresh := platform.Issue("demo", 10001)
	login := &oauth2login.Login{Token: &oauth2.Token{AccessToken: access, RefreshToken: refresh}} // returned by FinishLogin

	api := provider.API(provider.TokenSource(login.Token)) // keep api in the user's session
	for range 2 {
		user, err := api.UserInfo(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(user.Nickname)
		platform.ExpireTokens()
	}
	// Output:
	// 小明
	// 小明
}

// Users stay logged in when the program restarts: their tokens are in a store.
func ExampleProvider_StoredTokens_restart() {
	platform := demoPlatform("https://app.example/callback")
	defer platform.Close()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	// program plays one run of the program. login is nil unless the user has just logged
	// in.
	program := func(login *oauth2.Token) {
		provider := demoProvider(platform, "https://app.example/callback")
		user10001, err := tokenstore.NewFile(filepath.Join(dir, "10001.json")) // or a row of a database: sqlstore, redisstore
		if err != nil {
			log.Fatal(err)
		}
		tokens := provider.StoredTokens(user10001)
		if login != nil {
			if err := tokens.SetToken(ctx, login); err != nil {
				log.Print(err) // the new token is used all the same, and saved later
			}
		}
		user, err := provider.API(tokens).UserInfo(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(user.Nickname)
		if err := provider.Shutdown(ctx); err != nil {
			log.Fatal(err)
		}
	}
	access, refresh := platform.Issue("demo", 10001)
	program(&oauth2.Token{AccessToken: access, RefreshToken: refresh})
	program(nil)
	platform.ExpireTokens() // during the night
	program(nil)
	// Output:
	// 小明
	// 小明
	// 小明
}

// Expired says whether an access token must be refreshed before use.
func ExampleExpired() {
	fmt.Println(shangcloud.Expired(&oauth2.Token{AccessToken: "secret", Expiry: time.Now().Add(-time.Second)}))
	fmt.Println(shangcloud.Expired(&oauth2.Token{AccessToken: "secret", Expiry: time.Now().Add(time.Hour)}))
	// Output:
	// true
	// false
}

// A page for signed-in users only. Other users are sent to the login first and return to
// the page afterwards. The application keeps the sessions; here they are in a map.
func Example_protectedRoute() {
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()
	platform := demoPlatform(app.URL + "/callback")
	defer platform.Close()
	provider := demoProvider(platform, app.URL+"/callback")

	var mu sync.Mutex
	users := make(map[string]*shangcloud.UserInfo) // by session ID
	loggedIn := func(page func(http.ResponseWriter, *http.Request, *shangcloud.UserInfo)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if c, err := r.Cookie("session"); err == nil && users[c.Value] != nil {
				page(w, r, users[c.Value])
				return
			}
			http.Redirect(w, r, "/login?"+url.Values{"next": {r.URL.RequestURI()}}.Encode(), http.StatusSeeOther)
		}
	}
	mux.HandleFunc("GET /album", loggedIn(func(w http.ResponseWriter, r *http.Request, user *shangcloud.UserInfo) {
		fmt.Fprintf(w, "page %s of the album of %s", r.FormValue("page"), user.Nickname)
	}))
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		if err := provider.StartLogin(w, r, oauth2login.WithReturnTo(r.FormValue("next"))); err != nil {
			http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		login, err := provider.FinishLogin(w, r)
		if err != nil {
			http.Error(w, "not logged in", http.StatusForbidden)
			return
		}
		user, err := provider.API(oauth2.StaticTokenSource(login.Token)).UserInfo(r.Context())
		if err != nil {
			http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
			return
		}
		session := rand.Text() // a new ID at every login
		mu.Lock()
		users[session] = user
		mu.Unlock()
		http.SetCookie(w, &http.Cookie{Name: "session", Value: session, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.Redirect(w, r, login.ReturnTo, http.StatusSeeOther)
	})

	jar, _ := cookiejar.New(nil)
	fmt.Println(get(&http.Client{Jar: jar}, app.URL+"/album?page=2"))
	// Output: page 2 of the album of 小明
}
