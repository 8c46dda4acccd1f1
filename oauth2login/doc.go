// Package oauth2login adds to [golang.org/x/oauth2] what it leaves to every application:
// one-time states that are bound to the browser, PKCE, device logins, and tokens that
// are refreshed, saved and shared without loss. It works with every provider of
// x/oauth2, on the application's own [oauth2.Config]. It is not another OAuth client.
//
//	github, err := oauth2login.New(&oauth2.Config{
//		ClientID: id, ClientSecret: secret, Endpoint: endpoints.GitHub,
//		RedirectURL: "https://app.example/callback/github",
//	}, nil)
//
// [New] makes a [Provider] for each row of the application's table. [Provider.StartLogin]
// is for the handler of the login link and [Provider.FinishLogin] for that of the redirect
// URL, on any router. [Provider.DeviceLogin] logs in on another device,
// [Provider.LocalLogin] through the browser of this machine.
//
// [Provider.TokenSource] keeps a token in memory, [Provider.StoredTokens] in a
// [TokenStore]. [Provider.Client] sends tokens to named origins only. [Provider.Shutdown]
// ends a program without losing what was sent.
//
// # What is guaranteed
//
// A state works once, within Options.LoginLifetime, in the browser that started the login
// and for its provider. Start and callback act on navigations only. Every login uses PKCE
// unless [WithoutPKCE] is set. A code or a refresh token is sent once, over https or to
// loopback, and along no redirect. A wrong answer is an error. No type prints a secret and
// no error quotes one. SECURITY.md has the limits.
//
// Errors are told apart with [errors.Is] and [errors.As]: the Err… variables,
// [*CallbackError], [*LoginError], and x/oauth2's [*oauth2.RetrieveError].
package oauth2login
