// Package browser holds tests only. They use the examples in Chromium, as a person does.
//
// They need Chromium (Debian's package chromium, or a program named chromium or
// google-chrome). Two tests need nginx (Debian's package nginx-light). The test of
// accessibility needs axe-core, which npm ci in this directory installs. A test skips if
// its program is missing. With SHANGCLOUD_NO_SKIP=1 it fails instead.
//
// All tests share one browser, and run side by side.
//
// CI runs them once. To find a test that fails now and then, repeat them:
//
//	go test -race -count=30 -timeout 3h ./...
//
// To take the pictures in docs/ again:
//
//	go test -run Screenshots -update
package browser
