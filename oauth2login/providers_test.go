package oauth2login_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/state"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/endpoints"
)

// pendingTab is a visitor's login between its start and its callback.
type pendingTab struct {
	callback string // the address that the provider sends the browser to
}

// startAt starts a login, and the provider approves it.
func (v *visitor) startAt(p *oauth2login.Provider, internet *http.Client, opts ...oauth2login.LoginOption) pendingTab {
	v.t.Helper()
	res := v.visit("https://app.example/login", func(w http.ResponseWriter, r *http.Request) {
		require.NoError(v.t, p.StartLogin(w, r, opts...))
	})
	require.Equal(v.t, http.StatusFound, res.StatusCode)
	return pendingTab{callback: approve(v.t, internet, res.Header.Get("Location"))}
}

// approve follows authURL and returns the address of the callback.
func approve(t *testing.T, internet *http.Client, authURL string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, authURL, nil)
	require.NoError(t, err)
	res, err := internet.Transport.RoundTrip(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusFound, res.StatusCode)
	return res.Header.Get("Location")
}

// finishAt sends the browser to the callback.
func (v *visitor) finishAt(p *oauth2login.Provider, tab pendingTab) (login *oauth2login.Login, err error) {
	v.visit(tab.callback, func(w http.ResponseWriter, r *http.Request) {
		login, err = p.FinishLogin(w, r)
	})
	return login, err
}

func newProvider(t *testing.T, conf *oauth2.Config, internet *http.Client, row ...oauth2login.ProviderOption) *oauth2login.Provider {
	t.Helper()
	shared := &oauth2login.Options{HTTPClient: internet, Logger: slog.New(slog.DiscardHandler)}
	p, err := oauth2login.New(conf, shared, row...)
	require.NoError(t, err)
	return p
}

func TestProviderLogin(t *testing.T) {
	offline := oauth2login.WithAuthCodeDefaults(oauth2.AccessTypeOffline)
	cases := map[string]struct {
		imitate  func(*testing.T) *imitation
		row      []oauth2login.ProviderOption
		scopes   []string
		lifetime time.Duration // 0: the token does not expire
		rotates  bool
	}{
		"GitHub":     {imitate: imitateGitHub, scopes: []string{"user:email"}},
		"GitHub app": {imitate: imitateGitHubApp, lifetime: 8 * time.Hour, rotates: true},
		"Google": {
			imitate: imitateGoogle, scopes: []string{"openid", "email"}, lifetime: 3599 * time.Second,
			row: []oauth2login.ProviderOption{oauth2login.WithIssuer("https://accounts.google.com"), offline},
		},
		"Azure":  {imitate: imitateAzure, scopes: []string{"openid", "offline_access"}, lifetime: time.Hour, rotates: true},
		"GitLab": {imitate: imitateGitLab, scopes: []string{"openid", "read_user"}, lifetime: 2 * time.Hour, rotates: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := c.imitate(t)
				internet := newInternet(t, server)
				p := newProvider(t, server.config("one", c.scopes...), internet, c.row...)
				v := newVisitor(t)

				tab := v.startAt(p, internet, oauth2login.WithReturnTo("/album"), oauth2login.WithValue("7"))
				login, err := v.finishAt(p, tab)
				require.NoError(t, err)
				assert.Equal(t, "/album", login.ReturnTo)
				assert.Equal(t, "7", login.Value)
				if slices.Contains(c.scopes, "openid") {
					assert.NotEmpty(t, login.Nonce)
					assert.Equal(t, login.Nonce, nonceOf(t, login.Token))
				}
				store := new(tokenstore.Memory)
				src := p.StoredTokens(store)
				require.NoError(t, src.SetToken(t.Context(), login.Token))
				if c.lifetime == 0 {
					assertLivesOn(t, login.Token, src)
				} else {
					assertRefresh(t, login.Token, src, store, c.lifetime, c.rotates)
				}

				again, err := v.finishAt(p, v.startAt(p, internet))
				require.NoError(t, err)
				assert.NotEqual(t, login.Token.AccessToken, again.Token.AccessToken)
			})
		})
	}
}

