// Package docs tests the documentation: every Go block of the READMEs and of docs/*.md
// compiles, every block of the READMEs and of docs/ways.md runs, and the library really
// returns the error texts in the pages.
//
// A block of docs/*.md is a part of a program. The test adds what is missing:
//
//   - imports, for the names in the table packages (blocks_test.go);
//   - variables such as ctx, conf and provider, from testdata/prelude.go;
//   - a function around it, unless it consists of declarations.
//
// A block may set variables without using them. A block after the line "<!-- run -->" is
// also run, with the provider of testdata/prelude.go. The platform of that provider is in
// the same process. A test among them runs with go test. Translations have the same code,
// so they are not run. A block after the line "<!-- not compiled: reason -->" is not
// tested.
//
// A block that begins with a package clause is a whole file: main.go, unless its first
// line is a comment with a file name. The blocks of a README and of docs/ways.md make one
// package, with the test of docs/testing.md, the table of docs/sql.md, and the states of
// docs/clusters.md. The other blocks contain parts of programs. Empty lines separate the
// parts. The tests in testdata/readme/drive_test.go set the variables, run each part and
// check the result.
//
// For each program in examples/, a test runs the command in the doc comment. Then a user
// logs in.
package docs
