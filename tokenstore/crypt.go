package tokenstore

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// A stored token is JSON, which begins with '{', or is encrypted and begins with
// sealedV1:
//
//	sealedV1 | key ID (8 bytes) | nonce (12 bytes) | ciphertext | tag (16 bytes)
//
// The key ID is a hash of the key, so it need not be told or configured, and the
// right one of several keys is found without trying them all.
const (
	sealedV1  = 0x01
	keySize   = 32 // AES-256
	keyIDSize = 8
)

type keyID [keyIDSize]byte

// sealer encrypts with AES-256-GCM and a random nonce. The zero value, or one
// without keys, leaves data as it is.
//
// Random nonces are safe for 2³² messages under one key (NIST SP 800-38D, section
// 8.3): a million users whose tokens are refreshed every hour take half a year.
type sealer struct {
	writes    keyID // the one for new data
	keys      map[keyID]cipher.AEAD
	plaintext bool // data that is not encrypted is read too, though there are keys
}

func newSealer(keys [][]byte, plaintext bool) (*sealer, error) {
	s := &sealer{keys: make(map[keyID]cipher.AEAD), plaintext: plaintext}
	for i, key := range keys {
		if len(key) != keySize {
			return nil, fmt.Errorf("key %d has %d bytes, not %d", i, len(key), keySize)
		}
		if bytes.Equal(key, make([]byte, keySize)) {
			return nil, fmt.Errorf("key %d is all zeros", i)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		id := idOf(key)
		if _, twice := s.keys[id]; twice {
			return nil, fmt.Errorf("key %d is there twice", i)
		}
		s.keys[id] = aead
		if i == 0 {
			s.writes = id
		}
	}
	return s, nil
}

func idOf(key []byte) keyID {
	h := sha256.Sum256(append([]byte("shangcloud/tokenstore key ID\x00"), key...))
	return keyID(h[:keyIDSize])
}

// seal encrypts data for the place that it is stored in: it opens nowhere else.
func (s *sealer) seal(data []byte, place ...string) []byte {
	if len(s.keys) == 0 {
		return data
	}
	header := append([]byte{sealedV1}, s.writes[:]...)
	return s.keys[s.writes].Seal(header, nil, data, additional(header, place))
}

var (
	errNotEncrypted = errors.New("the stored token is not encrypted, and ReadPlaintext is not set")
	errNoKeys       = errors.New("the stored token is encrypted, and there are no Keys")
	errUnknownKey   = errors.New("the stored token is encrypted with a key that is not one of Keys")
	errAltered      = errors.New("the stored token was altered, or copied from another user or table")
	errFormat       = errors.New("what is stored is not a token")
)

// open undoes seal.
func (s *sealer) open(data []byte, place ...string) ([]byte, error) {
	switch {
	case len(data) == 0:
		return nil, errFormat
	case data[0] == '{' && len(s.keys) > 0 && !s.plaintext:
		return nil, errNotEncrypted
	case data[0] == '{':
		return data, nil
	case data[0] != sealedV1 || len(data) < 1+keyIDSize:
		return nil, errFormat
	case len(s.keys) == 0:
		return nil, errNoKeys
	}
	header, sealed := data[:1+keyIDSize], data[1+keyIDSize:]
	aead := s.keys[keyID(header[1:])]
	if aead == nil {
		return nil, errUnknownKey
	}
	plain, err := aead.Open(nil, nil, sealed, additional(header, place))
	if err != nil {
		return nil, errAltered
	}
	return plain, nil
}

// additional joins header and place so that no two of them look alike.
func additional(header []byte, place []string) []byte {
	all := bytes.Clone(header)
	for _, s := range place {
		all = binary.BigEndian.AppendUint64(all, uint64(len(s)))
		all = append(all, s...)
	}
	return all
}
