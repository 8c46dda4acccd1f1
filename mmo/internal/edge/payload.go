// Package edge is the wire format of a room's edge. The client in package mmo and the
// edge in package mmotest share it.
//
// All integers are big-endian. The sizes and layouts are those of the platform's protocol
// note MMO.md and of the three official game clients.
package edge

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"
)

const (
	SeedSize  = 32
	NonceSize = 12

	// Overhead is what a payload adds to its data: nonce, time and tag.
	Overhead = NonceSize + 8 + 16

	MaxPayload = 1 << 20 // "at most 1 MB" (MMO.md); 2^20 itself is allowed
	MaxData    = MaxPayload - Overhead

	MaxConnectKey = 256

	// MaxDrift is how far the time in a payload may be from the edge's clock. The edge
	// remembers nonces for the same time.
	MaxDrift = 20 * time.Second
)

// ErrPayload reports a payload that is too short, or that does not decrypt.
var ErrPayload = errors.New("a payload does not decrypt")

// Cipher seals and opens the payloads of one connection, in both directions. It is safe
// for concurrent use.
type Cipher struct{ aead cipher.AEAD }

// NewCipher derives the key: SHA-256 of the seed.
func NewCipher(seed [SeedSize]byte) *Cipher {
	key := sha256.Sum256(seed[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the size of the key is right
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // the size of the block is right
	}
	return &Cipher{aead}
}

// Seal appends the payload of data to dst: 36 bytes more than data. The nonce has to be
// random, and fresh for each payload.
func (c *Cipher) Seal(dst []byte, nonce [NonceSize]byte, at time.Time, data string) []byte {
	start := len(dst)
	dst = append(dst, nonce[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(at.UnixMilli()))
	dst = append(dst, data...)
	head := dst[:start+NonceSize]
	return c.aead.Seal(head, head[start:], dst[start+NonceSize:], nil)
}

// Message is an opened payload.
type Message struct {
	Nonce [NonceSize]byte
	Time  time.Time // the sender's clock
	Data  []byte    // in the storage of the payload
}

// Open opens a payload in place: it overwrites payload. The error is ErrPayload.
func (c *Cipher) Open(payload []byte) (Message, error) {
	if len(payload) < Overhead {
		return Message{}, ErrPayload
	}
	nonce, sealed := payload[:NonceSize], payload[NonceSize:]
	plain, err := c.aead.Open(sealed[:0], nonce, sealed, nil)
	if err != nil {
		return Message{}, ErrPayload
	}
	return Message{
		Nonce: [NonceSize]byte(nonce),
		Time:  time.UnixMilli(int64(binary.BigEndian.Uint64(plain))),
		Data:  plain[8:],
	}, nil
}
