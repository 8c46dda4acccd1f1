// Package shangcloudtest is an imitation of the ShangCloud platform in one process: a
// real HTTP server for tests, and for demonstrations without an account. It is as strict
// as the platform: a client that works here sends the requests that the platform accepts.
//
//	platform := shangcloudtest.NewServer(t)
//	platform.AddClient(shangcloudtest.Client{
//		ID: "app", Secret: "s3cret", RedirectURIs: []string{"http://127.0.0.1/callback"}, // any port
//	})
//	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明"})
//	conf.Endpoint = shangcloud.EndpointAt(platform.URL)
//
// The user is played by [Server.Approve] and [Server.Deny], which take an authorization
// URL and return that of the callback; by [Server.AutoApprove], for HTTP clients that
// follow redirects; by [Server.ApproveDevice]; or by a person, on a consent page. On that
// page anybody can choose any user: do not make it reachable from other machines.
//
// [Server.Fault] makes requests fail, [Server.Requests] returns those of the application,
// and [Server.Configure] changes the clock and the details in which platforms differ. In a
// testing/synctest bubble use [New] and [Server.Transport]. A program uses [Start]. The
// package adds no flags to it: it imports neither testing nor net/http/httptest.
//
// docs/testing.md says what is imitated, and what is not.
package shangcloudtest
