// Package routers is a set of examples: login with ShangCloud on the routers that Go
// applications use, and at the places where they run. Each one is tested.
//
//   - nethttp, chi, gin, echo: whole programs of at most 40 lines of code.
//   - prefix: behind a reverse proxy that ends TLS and serves the application under
//     a path; several instances of it.
//   - spa: a page of JavaScript with a JSON API.
//   - recipes: with an application's own sessions, and with OpenTelemetry.
//
// They are one module because nobody imports it: what gin needs is no burden to
// those who read how to do it with chi.
//
// Every program runs without an account, from the root of a clone:
//
//	go -C examples/routers run ./chi
//
// A ShangCloud inside the program takes the real one's place, unless these are set:
//
//	SHANGCLOUD_CLIENT_ID      the application's ID, from the developer console
//	SHANGCLOUD_CLIENT_SECRET  its secret
//
// The real one needs http://127.0.0.1:8080/callback registered as the redirect URL. A
// router's access log should leave out the query of the callback, which holds a code and a
// state: gin.Default and Echo's and chi's loggers write it. docs/browsers.md shows, for each
// router, a logger that does not.
package routers
