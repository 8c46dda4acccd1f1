package tokenstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestFile(t *testing.T) {
	tokenstoretest.Run(t, func(t *testing.T) (a, b shangcloud.TokenStore) {
		path := filepath.Join(t.TempDir(), "app", "token.json")
		return fileAt(t, path), fileAt(t, path)
	})
}

func fileAt(t testing.TB, path string) *tokenstore.File {
	t.Helper()
	f, err := tokenstore.NewFile(path)
	require.NoError(t, err)
	return f
}

func newFile(t testing.TB) *tokenstore.File {
	t.Helper()
	return fileAt(t, filepath.Join(t.TempDir(), "token.json"))
}

func contextFor(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

func TestFileKeepsWhatJSONKeeps(t *testing.T) {
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
	_, err = zero.LockToken(t.Context())
	assert.ErrorContains(t, err, "NewFile")
}

func TestFilePrintsItsPath(t *testing.T) {
	f := newFile(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		assert.Contains(t, fmt.Sprintf(verb, f), "tokenstore.File(")
	}
	assert.Contains(t, fmt.Sprint((*tokenstore.File)(nil)), "none")
}

// TestFileHoldsNoToken has somebody else write the file. The errors do not quote it.
func TestFileHoldsNoToken(t *testing.T) {
	const secret = "hush-hush"
	for name, content := range map[string]string{
		"nothing":          "",
		"null":             "null",
		"half a token":     `{"access_token":"` + secret,
		"another type":     `["` + secret + `"]`,
		"a wrong field":    `{"access_token":{"` + secret + `":1}}`,
		"no time":          `{"access_token":"at","expiry":"` + secret + `"}`,
		"something behind": `{"access_token":"at"} ` + secret,
		"too much":         `{"access_token":"` + strings.Repeat(secret, 1<<20/len(secret)) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFile(t)
			require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
			path := onlyFile(t, f)
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
			tok, err := f.LoadToken(t.Context())
			assert.Nil(t, tok)
			require.Error(t, err)
			assert.Contains(t, err.Error(), fmt.Sprintf("%q", path))
			for _, verb := range []string{"%v", "%+v", "%#v"} {
				assert.NotContains(t, fmt.Sprintf(verb, err), "hush")
			}
			require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}), "a new login repairs it")
			_, err = f.LoadToken(t.Context())
			assert.NoError(t, err)
		})
	}
}

// onlyFile returns the path of f.
func onlyFile(t testing.TB, f *tokenstore.File) string {
	t.Helper()
	path := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(f), "tokenstore.File("), ")")
	require.FileExists(t, path)
	return path
}

func TestFileTooLarge(t *testing.T) {
	f := newFile(t)
	require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "old"}))
	err := f.SaveToken(t.Context(), &oauth2.Token{AccessToken: strings.Repeat("hush", 1<<18)})
	assert.ErrorContains(t, err, "what was saved before stays")
	assert.NotContains(t, fmt.Sprintf("%v %#v", err, err), "hush")
	err = f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "hush", Expiry: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)})
	assert.ErrorContains(t, err, "what was saved before stays")
	tok, err := f.LoadToken(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "old", tok.AccessToken)
}

func TestFileLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	f := fileAt(t, filepath.Join(dir, "token.json"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token.json.tmp"), []byte(strings.Repeat("left by a killed program", 1000)), 0o600))
	require.NoError(t, f.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
	tok, err := f.LoadToken(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "at", tok.AccessToken)
	assert.NoFileExists(t, filepath.Join(dir, "token.json.tmp"))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "token.json.tmp"), []byte("left by a killed program"), 0o600))
	require.NoError(t, f.SaveToken(t.Context(), nil), "after a logout no token is left, nor half of one")
	assert.NoFileExists(t, filepath.Join(dir, "token.json"))
	assert.NoFileExists(t, filepath.Join(dir, "token.json.tmp"))
}
