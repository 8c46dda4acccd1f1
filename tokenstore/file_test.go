package tokenstore_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/leak"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestFile(t *testing.T) {
	tokenstoretest.Run(t, tokenstoretest.Backend{
		Open: func(t *testing.T) (a, b oauth2login.TokenStore) {
			path := filepath.Join(t.TempDir(), "app", "token.json")
			return fileAt(t, path), fileAt(t, path)
		},
		Extra: true,
	})
}

func TestFile_time_zones(t *testing.T) {
	f := newFile(t)
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("", 8*60*60)} {
		want := &oauth2.Token{AccessToken: "<at>&", RefreshToken: "rt", Expiry: time.Date(2031, 7, 9, 11, 22, 33, 123456789, zone)}
		require.NoError(t, f.SaveToken(t.Context(), want))
		got, err := f.LoadToken(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want.Expiry.Format(time.RFC3339Nano), got.Expiry.Format(time.RFC3339Nano), "nanoseconds and zone")
		assert.Equal(t, want.AccessToken, got.AccessToken)
	}
}

func TestNewFile(t *testing.T) {
	newFile(t) // skips where there is no File
	for _, path := range []string{"", "dir" + string(os.PathSeparator)} {
		_, err := tokenstore.NewFile(path)
		assert.ErrorContains(t, err, "is not the path of a file", path)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	f := fileAt(t, "token.json")
	t.Chdir(t.TempDir())
	require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
	assert.FileExists(t, filepath.Join(dir, "token.json"), "a relative path is taken once")

	zero := &tokenstore.File{}
	_, err := zero.LoadToken(t.Context())
	assert.ErrorContains(t, err, "NewFile")
	assert.ErrorContains(t, zero.SaveToken(t.Context(), &oauth2.Token{}), "NewFile")
	assert.ErrorContains(t, zero.DeleteToken(t.Context()), "NewFile")
	_, err = zero.LockToken(t.Context(), hold)
	assert.ErrorContains(t, err, "NewFile")
}

func TestFile_prints_its_path(t *testing.T) {
	f := newFile(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		assert.Contains(t, fmt.Sprintf(verb, f), "tokenstore.File(")
	}
	assert.Contains(t, fmt.Sprint((*tokenstore.File)(nil)), "none")
}

// TestFile_content_is_no_token: another program has overwritten the file. Errors must not
// quote the content of the file.
func TestFile_content_is_no_token(t *testing.T) {
	contents := maps.Clone(notTokens)
	contents["too long"] = `{"access_token":"` + strings.Repeat("hush", 1<<20/4) + `"}`
	for name, content := range contents {
		t.Run(name, func(t *testing.T) {
			f := newFile(t)
			require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
			path := pathOf(t, f)
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
			tok, err := f.LoadToken(t.Context())
			assert.Nil(t, tok)
			require.Error(t, err)
			assert.Contains(t, err.Error(), fmt.Sprintf("%q", path))
			assert.False(t, leak.Prints(err, "hush"))
			require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}), "a new login repairs it")
			_, err = f.LoadToken(t.Context())
			assert.NoError(t, err)
		})
	}
}

func TestFile_token_that_can_not_be_written(t *testing.T) {
	f := newFile(t)
	require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "old"}))
	err := f.SaveToken(t.Context(), &oauth2.Token{AccessToken: strings.Repeat("hush", 1<<18)})
	assert.ErrorContains(t, err, "what was saved before stays")
	assert.False(t, leak.Prints(err, "hush"))
	err = f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "hush", Expiry: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)})
	assert.ErrorContains(t, err, "what was saved before stays")
	tok, err := f.LoadToken(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "old", tok.AccessToken)
}

func TestFile_leftovers(t *testing.T) {
	dir := t.TempDir()
	f := fileAt(t, filepath.Join(dir, "token.json"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token.json.tmp"), []byte(strings.Repeat("left by a killed program", 1000)), 0o600))
	require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
	tok, err := f.LoadToken(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "at", tok.AccessToken)
	assert.NoFileExists(t, filepath.Join(dir, "token.json.tmp"))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "token.json.tmp"), []byte("left by a killed program"), 0o600))
	require.NoError(t, f.DeleteToken(t.Context()), "no token is left, nor half of one")
	assert.NoFileExists(t, filepath.Join(dir, "token.json"))
	assert.NoFileExists(t, filepath.Join(dir, "token.json.tmp"))
}