// assertLivesOn checks that a token without a lifetime is used for ever.
func assertLivesOn(t *testing.T, tok *oauth2.Token, src *oauth2login.TokenSource) {
	t.Helper()
	assert.Zero(t, tok.Expiry)
	time.Sleep(365 * 24 * time.Hour)
	later, err := src.Token()
	require.NoError(t, err)
	assert.Equal(t, tok.AccessToken, later.AccessToken)
}

// assertRefresh waits for two lifetimes of the token. After each, the token is refreshed
// and stored.
func assertRefresh(t *testing.T, tok *oauth2.Token, src *oauth2login.TokenSource, store *tokenstore.Memory, lifetime time.Duration, rotates bool) {
	t.Helper()
	for range 2 {
		assert.Equal(t, lifetime, time.Until(tok.Expiry))
		require.NotEmpty(t, tok.RefreshToken)
		time.Sleep(lifetime)
		next, err := src.Token()
		require.NoError(t, err)
		assert.NotEqual(t, tok.AccessToken, next.AccessToken)
		assert.Equal(t, rotates, tok.RefreshToken != next.RefreshToken, "rotation")
		stored, err := store.LoadToken(t.Context())
		require.NoError(t, err)
		assert.Equal(t, next.AccessToken, stored.AccessToken)
		assert.Equal(t, next.RefreshToken, stored.RefreshToken)
		tok = next
	}
}

func TestProviderUnboundLogin(t *testing.T) {
	for name, imitate := range map[string]func(*testing.T) *imitation{
		"GitHub": imitateGitHub, "Google": imitateGoogle, "Azure": imitateAzure, "GitLab": imitateGitLab,
	} {
		t.Run(name, func(t *testing.T) {
			server := imitate(t)
			internet := newInternet(t, server)
			var row []oauth2login.ProviderOption
			if server.callbackIssuer != "" {
				row = append(row, oauth2login.WithIssuer(server.callbackIssuer))
			}
			p := newProvider(t, server.config("one"), internet, row...)
			authURL, err := p.StartUnbound(t.Context(), oauth2login.WithValue("7"))
			require.NoError(t, err)
			back, err := url.Parse(approve(t, internet, authURL))
			require.NoError(t, err)
			login, err := p.FinishUnbound(t.Context(), back.Query())
			require.NoError(t, err)
			assert.NotEmpty(t, login.Token.AccessToken)
			assert.Equal(t, "7", login.Value)
			_, err = p.FinishUnbound(t.Context(), back.Query())
			assert.ErrorIs(t, err, oauth2login.ErrStateNotFound)
		})
	}
}

func TestProviderDeviceLogin(t *testing.T) {
	for name, c := range map[string]struct {
		imitate func(*testing.T) *imitation
		page    string
	}{
		"GitHub": {imitateGitHub, "https://github.com/login/device"},
		"Google": {imitateGoogle, "https://www.google.com/device"},
		"Azure":  {imitateAzure, "https://microsoft.com/devicelogin"},
		"GitLab": {imitateGitLab, "https://gitlab.com/oauth/device"},
	} {
		login := func(t *testing.T, denied bool) (*imitation, *oauth2login.Login, error) {
			server := c.imitate(t)
			server.denied = denied
			p := newProvider(t, server.config("one"), newInternet(t, server))
			login, err := p.DeviceLogin(t.Context(), func(shown *oauth2.DeviceAuthResponse) error {
				assert.Equal(t, c.page, shown.VerificationURI)
				assert.NotEmpty(t, shown.UserCode)
				assert.Empty(t, shown.DeviceCode)
				return nil
			})
			return server, login, err
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				server, login, err := login(t, false)
				require.NoError(t, err)
				assert.NotEmpty(t, login.Token.AccessToken)
				assert.Len(t, server.tokenRequests(), 3)
				assert.GreaterOrEqual(t, time.Since(begin), 15*time.Second, "three intervals")
			})
		})
		t.Run(name+"/denied", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, _, err := login(t, true)
				assert.ErrorIs(t, err, oauth2login.ErrAccessDenied)
			})
		})
	}
}

