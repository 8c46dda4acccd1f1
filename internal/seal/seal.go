// Package seal encrypts data that leaves the application and has to come back
// unchanged: a token in a database, a login in a browser's cookie.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Sealed data has this layout:
//
//	V1 | key ID (8 bytes) | nonce (12 bytes) | ciphertext | tag (16 bytes)
//
// The key ID is a hash of the key, so it needs no configuration. Open uses it to
// find the right key without trying all of them.
const (
	// V1 is the first byte of sealed data.
	V1 = 0x01

	// KeySize is the size of a key in bytes: that of AES-256.
	KeySize = 32

	// Overhead is the number of bytes that Seal adds.
	Overhead = headerSize + 12 + 16

	keyIDSize  = 8
	headerSize = 1 + keyIDSize
)

// The errors of [Keys.Open].
var (
	ErrFormat     = errors.New("not in the sealed format")
	ErrUnknownKey = errors.New("sealed with an unknown key")
	ErrAltered    = errors.New("altered, or sealed for another place")
)

type keyID [keyIDSize]byte

// Keys is a list of keys. The first key seals, and all keys open. Keys are safe for
// concurrent use.
//
// A place is where sealed data belongs, for example a table and a user: see [Keys.Seal].
// Each place has its own key, derived with HKDF and SHA-256. Random nonces are safe for 2³²
// messages under one key (NIST SP 800-38D, section 8.3), so this limit applies to each
// place separately.
type Keys struct {
	first keyID
	byID  map[keyID][]byte
}

// New returns Keys with copies of keys. It refuses an empty list, a key that does not have
// [KeySize] bytes, a key of zeros, and a duplicate key. The error contains the index of the
// wrong key, but not the key.
func New(keys [][]byte) (*Keys, error) {
	if len(keys) == 0 {
		return nil, errors.New("no key is given")
	}
	k := &Keys{first: idOf(keys[0]), byID: make(map[keyID][]byte)}
	for i, key := range keys {
		if len(key) != KeySize {
			return nil, fmt.Errorf("key %d has %d bytes, not %d", i, len(key), KeySize)
		}
		if bytes.Equal(key, make([]byte, KeySize)) {
			return nil, fmt.Errorf("key %d is all zeros", i)
		}
		id := idOf(key)
		if k.byID[id] != nil {
			return nil, fmt.Errorf("key %d is a duplicate", i)
		}
		k.byID[id] = bytes.Clone(key)
	}
	return k, nil
}

func idOf(key []byte) keyID {
	h := sha256.Sum256(append([]byte("shangcloud key ID\x00"), key...))
	return keyID(h[:keyIDSize])
}

// Seal encrypts data for one place, for example the name of a table and the ID of a user.
// Open needs the same key and the same place. The first part of a place names its purpose,
// so that data for different purposes never shares a place.
func (k *Keys) Seal(data []byte, place ...string) []byte {
	header := append(make([]byte, 0, len(data)+Overhead), V1)
	header = append(header, k.first[:]...)
	return aeadFor(k.byID[k.first], place).Seal(header, nil, data, header)
}

// Open decrypts data that [Keys.Seal] encrypted for the same place.
func (k *Keys) Open(sealed []byte, place ...string) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != V1 {
		return nil, ErrFormat
	}
	header := sealed[:headerSize]
	key := k.byID[keyID(header[1:])]
	if key == nil {
		return nil, ErrUnknownKey
	}
	data, err := aeadFor(key, place).Open(nil, nil, sealed[headerSize:], header)
	if err != nil {
		return nil, ErrAltered
	}
	return data, nil
}

// aeadFor returns AES-256-GCM with the key of a place. It writes the length before each
// part, so that ("ab", "c") and ("a", "bc") are different places.
func aeadFor(key []byte, place []string) cipher.AEAD {
	var info []byte
	for _, part := range place {
		info = binary.BigEndian.AppendUint64(info, uint64(len(part)))
		info = append(info, part...)
	}
	placeKey, err := hkdf.Expand(sha256.New, key, string(info), KeySize)
	if err != nil {
		panic(err) // cannot happen: KeySize is valid
	}
	block, err := aes.NewCipher(placeKey)
	if err != nil {
		panic(err) // cannot happen: KeySize is valid
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // cannot happen: AES has the block size of GCM
	}
	return aead
}
