// Package shangcloudtest is an imitation of the ShangCloud platform in one process. It is a
// real HTTP server for tests, and for demonstrations without an account. It is as strict as
// the platform: a client that works here sends the requests that the platform accepts.
//
//	platform := shangcloudtest.NewServer(t)
//	platform.AddClient(shangcloudtest.Client{
//		ID: "app", Secret: "s3cret", RedirectURIs: []string{"http://127.0.0.1/callback"}, // any port
//	})
//	platform.AddUser(shangcloudtest.User{ID: 10001, Nickname: "小明"})
//	conf.Endpoint = shangcloud.EndpointAt(platform.URL)
//
// [Server.Approve] and [Server.Deny] play the user: they take an authorization URL and
// return the callback URL. With [Server.AutoApprove] the server itself answers for the
// user. This is for HTTP clients that follow redirects. [Server.ApproveDevice] answers for
// the user of a device. A person can answer on the consent page. On that page anybody can
// choose any user, so do not make the server reachable from other machines.
//
// [Server.Fault] makes requests fail. [Server.Requests] returns the requests that the
// server received. [Server.Configure] changes the clock, and details in which platforms
// differ. In a testing/synctest bubble, use [New] and [Server.Transport]. In a program that
// is not a test, use [Start]. The package adds no flags to the program: it imports neither
// testing nor net/http/httptest.
//
// docs/testing.md lists what the package imitates and what it does not.
package shangcloudtest