func TestProviderWithoutDeviceEndpoint(t *testing.T) {
	server := imitateGitHub(t)
	server.endpoint.DeviceAuthURL = ""
	p := newProvider(t, server.config("one"), newInternet(t, server))
	_, err := p.DeviceLogin(t.Context(), func(*oauth2.DeviceAuthResponse) error { return nil })
	assert.ErrorContains(t, err, "DeviceAuthURL")
	assert.Empty(t, server.tokenRequests())
}

func TestProviderIssuer(t *testing.T) {
	for name, c := range map[string]struct {
		sent string
		ok   bool
	}{
		"equal":   {"https://accounts.google.com", true},
		"missing": {"", false},
		"another": {"https://accounts.google.com.evil.example", false},
	} {
		t.Run(name, func(t *testing.T) {
			server := imitateGoogle(t)
			server.callbackIssuer = c.sent
			internet := newInternet(t, server)
			p := newProvider(t, server.config("one"), internet, oauth2login.WithIssuer("https://accounts.google.com"))
			v := newVisitor(t)
			_, err := v.finishAt(p, v.startAt(p, internet))
			if c.ok {
				require.NoError(t, err)
				return
			}
			assert.ErrorIs(t, err, oauth2login.ErrBadCallback)
			assert.Empty(t, server.tokenRequests(), "the code stays here")
		})
	}
}

func TestProviderDenial(t *testing.T) {
	for _, code := range []string{"access_denied", "user_cancelled_login", "user_cancelled_authorize"} {
		t.Run(code, func(t *testing.T) {
			server := imitateAzure(t)
			server.clientError = code
			internet := newInternet(t, server)
			p := newProvider(t, server.config("one"), internet)
			v := newVisitor(t)
			_, err := v.finishAt(p, v.startAt(p, internet, oauth2login.WithReturnTo("/album")))
			require.ErrorIs(t, err, oauth2login.ErrAccessDenied)
			assertOneLine(t, err)
			var failed *oauth2login.LoginError
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, "/album", failed.ReturnTo)
			assert.Empty(t, server.tokenRequests())
		})
	}
}

// TestProviderRefusal sends codes that the provider does not know.
func TestProviderRefusal(t *testing.T) {
	for name, c := range map[string]struct {
		imitate func(*testing.T) *imitation
		code    string
		status  int
	}{
		"GitHub": {imitateGitHub, "bad_verification_code", http.StatusOK},
		"Google": {imitateGoogle, "invalid_grant", http.StatusBadRequest},
		"Azure":  {imitateAzure, "invalid_grant", http.StatusBadRequest},
		"GitLab": {imitateGitLab, "invalid_grant", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			server := c.imitate(t)
			internet := newInternet(t, server)
			p := newProvider(t, server.config("one"), internet)
			v := newVisitor(t)
			tab := v.startAt(p, internet)
			tab.callback = strings.Replace(tab.callback, "code=", "code=X", 1)
			_, err := v.finishAt(p, tab)
			var refused *oauth2.RetrieveError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, c.code, refused.ErrorCode)
			assert.Equal(t, c.status, refused.Response.StatusCode)
			assert.Equal(t, []string{"authorization_code"}, server.tokenRequests())
			assertOneLine(t, err)
			host, _, _ := strings.Cut(strings.TrimPrefix(server.endpoint.AuthURL, "https://"), "/")
			assert.Contains(t, err.Error(), host)
		})
	}
}

// assertOneLine checks that an error has no line breaks, with which a provider could
// forge log lines.
func assertOneLine(t *testing.T, err error) {
	t.Helper()
	assert.NotContains(t, err.Error(), "\n")
	assert.NotContains(t, err.Error(), "\r")
	assert.NotContains(t, err.Error(), "Trace ID")
}

