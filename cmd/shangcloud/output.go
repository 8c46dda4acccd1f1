package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// printLine prints one line. Control characters in its values are replaced.
func printLine(cmd *cobra.Command, format string, args ...any) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), oneLine(fmt.Sprintf(format, args...)))
	return err
}

// printJSON prints one line of JSON. Package json leaves some control characters as they
// are; they are escaped, too.
func printJSON(cmd *cobra.Command, v any) error {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	var safe strings.Builder
	for _, c := range line.String() {
		if isControl(c) && c != '\n' {
			fmt.Fprintf(&safe, `\u%04x`, c)
		} else {
			safe.WriteRune(c)
		}
	}
	_, err := io.WriteString(cmd.OutOrStdout(), safe.String())
	return err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
