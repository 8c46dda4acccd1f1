package seal

import (
	"crypto/hkdf"
	"crypto/sha256"
)

// FromSecret returns Keys with one key. It derives the key from secret for one purpose
// (HKDF, RFC 5869). The secret must have at least 128 random bits.
func FromSecret(secret, purpose string) *Keys {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, purpose, KeySize)
	if err != nil {
		panic(err) // cannot happen: KeySize is valid
	}
	k, err := New([][]byte{key})
	if err != nil {
		panic(err) // cannot happen: KeySize is valid
	}
	return k
}
