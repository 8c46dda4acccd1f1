package edge

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// FrameHeader is the size of a TCP frame's length.
const FrameHeader = 4

// ErrFrame reports a frame whose payload is longer than MaxPayload.
var ErrFrame = errors.New("a frame is longer than 1 MiB")

// PutFrameHeader writes the length of the payload that follows the first four bytes of
// frame.
func PutFrameHeader(frame []byte) {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-FrameHeader))
}

// ReadFrame reads one frame and returns its payload, in the storage of buf if that is
// large enough. The storage grows with what arrives, not with the length that the frame
// claims. Between two frames the error is io.EOF, in a frame io.ErrUnexpectedEOF.
func ReadFrame(r io.Reader, buf []byte) ([]byte, error) {
	buf = slices.Grow(buf[:0], FrameHeader)[:FrameHeader] // an array of its own would escape to the heap
	if _, err := io.ReadFull(r, buf); err != nil {
		return buf[:0], err
	}
	size := binary.BigEndian.Uint32(buf)
	buf = buf[:0]
	if size > MaxPayload {
		return buf, ErrFrame
	}
	for have := 0; have < int(size); have = len(buf) {
		step := min(int(size)-have, max(cap(buf)-have, have, 4<<10))
		buf = slices.Grow(buf, step)[:have+step]
		if n, err := io.ReadFull(r, buf[have:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return buf[:have+n], err
		}
	}
	return buf, nil
}
