// Package shangcloudtest is an imitation of the ShangCloud platform in one process. It
// is a real HTTP server for tests and for demonstrations without an account. It follows
// the platform's reference documentation and official clients. It is as strict as the
// platform: a client that works here sends the requests that the platform accepts.
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
// Point the application at platform.URL. There are several ways to play the user:
//
//   - [Server.AutoApprove] allows every authorization request at once, so an HTTP
//     client that follows redirects logs in. [Server.AutoDeny] denies every request.
//   - [Server.Approve] and [Server.Deny] take an authorization URL and return the
//     URL of the application's callback.
//   - Without them the browser shows a consent page, in Chinese or English.
//   - [Server.ApproveDevice] and [Server.DenyDevice] answer a device login.
//   - [Server.Issue] issues tokens without a login.
//
// [Server.Requests] returns the requests of the application. [Server.Fault] makes
// requests fail. [Server.Configure] changes the clock and the details in which
// platforms differ. In a testing/synctest bubble use [New] and [Server.Transport],
// which need no network.
//
// # In a program
//
// [Start] listens on an address. The package imports neither testing nor
// net/http/httptest, so it adds no flags to the program.
//
// # What it supports
//
//   - /oauth/authorize with a consent page. A code lives one minute and works once. A
//     second use revokes the tokens of the first.
//   - /oauth/token with authorization codes, refresh tokens and device codes. A
//     confidential client sends its ID and secret in a Basic header, without
//     percent-encoding. The platform is known to accept only this form. A public
//     client sends its client_id in the body and no header.
//   - Rotation of refresh tokens. The use of an old one revokes the login.
//   - PKCE with S256 only.
//   - /oauth/device_authorization and the verification page /device.
//   - /api/user/info, /oauth/userinfo and /api/varibles. All applications of a user
//     share the user's variables.
//
// It has no game rooms. [Server.Handle] can add them. It has no rate limits. It keeps
// everything in memory: the newest 10,000 requests and 100,000 tokens of each kind.
//
// It has no passwords: on the consent page anybody can choose any user. Do not make it
// reachable from other machines.
package shangcloudtest
