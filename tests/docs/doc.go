// Package docs tests the documentation: every Go block of the READMEs and of docs/*.md
// compiles, those of the READMEs are run, and the error texts that the pages name are real.
//
// A block of docs/*.md is a part of a program. The test adds what is missing:
//
//   - imports, for the names in the table packages (blocks_test.go);
//   - variables such as ctx, conf and provider, from testdata/prelude.go;
//   - a function around it, unless it consists of declarations.
//
// Variables that the block sets and does not use are no error. A block after the line
// "<!-- run -->" is also run, with the provider of testdata/prelude.go, whose platform is
// in the same process. Translations have the same code, and are not run.
// "<!-- not compiled: reason -->" before a block leaves it out.
//
// The blocks of a README make one package. A block that begins with a package clause is a
// whole file: main.go, unless its first line is a comment with a file name. All others are
// parts of programs, one from each empty line to the next. Tests in
// testdata/readme/drive_test.go run each part, with other variables, and look at what
// comes of it.
//
// Each program in examples/ is started by the command in its doc comment, and a user logs in.
package docs
