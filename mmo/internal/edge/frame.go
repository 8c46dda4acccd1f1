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

// PutFrameHeader writes the payload's length into the first four bytes of frame. The
// payload follows these bytes.
func PutFrameHeader(frame []byte) {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-FrameHeader))
}

// ReadFrame reads one frame and returns its payload. It reuses the memory of buf if that is
// large enough. The memory grows with the bytes that arrive, not with the length that the
// frame claims. The error is io.EOF between two frames, and io.ErrUnexpectedEOF within a
// frame.
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
