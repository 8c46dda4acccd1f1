// Package tokenstore keeps users' tokens, so that they need not log in again when
// a program starts anew, and so that of several processes with one user's token
// one refreshes it. Each store is a [shangcloud.TokenStore] and, for one user, a
// [shangcloud.TokenLocker].
//
//   - [File], for a command-line program: a file that only its owner can read.
//   - [SQL], for a web application: a table with a row for each user, encrypted
//     if there are keys.
//   - [Memory], for tests and demos.
//
// A store of one's own is two methods on a row of the users table, and a third one
// for the lock; package tokenstoretest holds it to the contract.
//
// # Logging in, out, and in again
//
//	file, err := tokenstore.NewFile(path)
//	src := provider.TokenSource(nil, file)  // begin with what is stored
//	tok, err := src.Token()                 // shangcloud.ErrLoginRequired: log in, then
//	err = src.SetToken(ctx, newToken)       // in force, and stored
//	…
//	err = file.SaveToken(ctx, nil)          // logged out: no token is left
//
// # What a lock can do, and what it can't
//
// With rotation, a refresh token works once, and using it twice looks like theft:
// the platform ends the login (RFC 9700, section 4.14.2). Under the lock of these
// stores it is used once, by any number of processes, and a process that dies
// while it holds the lock blocks nobody.
//
// One loss is beyond any client: a process that dies after the platform has taken
// its refresh token, and before the answer has been saved, takes the new token
// with it. That window is as long as the answer's way and a save, a few
// milliseconds, once per refresh. The next refresh by another process then gives
// [shangcloud.ErrLoginRequired], and the user logs in again. A program that ends in
// an orderly way should let calls of Token return first.
package tokenstore
