//go:build !unix

package main

import "io/fs"

// isForeign reports nothing here: this system has no owners that Go knows.
func isForeign(fs.FileInfo) bool { return false }
