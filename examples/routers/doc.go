// Package routers is a set of examples: logins with ShangCloud on the routers and in the
// environments that Go applications use. Each example is tested.
//
//   - nethttp, chi, gin, echo: whole programs of at most 40 lines of code.
//   - prefix: several instances of an application behind a reverse proxy. The proxy ends
//     TLS and serves the application under a path.
//   - spa: a page of JavaScript with a JSON API.
//   - recipes: logins with an application's own sessions, and with OpenTelemetry.
//
// All examples are in one module, because nobody imports it. The dependencies of the gin
// example are no burden to readers of the chi example.
//
// Every program runs without an account, from the root of a clone:
//
//	go -C examples/routers run ./chi
//
// The program uses a stand-in for ShangCloud that it runs itself, unless these are set:
//
//	SHANGCLOUD_CLIENT_ID      the application's ID, from the developer console
//	SHANGCLOUD_CLIENT_SECRET  its secret
//
// To use the real platform, register http://127.0.0.1:8080/callback as the redirect URL
// there. A router's access log should leave out the query of the callback, which contains
// a code and a state. The loggers of gin.Default, Echo and chi write the query. For each
// router, docs/browsers.md shows a logger that leaves the query out.
package routers
