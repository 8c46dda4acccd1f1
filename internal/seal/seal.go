// Package seal encrypts what leaves an application's hands and has to come back as
// it was: a token in a database, a login in a browser's cookie.
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

// What is sealed looks like this:
//
//	V1 | key ID (8 bytes) | nonce (12 bytes) | ciphertext | tag (16 bytes)
//
// The key ID is a hash of the key, so it need not be told or configured, and the
// right one of several keys is found without trying them all.
const (
	// V1 is the first byte of all that is sealed.
	V1 = 0x01

	// KeySize is that of AES-256, in bytes.
	KeySize = 32

	// Overhead is how many bytes longer than data what is sealed is.
	Overhead = headerSize + 12 + 16

	keyIDSize  = 8
	headerSize = 1 + keyIDSize
)

// What Open fails with.
var (
	ErrFormat     = errors.New("not sealed at all")
	ErrUnknownKey = errors.New("sealed with a key that is not there")
	ErrAltered    = errors.New("altered, or sealed for another place")
)

type keyID [keyIDSize]byte

// Keys seal with the first of them and open with all. They are safe for concurrent
// use.
//
// Every place has a key of its own (HKDF with SHA-256), and random nonces are safe
// for 2³² messages under one key (NIST SP 800-38D, section 8.3): that is a limit of
// what is sealed for one place, not of all.
type Keys struct {
	first keyID
	byID  map[keyID][]byte
}

// New refuses keys that are not 32 bytes long, all zeros, or there twice. The error
// says which, by its index, and does not quote it.
func New(keys [][]byte) (*Keys, error) {
	if len(keys) == 0 {
		return nil, errors.New("there is no key")
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
			return nil, fmt.Errorf("key %d is there twice", i)
		}
		k.byID[id] = bytes.Clone(key)
	}
	return k, nil
}

func idOf(key []byte) keyID {
	h := sha256.Sum256(append([]byte("shangcloud key ID\x00"), key...))
	return keyID(h[:keyIDSize])
}

// Seal encrypts data for a place, which begins with what it is for: it opens nowhere
// else.
func (k *Keys) Seal(data []byte, place ...string) []byte {
	header := append(make([]byte, 0, len(data)+Overhead), V1)
	header = append(header, k.first[:]...)
	return aeadFor(k.byID[k.first], place).Seal(header, nil, data, header)
}

// Open undoes Seal.
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

// aeadFor returns AES-256-GCM with the key of a place. A length before each part
// keeps places apart that would read the same.
func aeadFor(key []byte, place []string) cipher.AEAD {
	var info []byte
	for _, part := range place {
		info = binary.BigEndian.AppendUint64(info, uint64(len(part)))
		info = append(info, part...)
	}
	own, err := hkdf.Expand(sha256.New, key, string(info), KeySize)
	if err != nil {
		panic(err) // the size is right
	}
	block, err := aes.NewCipher(own)
	if err != nil {
		panic(err) // the size is right
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // the block size is right
	}
	return aead
}