// TestProviderDeadRefreshToken refreshes with a token that the provider does not know.
func TestProviderDeadRefreshToken(t *testing.T) {
	for name, c := range map[string]struct {
		imitate func(*testing.T) *imitation
		code    string // error code; "": the imitation's own
	}{
		"GitHub app": {imitateGitHubApp, "bad_refresh_token"},
		"Google":     {imitateGoogle, "invalid_grant"},
		"Azure":      {imitateAzure, "invalid_grant"},
		"GitLab":     {imitateGitLab, "invalid_grant"},
	} {
		t.Run(name, func(t *testing.T) {
			server := c.imitate(t)
			fail := server.failure
			server.failure = func(string) (int, map[string]any) {
				status, members := fail(c.code)
				return status, members
			}
			p := newProvider(t, server.config("one"), newInternet(t, server))
			src := p.TokenSource(&oauth2.Token{AccessToken: "a", RefreshToken: "dead", Expiry: time.Unix(1, 0)})
			for range 3 {
				_, err := src.Token()
				assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
			}
			assert.Equal(t, []string{"refresh_token"}, server.tokenRequests(), "asked once")
		})
	}
}

// everyEndpoint lists all of golang.org/x/oauth2/endpoints.
var everyEndpoint = map[string]oauth2.Endpoint{
	"AWSCognito":         endpoints.AWSCognito("https://testing.auth.us-east-1.amazoncognito.com"),
	"Amazon":             endpoints.Amazon,
	"Apple":              endpoints.Apple,
	"Asana":              endpoints.Asana,
	"AsgardeoEndpoint":   endpoints.AsgardeoEndpoint("contoso"),
	"AzureAD":            endpoints.AzureAD(""),
	"AzureADB2CEndpoint": endpoints.AzureADB2CEndpoint("contoso", "B2C_1_SignUpSignIn"),
	"Badgr":              endpoints.Badgr,
	"Battlenet":          endpoints.Battlenet,
	"Bitbucket":          endpoints.Bitbucket,
	"Cern":               endpoints.Cern,
	"Coinbase":           endpoints.Coinbase,
	"Discord":            endpoints.Discord,
	"Dropbox":            endpoints.Dropbox,
	"Endpoint":           endpoints.Endpoint, // eBay
	"Facebook":           endpoints.Facebook,
	"Fitbit":             endpoints.Fitbit,
	"Foursquare":         endpoints.Foursquare,
	"GitHub":             endpoints.GitHub,
	"GitLab":             endpoints.GitLab,
	"Google":             endpoints.Google,
	"Heroku":             endpoints.Heroku,
	"HipChat":            endpoints.HipChat,
	"HipChatServer":      endpoints.HipChatServer("hipchat.example"),
	"Instagram":          endpoints.Instagram,
	"KaKao":              endpoints.KaKao,
	"Line":               endpoints.Line,
	"LinkedIn":           endpoints.LinkedIn,
	"Mailchimp":          endpoints.Mailchimp,
	"Mailru":             endpoints.Mailru,
	"MediaMath":          endpoints.MediaMath,
	"MediaMathSandbox":   endpoints.MediaMathSandbox,
	"Microsoft":          endpoints.Microsoft,
	"Naver":              endpoints.Naver,
	//lint:ignore SA1019 it is still in the table of x/oauth2
	"NokiaHealth":   endpoints.NokiaHealth,
	"Odnoklassniki": endpoints.Odnoklassniki,
	"OpenStreetMap": endpoints.OpenStreetMap,
	"Patreon":       endpoints.Patreon,
	"PayPal":        endpoints.PayPal,
	"PayPalSandbox": endpoints.PayPalSandbox,
	"Pinterest":     endpoints.Pinterest,
	"Pipedrive":     endpoints.Pipedrive,
	"QQ":            endpoints.QQ,
	"Rakuten":       endpoints.Rakuten,
	"Shopify":       endpoints.Shopify("shop.myshopify.com"),
	"Slack":         endpoints.Slack,
	"Splitwise":     endpoints.Splitwise,
	"Spotify":       endpoints.Spotify,
	"StackOverflow": endpoints.StackOverflow,
	"Strava":        endpoints.Strava,
	"Twitch":        endpoints.Twitch,
	"Uber":          endpoints.Uber,
	"Vk":            endpoints.Vk,
	"Withings":      endpoints.Withings,
	"X":             endpoints.X,
	"Yahoo":         endpoints.Yahoo,
	"Yandex":        endpoints.Yandex,
	"Zoom":          endpoints.Zoom,
}

