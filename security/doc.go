// Package security contains attacks as tests. The tests use the public API only. They cover
// hostile servers, generated callbacks and answers, floods, printed values, and requests on
// the wire. SECURITY.md names the tests.
//
// With SHANGCLOUD_LONG_TESTS=1 the generators make 100,000 callbacks and 10,000 answers.
// Every endpoint then also gives the answers that are megabytes long.
package security
