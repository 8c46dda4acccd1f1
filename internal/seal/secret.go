package seal

import (
	"crypto/hkdf"
	"crypto/sha256"
)

// FromSecret returns keys that are derived from a secret of at least 128 random bits
// (RFC 5869), for one purpose.
func FromSecret(secret, purpose string) *Keys {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, purpose, KeySize)
	if err != nil {
		panic(err) // the size is right
	}
	k, err := New([][]byte{key})
	if err != nil {
		panic(err) // the size is right
	}
	return k
}
