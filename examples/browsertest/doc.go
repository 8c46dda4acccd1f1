// Package browser holds no code: its tests drive Chromium through the web
// application of examples/weblogin, as a person would.
//
// They need Chromium ("chromium" of Debian, or any that is found as chromium or
// google-chrome) and, for the tests of accessibility, axe-core, which npm ci in this
// directory installs. A test whose program is missing skips; with
// SHANGCLOUD_NO_SKIP=1 it fails instead.
//
//	go test -run Screenshots -update    # makes the pictures in docs/ anew
package browser
