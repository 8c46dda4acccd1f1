package main

import (
	"strings"

	"rsc.io/qr"
)

const (
	// quiet is the margin that the standard demands, in modules.
	quiet = 4

	// Black on white, whatever the terminal's own colours are.
	qrColours, resetColours = "\x1b[38;5;16;48;5;231m", "\x1b[0m"
)

// qrCode draws text as a QR code. A line of the terminal holds two rows of the code.
func qrCode(text string) (string, error) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		b.WriteString("  " + qrColours)
		for x := -quiet; x < code.Size+quiet; x++ {
			b.WriteString(halfBlock(code.Black(x, y), code.Black(x, y+1)))
		}
		b.WriteString(resetColours + "\n")
	}
	return b.String(), nil
}

func halfBlock(upper, lower bool) string {
	switch {
	case upper && lower:
		return "█"
	case upper:
		return "▀"
	case lower:
		return "▄"
	default:
		return " "
	}
}
