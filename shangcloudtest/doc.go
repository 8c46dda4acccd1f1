// Package shangcloudtest is the ShangCloud platform in one process: a real HTTP
// server to test an application against, or to show one without an account. It
// speaks what the platform's reference documentation and official clients show,
// and is strict where the platform is: a client that logs in here sends what the
// platform takes.
//
// # In a test
//
//	platform := shangcloudtest.NewServer(t)
//	platform.AddClient(shangcloudtest.Client{
//		ID:           "demo-client",
//		Secret:       "demo-secret",
//		RedirectURIs: []string{"http://127.0.0.1/callback"}, // any port
//	})
//	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小云"})
//
// Point the application at platform.URL. Then choose who plays the user:
//
//   - [Server.AutoApprove] answers every authorization request at once, so an
//     HTTP client that follows redirects logs in. [Server.AutoDeny] refuses.
//   - [Server.Approve] and [Server.Deny] take an authorization URL and return
//     the address that the browser comes back with.
//   - Otherwise the browser sees a consent page, in Chinese or English.
//   - [Server.ApproveDevice] and [Server.DenyDevice] answer a device.
//   - [Server.Issue] makes tokens without any login.
//
// [Server.Requests] tells what the application sent, [Server.Fault] makes
// requests fail, and [Server.Configure] sets what platforms may do differently,
// the clock among it. Inside a testing/synctest bubble, use [New] and
// [Server.Transport], which need no network.
//
// # In a program
//
// [Start] listens at an address. The package links neither package testing nor
// net/http/httptest, and so adds no flags.
//
// # What it does
//
//   - /oauth/authorize and its consent page; codes live one minute and work once,
//     and a second use revokes the tokens of the first.
//   - /oauth/token: authorization code, refresh token and device code. A
//     confidential client authenticates with a Basic header that holds its ID
//     and secret as they are, the one form that the platform is known to take;
//     a public one sends its client_id in the body and no header.
//   - Refresh tokens are rotated; using an old one revokes the login.
//   - PKCE with S256, and nothing else.
//   - /oauth/device_authorization and the verification page /device.
//   - /api/user/info, /oauth/userinfo and /api/varibles. Variables belong to the
//     user: all applications share them.
//
// It does not have the game rooms: give their paths to a handler of your own with
// [Server.Handle]. It does not rate-limit, and it keeps everything in memory: the
// newest 10,000 requests and 100,000 tokens of each kind.
//
// It is not a platform to run for others. Whoever opens the consent page is
// whichever user they choose.
package shangcloudtest
