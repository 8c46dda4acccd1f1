// Package keyring keeps one user's token, encrypted, in a file; the key is in the system's
// keyring. It is for command-line and desktop programs.
//
//	store, err := keyring.New("my-program", path)
//	err = store.Check(ctx)  // *keyring.UnavailableError: keep the token in a tokenstore.File
//	src := provider.StoredTokens(store)
//
// The keyring is the Secret Service on Linux and the BSDs (GNOME Keyring, KWallet,
// KeePassXC), the Keychain on macOS, and the Credential Manager on Windows. Each call obeys
// its context: a keyring that is missing, locked or stuck is an error, and never a hang.
//
// Keyrings limit the length of an entry (2,560 bytes on Windows), and can't replace an
// entry in one step. So the keyring holds only a key of 32 bytes. The token is in a
// tokenstore.File, which can have any length, is replaced in one step, and has a lock
// between processes.
//
// docs/tokens.md explains what this protects against, and what it does not.
package keyring
