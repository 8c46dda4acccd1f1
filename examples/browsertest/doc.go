// Package browser holds tests only: they drive Chromium through the examples, as a
// person would.
//
// They need Chromium (Debian's package chromium, or a program named chromium or
// google-chrome) and, for the tests of accessibility, axe-core, which npm ci in this
// directory installs. A test whose program is missing skips; with
// SHANGCLOUD_NO_SKIP=1 it fails instead.
//
// CI runs them once. To look for tests that fail now and then, repeat them:
//
//	go test -race -count=30 -timeout 3h .
//
// The pictures in docs/ are made anew with
//
//	go test -run Screenshots -update
package browser