// TestEveryEndpointIsListed compares the table with the source of x/oauth2.
func TestEveryEndpointIsListed(t *testing.T) {
	pkg, err := build.Import("golang.org/x/oauth2/endpoints", ".", build.FindOnly)
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(pkg.Dir, "*.go"))
	require.NoError(t, err)
	var names []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			names = append(names, exportedNames(decl)...)
		}
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(everyEndpoint)), names)
}

// exportedNames returns the exported variables and functions of a declaration.
func exportedNames(decl ast.Decl) (names []string) {
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			names = append(names, n.Name.Name)
			return false
		case *ast.ValueSpec:
			for _, name := range n.Names {
				names = append(names, name.Name)
			}
		}
		return true
	})
	return slices.DeleteFunc(names, func(name string) bool { return !ast.IsExported(name) })
}

// TestEveryEndpoint logs in three times at each endpoint. The first login sends the
// credentials with HTTP Basic. If the provider refuses that, later logins send them in
// the form. The imitation fails the test if a code is sent twice.
func TestEveryEndpoint(t *testing.T) {
	servers := map[string]struct {
		status  int // status of the answer to HTTP Basic; 0: accepted
		answer  map[string]any
		refusal bool // the answer clearly refuses the credentials
	}{
		"basic":                              {},
		"form, status 401":                   {401, map[string]any{"error": "invalid_client"}, true},
		"form, status 400":                   {400, map[string]any{"error": "invalid_client"}, true},
		"form, status 401, unusual code":     {401, map[string]any{"error": "unauthorized"}, true},
		"form, status 401, no code":          {401, nil, true},
		"form, status 400, LinkedIn's code":  {400, map[string]any{"error": "invalid_request"}, false},
		"form, status 400, no code":          {400, map[string]any{"status": 400, "message": "missing client id"}, false},
		"form, status 400, Facebook's error": {400, map[string]any{"error": map[string]any{"code": 101}}, false},
	}
	for name, endpoint := range everyEndpoint {
		for kind, c := range servers {
			t.Run(name+"/"+kind, func(t *testing.T) {
				assert.Zero(t, endpoint.AuthStyle)
				server := imitateGitLab(t)
				server.endpoint = endpoint
				server.formOnly = c.status != 0
				server.failure = func(string) (int, map[string]any) { return c.status, c.answer }
				internet := newInternet(t, server)
				var log bytes.Buffer
				p, err := oauth2login.New(server.config("one"), &oauth2login.Options{
					HTTPClient: internet, Logger: slog.New(slog.NewTextHandler(&log, nil)),
				})
				require.NoError(t, err)
				v := newVisitor(t)
				_, err = v.finishAt(p, v.startAt(p, internet))
				if c.status == 0 {
					require.NoError(t, err)
					assert.Empty(t, log.String())
				} else {
					require.Error(t, err)
					assert.Equal(t, c.refusal, errors.Is(err, oauth2login.ErrClientCredentials))
					assert.ErrorContains(t, err, "Endpoint.AuthStyle")
					assert.Equal(t, 1, strings.Count(log.String(), "Endpoint.AuthStyle"), "one line")
				}
				log.Reset()
				for range 2 {
					_, err = v.finishAt(p, v.startAt(p, internet))
					require.NoError(t, err)
				}
				assert.Empty(t, log.String())
				assert.Len(t, server.tokenRequests(), 3)
				assert.Equal(t, 3, server.codesSent())
			})
		}
	}
}

// TestCredentialStyleOnDevices: the device endpoint does not check the secret, as with
// GitHub and Google. The token endpoint accepts it only in the form.
func TestCredentialStyleOnDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := imitateGitLab(t)
		server.formOnly, server.deviceTakesAll = true, true
		p := newProvider(t, server.config("one"), newInternet(t, server))
		show := func(*oauth2.DeviceAuthResponse) error { return nil }
		_, err := p.DeviceLogin(t.Context(), show)
		require.ErrorIs(t, err, oauth2login.ErrClientCredentials)
		_, err = p.DeviceLogin(t.Context(), show)
		require.NoError(t, err)
	})
}

