// Package oauth2login adds the parts of a login that [golang.org/x/oauth2] leaves to the
// application: one-time states that are bound to the browser, PKCE, device logins, and
// tokens that are refreshed, saved and shared without loss. It works with every provider
// of x/oauth2 and uses the application's own [oauth2.Config]. It is not another OAuth
// client.
//
//	github, err := oauth2login.New(&oauth2.Config{
//		ClientID: id, ClientSecret: secret, Endpoint: endpoints.GitHub,
//		RedirectURL: "https://app.example/callback/github",
//	}, nil)
//
// [New] makes a [Provider]. Make one for each provider that users can log in with. Call
// [Provider.StartLogin] in the handler of the login link, and [Provider.FinishLogin] in
// the handler of the redirect URL. Any router works. With [Provider.DeviceLogin] the user
// logs in on another device, with [Provider.LocalLogin] in the browser of this machine.
//
// [Provider.TokenSource] keeps a token in memory. [Provider.StoredTokens] keeps it in a
// [TokenStore]. [Provider.Client] sends tokens only to the origins it was made for. Call
// [Provider.Shutdown] before the program exits, so that no answer with a token is lost.
//
// # What is guaranteed
//
// A state works once, within Options.LoginLifetime, in the browser that started the login
// and for its provider. StartLogin and FinishLogin act on navigations only. Every login
// uses PKCE unless [WithoutPKCE] is set. A code or a refresh token is sent once, over
// https or to a loopback host. Redirects are not followed. An invalid answer is an error.
// No type prints a secret, and no error quotes one. SECURITY.md lists the limits of these
// guarantees.
//
// Distinguish errors with [errors.Is] and [errors.As]: the Err… variables,
// [*CallbackError], [*LoginError], and x/oauth2's [*oauth2.RetrieveError].
package oauth2login
