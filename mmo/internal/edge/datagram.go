package edge

import "encoding/binary"

const (
	// DatagramHeader is the size of the connect id, the first bytes of every datagram.
	DatagramHeader = 8

	// MaxDatagram is the most that fits into a datagram over IPv4: 65,535 bytes less
	// the headers of IP and UDP.
	MaxDatagram = 65507
)

// AppendAuthHeader appends the header of a login datagram: the connect id 0 and the seed.
func AppendAuthHeader(dst []byte, seed [SeedSize]byte) []byte {
	return append(binary.BigEndian.AppendUint64(dst, 0), seed[:]...)
}

// AppendHeader appends the header of any other datagram: the connect id.
func AppendHeader(dst []byte, id uint64) []byte {
	return binary.BigEndian.AppendUint64(dst, id)
}

// ParseDatagram splits a datagram. If the connect id is 0, rest is for [ParseAuth].
// Otherwise rest is a payload.
func ParseDatagram(datagram []byte) (id uint64, rest []byte, ok bool) {
	if len(datagram) < DatagramHeader {
		return 0, nil, false
	}
	return binary.BigEndian.Uint64(datagram), datagram[DatagramHeader:], true
}

// ParseAuth splits the rest of a login datagram.
func ParseAuth(rest []byte) (seed [SeedSize]byte, payload []byte, ok bool) {
	if len(rest) < SeedSize {
		return seed, nil, false
	}
	return [SeedSize]byte(rest), rest[SeedSize:], true
}
