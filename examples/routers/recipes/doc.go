// Package recipes has runnable examples of the login together with other modules: a
// session library, and OpenTelemetry. Examples without other modules are in
// example_test.go of package shangcloud.
package recipes
