// Prefix is an application behind a reverse proxy. The proxy ends TLS and serves the
// application under a path. The browser requests https://app.example/portal/…, and the
// application receives plain http.
//
//	go -C examples/routers run ./prefix [-addr 127.0.0.1:8080]
//
// PUBLIC_URL is the address that the browser opens: https://app.example/portal. If it is
// not set, there is no proxy, and the application is at http://127.0.0.1:8080/portal.
// Without SHANGCLOUD_CLIENT_ID and SHANGCLOUD_CLIENT_SECRET, the program uses a stand-in
// for ShangCloud that it runs itself.
//
// The proxy may strip the path, as nginx does with
//
//	location /portal/ { proxy_pass http://127.0.0.1:8080/; }
//
// or keep it (proxy_pass without a path). The application answers both. All addresses
// that the browser gets must be made from PUBLIC_URL:
//
//   - The redirect URL is https and has the path, as registered with ShangCloud. The
//     application neither needs nor trusts X-Forwarded headers for it. Otherwise, anybody
//     who sends such a header could choose where logins end.
//   - Links and [oauth2login.WithReturnTo] have the path, because the browser resolves
//     the redirect after a login.
//   - Cookies are Secure, and named __Host-…, because RedirectURL is https. The scheme of
//     the request does not matter. The Path of the cookies must stay "/": if a proxy
//     changes it (nginx's proxy_cookie_path), browsers refuse the cookies.
//   - The browser reaches /login and /callback under the host of RedirectURL. The Host
//     header that the proxy sends does not matter.
//
// With Options.StateKeys, the headers of /login's answer can take more than 3 KB. Some
// proxies allow 4 KB for all headers of an answer (nginx's proxy_buffer_size on most
// machines). They may answer 502 to logins with a long return path. 8 KB are enough.
//
// Several instances behind one proxy share Options.States or Options.StateKeys. Then any
// instance can answer any request.
package main

import (
	"cmp"
	"errors"
	"html/template"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/serve"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"golang.org/x/oauth2"
)

func main() {
	site := serve.Start(&oauth2.Config{
		ClientID:     os.Getenv("SHANGCLOUD_CLIENT_ID"),
		ClientSecret: os.Getenv("SHANGCLOUD_CLIENT_SECRET"),
		RedirectURL:  strings.TrimSuffix(cmp.Or(os.Getenv("PUBLIC_URL"), "http://127.0.0.1:8080/portal"), "/") + "/callback",
	})
	provider, err := shangcloud.New(site.Config, nil)
	site.Run(provider, err, func(p *shangcloud.Provider) http.Handler {
		public, err := url.Parse(site.Config.RedirectURL)
		if err != nil {
			log.Fatal(err)
		}
		return routes(p, strings.TrimSuffix(public.Path, "/callback"))
	})
}

// routes returns the application. Browsers see it under the path prefix, for example
// "/portal", or "" at the root of the host.
func routes(p *shangcloud.Provider, prefix string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		if err := p.StartLogin(w, r, oauth2login.WithReturnTo(r.FormValue("next"))); err != nil {
			loginFailed(w, err)
		}
	})
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		login, err := p.FinishLogin(w, r)
		if err != nil {
			loginFailed(w, err)
			return
		}
		// Start your session here.
		returnTo := login.ReturnTo
		if returnTo == "/" {
			returnTo = prefix + "/" // without WithReturnTo, the start page of this application, not of the host
		}
		http.Redirect(w, r, returnTo, http.StatusSeeOther)
	})
	mux.HandleFunc("GET /{page...}", func(w http.ResponseWriter, r *http.Request) {
		link := prefix + "/login?" + url.Values{"next": {prefix + r.URL.RequestURI()}}.Encode()
		if err := page.Execute(w, link); err != nil {
			log.Print(err)
		}
	})
	return stripIfThere(prefix, mux)
}

// stripIfThere removes the prefix from the path of a request if the proxy has left it
// there.
func stripIfThere(prefix string, h http.Handler) http.Handler {
	stripped := http.StripPrefix(prefix, h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if prefix != "" && strings.HasPrefix(r.URL.Path, prefix+"/") {
			stripped.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

var page = template.Must(template.New("").Parse(`<!DOCTYPE html>
<title>Portal</title>
<a href="{{.}}">Sign in</a>
`))

func loginFailed(w http.ResponseWriter, err error) {
	log.Printf("login: %v", err) // the library's errors print no secrets
	if errors.Is(err, oauth2login.ErrUnavailable) || errors.Is(err, oauth2login.ErrStateStore) {
		http.Error(w, "please try again in a minute", http.StatusServiceUnavailable)
		return
	}
	http.Error(w, "not logged in: please start again", http.StatusForbidden)
}
