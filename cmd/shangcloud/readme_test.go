package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The README names every command and flag.
func TestReadmeIsComplete(t *testing.T) {
	for _, name := range []string{"README.md", "README.zh-CN.md"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, cmd := range everyCommand(newRoot()) {
			assert.True(t, strings.Contains(string(text), "`"+strings.TrimPrefix(cmd.CommandPath(), "shangcloud ")), "%s: %s", name, cmd.CommandPath())
			flags := regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(cmd.UsageString(), -1)
			for _, flag := range flags {
				assert.True(t, strings.Contains(string(text), flag), "%s: %s %s", name, cmd.Name(), flag)
			}
		}
	}
}

// Help is at most 80 columns wide, apart from the lists of flags and commands, which cobra
// prints.
func TestHelpIsNarrow(t *testing.T) {
	for _, cmd := range everyCommand(newRoot()) {
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			assert.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), 80, "%s: %s", cmd.CommandPath(), line)
		}
	}
}

// everyCommand returns the commands below cmd.
func everyCommand(cmd *cobra.Command) (all []*cobra.Command) {
	for _, sub := range cmd.Commands() {
		all = append(append(all, sub), everyCommand(sub)...)
	}
	return all
}