// TestCredentialStyleStays: a provider refuses credentials in a style that has worked
// before. Then the cause is not the style, so the style does not change.
func TestCredentialStyleStays(t *testing.T) {
	server := imitateGitLab(t)
	internet := newInternet(t, server)
	p := newProvider(t, server.config("one"), internet)
	v := newVisitor(t)
	_, err := v.finishAt(p, v.startAt(p, internet))
	require.NoError(t, err)
	server.formOnly = true
	for range 2 {
		_, err = v.finishAt(p, v.startAt(p, internet))
		require.ErrorIs(t, err, oauth2login.ErrClientCredentials)
		assert.NotContains(t, err.Error(), "Endpoint.AuthStyle")
	}
}

// TestFirstRefreshAtFormOnlyProvider: after a restart, a program's first request is a
// refresh, with the credentials in the wrong place. That must not lose the login.
func TestFirstRefreshAtFormOnlyProvider(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		answer map[string]any
	}{
		"invalid_client":  {401, map[string]any{"error": "invalid_client"}},
		"invalid_request": {400, map[string]any{"error": "invalid_request"}},
		"no code":         {400, map[string]any{"message": "missing client id"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := imitateGitLab(t)
				server.rotates = false // the first request does not use the token up
				server.formOnly = true
				server.failure = func(string) (int, map[string]any) { return c.status, c.answer }
				p := newProvider(t, server.config("one"), newInternet(t, server))
				stored := &oauth2.Token{AccessToken: "a", RefreshToken: server.refreshToken(new(grant)), Expiry: time.Unix(1, 0)}
				store := new(tokenstore.Memory)
				require.NoError(t, store.SaveToken(t.Context(), stored))
				src := p.StoredTokens(store)
				_, err := src.Token()
				require.Error(t, err)
				assert.NotErrorIs(t, err, oauth2login.ErrLoginRequired)
				assert.ErrorContains(t, err, "Endpoint.AuthStyle")
				time.Sleep(time.Minute) // the pause after a failure
				tok, err := src.Token()
				require.NoError(t, err)
				assert.NotEqual(t, "a", tok.AccessToken)
			})
		})
	}
}

// TestBadCodeProvesNoStyle sends a wrong code first. The refusal says nothing about the
// auth style, so the credentials stay in the header.
func TestBadCodeProvesNoStyle(t *testing.T) {
	server := imitateGitLab(t)
	internet := newInternet(t, server)
	p := newProvider(t, server.config("one"), internet)
	v := newVisitor(t)
	tab := v.startAt(p, internet)
	tab.callback = strings.Replace(tab.callback, "code=", "code=X", 1)
	_, err := v.finishAt(p, tab)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "Endpoint.AuthStyle")
	assert.Equal(t, oauth2.AuthStyleInHeader, p.OAuth2().Endpoint.AuthStyle)
}

// TestScopesAsArray: a provider lists the granted scopes in a JSON array, as Twitch does.
func TestScopesAsArray(t *testing.T) {
	server := imitateGitLab(t)
	answer := server.token_
	server.token_ = func(g *grant) map[string]any {
		members := answer(g)
		members["scope"] = []string{"user:read:email", "chat:read"}
		return members
	}
	internet := newInternet(t, server)
	p := newProvider(t, server.config("one", "user:read:email"), internet)
	v := newVisitor(t)
	login, err := v.finishAt(p, v.startAt(p, internet))
	require.NoError(t, err)
	assert.Equal(t, []string{"user:read:email", "chat:read"}, login.Scopes)
}

