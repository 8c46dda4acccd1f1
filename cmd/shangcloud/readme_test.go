package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The README names every command and flag.
func TestReadmeIsComplete(t *testing.T) {
	for _, name := range []string{"README.md", "README.zh-CN.md"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, cmd := range newRoot().Commands() {
			assert.True(t, strings.Contains(string(text), "`"+cmd.Name()), "%s: %s", name, cmd.Name())
			flags := regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(cmd.UsageString(), -1)
			for _, flag := range flags {
				assert.True(t, strings.Contains(string(text), flag), "%s: %s %s", name, cmd.Name(), flag)
			}
		}
	}
}
