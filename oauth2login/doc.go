// Package oauth2login adds to [golang.org/x/oauth2] what it leaves to every application:
// one-time states that are bound to the browser, PKCE, device logins, and tokens that
// are refreshed, saved and shared without loss. It works with every provider of
// x/oauth2, on the application's own [oauth2.Config].
//
// It is not another OAuth client: x/oauth2 is. Its types go in and come out.
//
// # A login
//
// [New] makes a [Provider] for each row of the application's table.
// [Provider.StartLogin] is the handler of the login link and [Provider.FinishLogin] that
// of the redirect URL, on any router. With [Provider.DeviceLogin] the user logs in on
// another device. [Provider.StartUnbound] is for logins that no browser starts.
//
//	provider, err := oauth2login.New(&oauth2.Config{
//		ClientID: id, ClientSecret: secret, Endpoint: endpoints.GitHub,
//		RedirectURL: "https://app.example/callback/github",
//	}, nil)
//
// # Tokens
//
// [Provider.TokenSource] keeps a token in memory, [Provider.StoredTokens] in a
// [TokenStore]; [TokenSource.SetToken] saves the token of a login, and
// [TokenSource.Delete] logs out. [Provider.Client] sends tokens to named origins only.
// [Provider.Shutdown] ends a program without losing what was sent.
//
// # What is guaranteed
//
// A state has at least 128 random bits, lives for Options.LoginLifetime, and is redeemed
// once, by the browser and for the provider that it was made for. Every login uses PKCE
// with S256 unless [WithoutPKCE] is set. What a login remembers is sealed with a key from
// the browser's secret. A code or a refresh token is sent once, with the whole time-out,
// to the configured endpoint, over https or to loopback, and along no redirect. An
// answer that is not what it should be is an error. Start and callback act on
// navigations only: nobody clicked, nothing happens.
//
// No type of this package prints a secret, and no error's text quotes one. (Of a value in
// an unexported field of a struct, package fmt prints the fields; no method can prevent
// that. The types that it concerns say so.) Of plain x/oauth2 the guarantees for requests
// hold with [Provider.ClientContext], but an [oauth2.RetrieveError] prints the answer's
// body.
//
// A cookie can be planted from another port of the same host, and without https by a
// sibling subdomain, too: see SECURITY.md.
//
// # Errors
//
// Errors are told apart with [errors.Is] and [errors.As]: the Err… variables,
// [*CallbackError], [*LoginError], and x/oauth2's [*oauth2.RetrieveError], which stays in
// the chain.
package oauth2login