// TestNotServed checks the errors that docs/providers.md names.
func TestNotServed(t *testing.T) {
	login := func(t *testing.T, e oauth2.Endpoint, answer map[string]any) error {
		server := imitateGitLab(t)
		server.endpoint = e
		server.token_ = func(*grant) map[string]any { return answer }
		internet := newInternet(t, server)
		p := newProvider(t, server.config("one"), internet)
		v := newVisitor(t)
		_, err := v.finishAt(p, v.startAt(p, internet))
		return err
	}
	inner := map[string]any{"access_token": "a", "token_type": "user"}
	t.Run("Slack's bot tokens", func(t *testing.T) {
		err := login(t, endpoints.Slack, map[string]any{"ok": true, "access_token": "xoxb", "token_type": "bot"})
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
		assert.ErrorContains(t, err, "token_type is not Bearer")
	})
	t.Run("Slack's user tokens", func(t *testing.T) {
		err := login(t, endpoints.Slack, map[string]any{"ok": true, "authed_user": inner})
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
		assert.ErrorContains(t, err, "no usable access_token")
	})
	t.Run("Withings", func(t *testing.T) {
		err := login(t, endpoints.Withings, map[string]any{"status": 0, "body": inner})
		assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
		assert.ErrorContains(t, err, "no usable access_token")
	})
	t.Run("Apple's form_post", func(t *testing.T) {
		p := newProvider(t, (&imitation{endpoint: endpoints.Apple}).config("one"), newInternet(t))
		r := httptest.NewRequest(http.MethodPost, "https://app.example/callback/one", strings.NewReader("state=s&code=c"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		_, err := p.FinishLogin(httptest.NewRecorder(), r)
		assert.ErrorIs(t, err, oauth2login.ErrBadCallback)
		assert.ErrorContains(t, err, "response_mode=form_post is not supported")
	})
	t.Run("Twitch's device login", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server := imitateGitLab(t)
			server.endpoint = endpoints.Twitch
			server.endpoint.AuthStyle = oauth2.AuthStyleInParams
			server.endpoint.DeviceAuthURL = "https://id.twitch.tv/oauth2/device"
			server.failure = func(code string) (int, map[string]any) {
				return http.StatusBadRequest, map[string]any{"status": 400, "message": code}
			}
			p := newProvider(t, server.config("one"), newInternet(t, server))
			_, err := p.DeviceLogin(t.Context(), func(*oauth2.DeviceAuthResponse) error { return nil })
			var refused *oauth2.RetrieveError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, http.StatusBadRequest, refused.Response.StatusCode)
			assert.Len(t, server.tokenRequests(), 1)
		})
	})
}

// shop is an application with three providers that share all options.
type shop struct {
	internet  *http.Client
	servers   []*imitation
	providers []*oauth2login.Provider
}

func newShop(t *testing.T, shared oauth2login.Options) *shop {
	t.Helper()
	s := &shop{servers: []*imitation{imitateGitHub(t), imitateGoogle(t), imitateGitLab(t)}}
	s.internet = newInternet(t, s.servers...)
	shared.HTTPClient = s.internet
	for i, server := range s.servers {
		p, err := oauth2login.New(server.config(fmt.Sprint(i)), &shared)
		require.NoError(t, err)
		s.providers = append(s.providers, p)
	}
	return s
}

// tokenRequests returns the number of requests to all token endpoints.
func (s *shop) tokenRequests() (n int) {
	for _, server := range s.servers {
		n += len(server.tokenRequests())
	}
	return n
}

// eachMemory runs a test twice: with logins in a store, and with logins sealed in their
// cookies.
func eachMemory(t *testing.T, test func(t *testing.T, shared oauth2login.Options)) {
	t.Run("stored", func(t *testing.T) { test(t, oauth2login.Options{States: state.NewMemory(1000)}) })
	t.Run("sealed", func(t *testing.T) {
		test(t, oauth2login.Options{StateKeys: [][]byte{[]byte("0123456789abcdef0123456789abcdef")}})
	})
}

// Limits that are safe for all browsers and servers.
const (
	maxCookies    = 20
	maxCookieSize = 4 << 10
)

func (v *visitor) assertCookies() {
	v.t.Helper()
	count, size := v.cookies("https://app.example/")
	assert.LessOrEqual(v.t, count, maxCookies)
	assert.Less(v.t, size, maxCookieSize)
}

// openTab is a tab with a login at one of the shop's providers.
type openTab struct {
	pendingTab
	provider int
	value    string
}

func (s *shop) open(v *visitor, provider int, value string) *openTab {
	v.t.Helper()
	pending := v.startAt(s.providers[provider], s.internet, oauth2login.WithValue(value))
	v.assertCookies()
	return &openTab{pending, provider, value}
}

