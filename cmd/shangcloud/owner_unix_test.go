//go:build unix

package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The settings of another user could send a secret to that user's deployment.
func TestRememberedSettingsOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	s := newPlatform(t)
	logIn(t, s, inAnHour())
	require.NoError(t, os.Chown(rememberedAt(profileDir()), 1, -1))
	r := shangcloudRun(t, "whoami")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "belongs to another user")
}
