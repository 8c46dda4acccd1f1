package edge_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"testing"
	"testing/iotest"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/stretchr/testify/require"
)

// frame returns a frame that claims a payload of size bytes, and holds only have bytes.
func frame(size uint32, have int) []byte {
	return append(binary.BigEndian.AppendUint32(nil, size), bytes.Repeat([]byte{7}, have)...)
}

func TestFrameVector(t *testing.T) {
	const login = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" + "00000037" +
		"a0a1a2a3a4a5a6a7a8a9aaabe794e57b3ce1668f9bd49b328d20ad9fd5c73b583a9b099755d31b835294d87bb99a6f85cbebcd0d44aadd"
	sent := append(seed[:], make([]byte, edge.FrameHeader)...)
	sent = sealVector(sent, connectKey)
	edge.PutFrameHeader(sent[edge.SeedSize:])
	require.Len(t, sent, 91)
	require.Equal(t, login, hex.EncodeToString(sent))

	payload, err := edge.ReadFrame(bytes.NewReader(unhex(t, login)[edge.SeedSize:]), nil)
	require.NoError(t, err)
	require.Equal(t, vectors[connectKey], hex.EncodeToString(payload))
}

func TestReadFrame(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want int
		err  error
	}{
		"empty payload":        {frame(0, 0), 0, nil},
		"35 bytes":             {frame(35, 35), 35, nil},
		"largest":              {frame(1<<20, 1<<20), 1 << 20, nil},
		"too long":             {frame(1<<20+1, 100), 0, edge.ErrFrame},
		"longest":              {frame(1<<32-1, 100), 0, edge.ErrFrame},
		"nothing":              {nil, 0, io.EOF},
		"half a length":        {frame(0, 0)[:2], 0, io.ErrUnexpectedEOF},
		"no payload":           {frame(40, 0), 0, io.ErrUnexpectedEOF},
		"half a payload":       {frame(40, 20), 20, io.ErrUnexpectedEOF},
		"little of a megabyte": {frame(1<<20, 5000), 5000, io.ErrUnexpectedEOF},
	} {
		for _, r := range []io.Reader{bytes.NewReader(c.in), iotest.OneByteReader(bytes.NewReader(c.in))} {
			payload, err := edge.ReadFrame(r, nil)
			require.Equal(t, c.err, err, name)
			require.Len(t, payload, c.want, name)
		}
	}
}

// A frame that claims a megabyte but holds few bytes takes little memory.
func TestReadFrameMemory(t *testing.T) {
	payload, err := edge.ReadFrame(bytes.NewReader(frame(1<<20, 100)), nil)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Less(t, cap(payload), 10<<10)
}

func TestReadFrameKeepsStorage(t *testing.T) {
	in := append(frame(100, 100), frame(50, 50)...)
	r := bytes.NewReader(in)
	buf := make([]byte, 0, 200)
	require.Zero(t, testing.AllocsPerRun(10, func() {
		r.Reset(in)
		for range 2 {
			var err error
			if buf, err = edge.ReadFrame(r, buf); err != nil {
				panic(err)
			}
		}
	}))
	require.Len(t, buf, 50)
}

func FuzzReadFrame(f *testing.F) {
	f.Add(frame(0, 0))
	f.Add(append(frame(36, 36), frame(1, 0)...))
	f.Add(frame(1<<20+1, 8))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		var buf, back []byte
		var err error
		for {
			buf, err = edge.ReadFrame(r, buf)
			if err != nil {
				break
			}
			back = append(back, frame(uint32(len(buf)), 0)...)
			back = append(back, buf...)
		}
		require.True(t, bytes.HasPrefix(in, back))
		if err == io.EOF {
			require.Equal(t, len(in), len(back))
		}
	})
}