// assertFinishesHere sends a tab's callback to the other providers, and to its own
// provider from another browser. All refuse it. The tab's own callback then succeeds.
func (s *shop) assertFinishesHere(v *visitor, tab *openTab) {
	v.t.Helper()
	before := s.tokenRequests()
	for other, p := range s.providers {
		if other != tab.provider {
			_, err := v.finishAt(p, tab.pendingTab)
			assertRefused(v.t, err)
		}
	}
	_, err := newVisitor(v.t).finishAt(s.providers[tab.provider], tab.pendingTab)
	assert.ErrorIs(v.t, err, oauth2login.ErrNoCookies)
	assert.Equal(v.t, before, s.tokenRequests(), "the code stays here")

	login, err := v.finishAt(s.providers[tab.provider], tab.pendingTab)
	require.NoError(v.t, err)
	assert.Equal(v.t, tab.value, login.Value)
	assert.False(v.t, login.Repeated)
}

// TestThreeProvidersTenTabs: a browser logs in at three providers of one host, in ten
// tabs and in random order. Every login finishes only at its own provider.
func TestThreeProvidersTenTabs(t *testing.T) {
	eachMemory(t, func(t *testing.T, shared oauth2login.Options) {
		for seed := range uint64(20) {
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1))
				s, v := newShop(t, shared), newVisitor(t)
				tabs := make(map[int]*openTab)
				turns := slices.Concat(random.Perm(10), random.Perm(10)) // each tab appears twice: it is opened first, and comes back later
				random.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
				for _, i := range turns {
					if tab, ok := tabs[i]; ok {
						s.assertFinishesHere(v, tab)
						continue
					}
					tabs[i] = s.open(v, random.IntN(len(s.providers)), fmt.Sprint("tab ", i))
				}
				count, _ := v.cookies("https://app.example/")
				assert.Zero(t, count, "every login has deleted its cookie")
				assert.Equal(t, len(tabs), s.tokenRequests())
			})
		}
	})
}

func assertRefused(t *testing.T, err error) {
	t.Helper()
	refused := errors.Is(err, oauth2login.ErrWrongBrowser) || errors.Is(err, oauth2login.ErrStateNotFound)
	assert.True(t, refused, "error: %v", err)
}

// TestManyTabs starts far more logins than a browser has cookies for. The newest login of
// each provider still finishes.
func TestManyTabs(t *testing.T) {
	eachMemory(t, func(t *testing.T, shared oauth2login.Options) {
		s, v := newShop(t, shared), newVisitor(t)
		newest := make([]*openTab, len(s.providers))
		for i := range 60 {
			provider := 0 // this one gets most of the logins
			if i < 2 {
				provider = i + 1
			}
			newest[provider] = s.open(v, provider, strings.Repeat("v", 100))
		}
		for provider, tab := range newest {
			_, err := v.finishAt(s.providers[provider], tab.pendingTab)
			assert.NoError(t, err, "provider %d", provider)
		}
	})
}

// TestProviderClient checks that a token is sent only to the origins of its provider.
func TestProviderClient(t *testing.T) {
	var got []string
	internet := &http.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
		got = append(got, req.URL.Host+" "+req.Header.Get("Authorization"))
		return &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Body: io.NopCloser(strings.NewReader("{}")), Request: req}, nil
	})}
	p := newProvider(t, imitateGitHub(t).config("one"), internet)
	src := p.TokenSource(&oauth2.Token{AccessToken: "a"})
	get := func(hc *http.Client, address string) error {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
		require.NoError(t, err)
		res, err := hc.Do(req)
		if err == nil {
			err = res.Body.Close()
		}
		return err
	}
	assert.NoError(t, get(p.Client(src), "https://github.com/user"))
	assert.Error(t, get(p.Client(src), "https://api.github.com/user"))
	assert.NoError(t, get(p.Client(src, "https://api.github.com"), "https://api.github.com/user"))
	assert.Equal(t, []string{"github.com Bearer a", "api.github.com Bearer a"}, got)
}
