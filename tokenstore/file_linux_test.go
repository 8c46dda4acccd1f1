package tokenstore_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/leak"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// inMount runs the present test again in a child process. The child has a small file
// system, which no other process sees and which ends with the child. In the child, inMount
// returns the directory of the file system. In the parent, it returns "".
func inMount(t *testing.T, pages int) string {
	dir := childDir(t)
	if dir == "" {
		attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if os.Geteuid() != 0 {
			attr.Cloneflags |= syscall.CLONE_NEWUSER
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		inChild(t, t.TempDir(), attr)
		return ""
	}
	err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	if err == nil {
		err = syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", pages*os.Getpagesize()))
	}
	if err != nil {
		skip(t, "a small tmpfs can't be mounted: %v", err)
	}
	return dir
}

func TestFile_full_disk(t *testing.T) {
	dir := inMount(t, 16)
	if dir == "" {
		return
	}
	page := os.Getpagesize()
	f := fileAt(t, filepath.Join(dir, "token.json"))
	old := &oauth2.Token{AccessToken: "old", RefreshToken: "rt"}
	require.NoError(t, f.SaveToken(t.Context(), old))
	filler, err := os.Create(filepath.Join(dir, "filler"))
	require.NoError(t, err)
	fill := func() {
		_, err := filler.Write(make([]byte, 1000*page))
		require.ErrorIs(t, err, syscall.ENOSPC)
	}

	for name, room := range map[string]int{"none at all": 0, "for a part of the token": page} {
		t.Run(name, func(t *testing.T) {
			fill()
			end, err := filler.Seek(0, 2)
			require.NoError(t, err)
			require.NoError(t, filler.Truncate(end-int64(room)))
			_, err = filler.Seek(0, 2)
			require.NoError(t, err)

			err = f.SaveToken(t.Context(), &oauth2.Token{AccessToken: strings.Repeat("hush", page)})
			assert.ErrorIs(t, err, syscall.ENOSPC)
			assert.ErrorContains(t, err, "the token was not saved, and what was saved before stays: write ")
			assert.ErrorContains(t, err, "no space left on device")
			assert.False(t, leak.Prints(err, "hush"))
			tok, err := f.LoadToken(t.Context())
			require.NoError(t, err)
			assert.Equal(t, old, tok)
			assert.NoFileExists(t, filepath.Join(dir, "token.json.tmp"))
		})
	}

	t.Run("a refresh", func(t *testing.T) {
		platform := shangcloudtest.NewServer(t)
		platform.AddClient(shangcloudtest.Client{ID: "demo", Secret: "hush-hush"})
		platform.AddUser(shangcloudtest.User{ID: 10001})
		var log bytes.Buffer
		provider, err := shangcloud.New(&oauth2.Config{
			ClientID: "demo", ClientSecret: "hush-hush", RedirectURL: "http://127.0.0.1/", Endpoint: shangcloud.EndpointAt(platform.URL),
		}, &oauth2login.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		require.NoError(t, filler.Truncate(0))
		access, refresh := platform.Issue("demo", 10001)
		old := &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now().Round(0)}
		require.NoError(t, f.SaveToken(t.Context(), old))
		_, err = filler.Seek(0, 0)
		require.NoError(t, err)
		fill()

		src := provider.StoredTokens(f)
		tok, err := src.Token()
		require.NoError(t, err, "it is handed out, saved or not")
		assert.NotEqual(t, access, tok.AccessToken)
		// Shutdown saves an unsaved token, or returns an error if it can't.
		err = provider.Shutdown(t.Context())
		assert.ErrorIs(t, err, oauth2login.ErrTokenStore)
		assert.ErrorContains(t, err, "no space left on device")
		assert.Contains(t, log.String(), "no space left on device")
		for _, secret := range []string{access, refresh, tok.AccessToken, tok.RefreshToken} {
			assert.NotContains(t, log.String(), secret)
		}
		stored, err := f.LoadToken(t.Context())
		require.NoError(t, err)
		assert.Equal(t, access, stored.AccessToken)

		require.NoError(t, filler.Truncate(0))
		require.NoError(t, provider.Shutdown(t.Context()))
		stored, err = f.LoadToken(t.Context())
		require.NoError(t, err)
		assert.Equal(t, tok.RefreshToken, stored.RefreshToken, "saved when there is room")
		assert.Len(t, platform.Requests("/oauth/token"), 1)
	})
}

// TestFile_read_only_file_system: on a read-only file system only loads succeed.
func TestFile_read_only_file_system(t *testing.T) {
	dir := inMount(t, 16)
	if dir == "" {
		return
	}
	f := fileAt(t, filepath.Join(dir, "token.json"))
	want := &oauth2.Token{AccessToken: "at", RefreshToken: "rt"}
	require.NoError(t, f.SaveToken(t.Context(), want))
	require.NoError(t, syscall.Mount("none", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))

	got, err := f.LoadToken(t.Context())
	require.NoError(t, err)
	assert.Equal(t, want, got)
	_, err = f.LockToken(t.Context(), hold)
	assert.ErrorIs(t, err, syscall.EROFS)
	assert.ErrorIs(t, f.SaveToken(t.Context(), want), syscall.EROFS)
	assert.ErrorIs(t, f.DeleteToken(t.Context()), syscall.EROFS)
}

// TestFile_mounted_by_itself mounts only the token file, with a bind mount. A rename can't
// replace such a file.
func TestFile_mounted_by_itself(t *testing.T) {
	dir := inMount(t, 16)
	if dir == "" {
		return
	}
	f := fileAt(t, filepath.Join(dir, "token.json"))
	require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "old"}))
	require.NoError(t, syscall.Mount(pathOf(t, f), pathOf(t, f), "", syscall.MS_BIND, ""))
	err := f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "new"})
	assert.ErrorIs(t, err, syscall.EBUSY)
	assert.ErrorContains(t, err, "mount its directory instead")
	tok, err := f.LoadToken(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "old", tok.AccessToken)
	assert.Equal(t, []string{"- token.json"}, listing(t, dir))
}
