package recipes

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strconv"
	"testing"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/alexedwards/scs/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/oauth2"
)

// demo starts a platform and an application with a provider. The function open requests
// an address of the application as a browser does.
func demo(transport http.RoundTripper, routes func(*shangcloud.Provider) http.Handler) (platform *shangcloudtest.Server, open func(path string) string, stop func()) {
	platform, err := shangcloudtest.Start("")
	if err != nil {
		log.Fatal(err)
	}
	app := httptest.NewUnstartedServer(nil)
	address := "http://" + app.Listener.Addr().String()
	platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush", RedirectURIs: []string{address + "/callback"}})
	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明"})
	platform.AutoApprove(10001)
	provider, err := shangcloud.New(&oauth2.Config{
		ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: address + "/callback",
		Endpoint: shangcloud.EndpointAt(platform.URL),
	}, &oauth2login.Options{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		log.Fatal(err)
	}
	app.Config.Handler = routes(provider)
	app.Start()
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	open = func(path string) string {
		res, err := browser.Get(address + path)
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
	return platform, open, func() { app.Close(); platform.Close() }
}

// An application uses the session library github.com/alexedwards/scs/v2. It links a
// ShangCloud user to the account that is already signed in. The callback gets that
// account from Login.Value, and compares it with the session's account: somebody else may
// have signed in meanwhile.
func Example_sessions() {
	sessions := scs.New() // on https, set Cookie.Secure
	linked := make(map[int64]int64)

	routes := func(provider *shangcloud.Provider) http.Handler {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /signin", func(w http.ResponseWriter, r *http.Request) { // for example with a password
			sessions.Put(r.Context(), "account", int64(7))
		})
		mux.HandleFunc("GET /link", func(w http.ResponseWriter, r *http.Request) {
			account := strconv.FormatInt(sessions.GetInt64(r.Context(), "account"), 10)
			if err := provider.StartLogin(w, r, oauth2login.WithValue(account), oauth2login.WithReturnTo("/account")); err != nil {
				http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
			}
		})
		mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
			login, err := provider.FinishLogin(w, r)
			account := sessions.GetInt64(r.Context(), "account")
			if err != nil || account == 0 || login.Value != strconv.FormatInt(account, 10) {
				http.Error(w, "not linked", http.StatusForbidden)
				return
			}
			user, err := provider.API(provider.TokenSource(login.Token)).UserInfo(r.Context())
			before := sessions.Token(r.Context())
			if err == nil {
				// Renewing the ID protects against session fixation: an ID that was known
				// before the login is no longer valid.
				err = sessions.RenewToken(r.Context())
			}
			if err != nil {
				http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
				return
			}
			fmt.Println("a new session ID:", before != sessions.Token(r.Context()))
			linked[account] = user.ID
			http.Redirect(w, r, login.ReturnTo, http.StatusSeeOther)
		})
		mux.HandleFunc("GET /account", func(w http.ResponseWriter, r *http.Request) {
			account := sessions.GetInt64(r.Context(), "account")
			fmt.Fprintf(w, "account %d is user %d", account, linked[account])
		})
		return sessions.LoadAndSave(mux)
	}
	_, open, stop := demo(nil, routes)
	defer stop()

	open("/signin")
	fmt.Println(open("/link"))
	// Output:
	// a new session ID: true
	// account 7 is user 10001
}

// whoami is an application that shows users who they are.
func whoami(provider *shangcloud.Provider) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		if err := provider.StartLogin(w, r); err != nil {
			http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		login, err := provider.FinishLogin(w, r)
		if err != nil {
			http.Error(w, "not logged in", http.StatusForbidden)
			return
		}
		user, err := provider.API(provider.TokenSource(login.Token)).UserInfo(r.Context())
		if err != nil {
			http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, user.Nickname)
	})
	return mux
}

// OpenTelemetry wraps the transport of Options.HTTPClient, so every request to ShangCloud
// becomes a span. Spans do not record bodies or the Authorization header, which contain
// the codes, tokens and secrets.
func Example_openTelemetry() {
	spans := tracetest.NewInMemoryExporter()
	tracing := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	transport := otelhttp.NewTransport(http.DefaultTransport, otelhttp.WithTracerProvider(tracing))

	_, open, stop := demo(transport, whoami) // oauth2login.Options{HTTPClient: &http.Client{Transport: transport}}
	defer stop()
	fmt.Println(open("/login"))
	if err := tracing.ForceFlush(context.Background()); err != nil {
		log.Fatal(err)
	}
	for _, span := range spans.GetSpans() {
		for _, a := range span.Attributes {
			if a.Key == "http.response.status_code" {
				fmt.Println(span.Name, a.Value.AsInt64())
			}
		}
	}
	// Output:
	// 小明
	// HTTP POST 200
	// HTTP POST 200
}

// No span contains a secret. That includes the spans of requests to ShangCloud and those
// of the application's handlers, such as the callback.
func TestSpansHoldNoSecret(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	tracing := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	option := otelhttp.WithTracerProvider(tracing)
	var secrets []string
	routes := func(p *shangcloud.Provider) http.Handler {
		h := whoami(p)
		return otelhttp.NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"code", "state"} {
				if v := r.FormValue(name); v != "" {
					secrets = append(secrets, v)
				}
			}
			for _, c := range r.Cookies() {
				secrets = append(secrets, c.Value)
			}
			h.ServeHTTP(w, r)
		}), "app", option)
	}
	platform, open, stop := demo(otelhttp.NewTransport(http.DefaultTransport, option), routes)
	defer stop()
	require.Equal(t, "小明", open("/login"))
	platform.Fault("/oauth/token", shangcloudtest.Fault{Times: 1, Drop: true}) // a span with an error
	open("/login")

	for _, r := range platform.Requests("/oauth/token") {
		secrets = append(secrets, r.Form().Get("code_verifier"))
	}
	for _, r := range platform.Requests("/api/user/info") {
		secrets = append(secrets, r.Header.Get("Authorization")[len("Bearer "):])
	}
	secrets = append(secrets, "hush-hush")
	require.GreaterOrEqual(t, len(secrets), 10)
	text := fmt.Sprintf("%+v", spans.GetSpans())
	require.Contains(t, text, "/oauth/token")
	require.Contains(t, text, "/callback")
	for _, secret := range secrets {
		require.NotEmpty(t, secret)
		assert.NotContains(t, text, secret)
	}
}
