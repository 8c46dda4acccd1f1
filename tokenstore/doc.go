// Package tokenstore keeps users' tokens, so that users need not log in again when a
// program starts anew.
//
//   - [File] is for a command-line program: a file that only its owner can read.
//   - [Memory] is for tests and demos.
//   - Package tokenstore/keyring, a module of its own, is [File] with a key in the
//     system's keyring.
//   - [Encrypted] encrypts the tokens of any other store.
//
// Packages sqlstore and redisstore keep the tokens of a web application. If you write your
// own store, it needs the methods of oauth2login.TokenStore. If several processes share
// it, it also needs LockToken. Package tokenstoretest tests such a store. [Marshal] and
// [Unmarshal] turn tokens into JSON without losing the granted scope and the ID token.
//
//	file, err := tokenstore.NewFile(path)
//	src := provider.StoredTokens(file)
//	tok, err := src.Token()               // oauth2login.ErrLoginRequired: log in, then
//	err = src.SetToken(ctx, login.Token)  // saved now
//	…
//	err = src.Delete(ctx)                 // logged out
//
// docs/tokens.md describes the files and the encryption. It also says which losses a lock
// can't prevent.
package tokenstore
