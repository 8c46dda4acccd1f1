package main

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSettingsAreRemembered(t *testing.T) {
	s := newPlatform(t)
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte(testSecret+"\r\n"), 0o600))
	t.Setenv("SHANGCLOUD_CLIENT_ID", "app")
	t.Setenv("SHANGCLOUD_CLIENT_SECRET_FILE", secret)
	logIn(t, s, time.Now().Add(-time.Minute))
	for _, name := range []string{"SHANGCLOUD_BASE_URL", "SHANGCLOUD_CLIENT_ID", "SHANGCLOUD_CLIENT_SECRET_FILE"} {
		t.Setenv(name, "")
	}
	assert.Contains(t, succeed(t, "whoami"), "小云", "the refresh needs the secret")

	// Another client or deployment gets neither the secret's file nor the token.
	for _, args := range [][]string{{"--client-id", "cli"}, {"--base-url", shangcloud.DefaultBaseURL, "--client-id", "app"}} {
		var other settings
		cmd := newWhoami()
		other.addTo(cmd.InheritedFlags())
		require.NoError(t, cmd.InheritedFlags().Parse(args))
		k, err := other.resolve(profileDir())
		require.NoError(t, err)
		assert.Empty(t, k.SecretFile)
		assert.Equal(t, exitLoginRequired, shangcloudRun(t, append([]string{"whoami"}, args...)...).code)
	}
}

// A token is sent only to the deployment that issued it, whatever the environment says.
func TestTokenStaysWithItsDeployment(t *testing.T) {
	s := newPlatform(t)
	access, _ := logIn(t, s, inAnHour())
	expired, _ := logIn(t, s, time.Now().Add(-time.Minute))
	other := shangcloudtest.NewServer(t)
	other.AddClient(shangcloudtest.Client{ID: "cli"})
	t.Setenv("SHANGCLOUD_BASE_URL", other.URL)
	for _, command := range []string{"whoami", "token", "status"} {
		r := shangcloudRun(t, command)
		assert.Equal(t, exitLoginRequired, r.code, r.stderr)
		assert.NotContains(t, r.stdout, access)
		assert.NotContains(t, r.stdout, expired)
	}
	assert.Empty(t, other.Requests())
	t.Setenv("SHANGCLOUD_BASE_URL", s.URL+"/") // the same one
	assert.Contains(t, succeed(t, "whoami"), "小云")
}

func TestProfiles(t *testing.T) {
	s := newPlatform(t)
	s.AddUser(shangcloudtest.User{ID: 10002, Nickname: "Ada"})
	t.Setenv("SHANGCLOUD_CONFIG_DIR", "")
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("AppData", home)
	logIn(t, s, inAnHour())
	assert.Contains(t, succeed(t, "whoami"), "小云")
	r := shangcloudRun(t, "whoami", "--profile", "work")
	assert.Equal(t, exitLoginRequired, r.code)
	assert.Equal(t, "shangcloud: not logged in to "+s.URL+"; run: shangcloud login --profile work\n", r.stderr)
	t.Setenv("SHANGCLOUD_PROFILE", "work")
	logIn(t, s, inAnHour())
	assert.Contains(t, succeed(t, "status"), filepath.Join("shangcloud", "work", "token-"))
	assert.Contains(t, succeed(t, "status", "--profile", "default"), filepath.Join("shangcloud", "default", "token-"))
	succeed(t, "logout")
	assert.Contains(t, succeed(t, "whoami", "--profile", "default"), "小云")

	t.Setenv("HOME", "")
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("AppData", "")
	r = shangcloudRun(t, "whoami")
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.stderr, "set --config-dir")
}

func TestRememberedSettingsThatAreUnusable(t *testing.T) {
	s := newPlatform(t)
	logIn(t, s, inAnHour())
	path := rememberedAt(profileDir())
	good, err := os.ReadFile(path)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(path, []byte(`{"base_url"`), 0o600))
	r := shangcloudRun(t, "whoami")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "can't be read")

	if runtime.GOOS != "windows" {
		require.NoError(t, os.WriteFile(path, good, 0o600))
		require.NoError(t, os.Chmod(path, 0o622))
		r = shangcloudRun(t, "whoami")
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.stderr, "others may write")
	}

	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	r = shangcloudRun(t, "whoami")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "is not a file", "a pipe would hang")

	require.Error(t, remember(profileDir(), known{}), "a folder stands in the way")
	left, err := filepath.Glob(path + "*.tmp")
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.Error(t, remember(filepath.Join(path, "missing"), known{}))
}

func TestDisplay(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		t.Setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
		assert.False(t, hasDisplay())
		return
	}
	for _, name := range []string{"DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"} {
		t.Setenv(name, "")
	}
	assert.False(t, hasDisplay())
	t.Setenv("WAYLAND_DISPLAY", "wayland-0")
	assert.True(t, hasDisplay())
}
