// Package recipes has runnable examples of the login with other modules: an
// application's own sessions, and OpenTelemetry. Those that need none are in
// example_test.go of package shangcloud.
package recipes
