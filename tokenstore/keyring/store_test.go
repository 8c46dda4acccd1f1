package keyring_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/keyring"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	ring "github.com/zalando/go-keyring"
	"golang.org/x/oauth2"
)

func TestStore(t *testing.T) {
	needSecretService(t)
	tokenstoretest.Run(t, tokenstoretest.Backend{
		Open: func(t *testing.T) (a, b oauth2login.TokenStore) {
			path := filepath.Join(t.TempDir(), "token")
			store := newStore(t, path)
			require.NoError(t, store.Check(t.Context()))
			return store, newStore(t, path)
		},
		Extra: true,
	})
}

func token(access string) *oauth2.Token {
	return &oauth2.Token{AccessToken: access, RefreshToken: "refresh-" + access, TokenType: "Bearer"}
}

func save(t *testing.T, store *keyring.Store, access string) {
	t.Helper()
	require.NoError(t, store.SaveToken(t.Context(), token(access)))
}

func loaded(t *testing.T, store *keyring.Store) string {
	t.Helper()
	tok, err := store.LoadToken(t.Context())
	require.NoError(t, err)
	if tok == nil {
		return ""
	}
	return tok.AccessToken
}

func TestNew_refuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for name, names := range map[string][2]string{
		"no service":        {"", path},
		"line in service":   {"a\nb", path},
		"line in path":      {service, path + "\n-s other"},
		"no file":           {service, path + string(filepath.Separator)},
		"no path":           {service, ""},
		"control character": {service, path + "\x1b"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := keyring.New(names[0], names[1])
			assert.Error(t, err)
		})
	}
	for name, store := range map[string]*keyring.Store{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			_, loadErr := store.LoadToken(t.Context())
			_, lockErr := store.LockToken(t.Context(), time.Minute)
			for _, err := range []error{store.Check(t.Context()), loadErr, store.SaveToken(t.Context(), token("a")), store.DeleteToken(t.Context()), lockErr} {
				assert.ErrorContains(t, err, "made by New")
			}
			assert.Contains(t, fmt.Sprint(store), "keyring.Store(")
		})
	}
}

// The file alone is of no use, and a logout leaves nothing in the keyring.
func TestStore_key(t *testing.T) {
	needSecretService(t)
	path := filepath.Join(t.TempDir(), "token")
	store := newStore(t, path)
	key := func() string {
		key, err := ring.Get(service, path)
		if !errors.Is(err, ring.ErrNotFound) {
			require.NoError(t, err)
		}
		return key
	}
	require.Empty(t, key(), "a check makes no entry")
	save(t, store, "access-1")
	first := key()
	assert.Len(t, first, 44, "32 bytes in base64")
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.NotContains(t, string(file), "access-1")
	save(t, store, "access-2")
	assert.Equal(t, first, key(), "the key stays")

	require.NoError(t, store.DeleteToken(t.Context()))
	assert.Empty(t, key())
	assert.Empty(t, loaded(t, store))
	require.NoError(t, os.WriteFile(path, file, 0o600))
	assert.Empty(t, loaded(t, store), "a copy of the file is worth nothing after a logout")
	save(t, store, "access-3")
	assert.NotEqual(t, first, key(), "a new login has a new key")
	assert.Equal(t, "access-3", loaded(t, newStore(t, path)))
}

// A key and a file that do not belong together are an error. A new login repairs the store.
func TestStore_damaged(t *testing.T) {
	needSecretService(t)
	for name, damage := range map[string]func(t *testing.T, path string){
		"key of another store": func(t *testing.T, path string) {
			require.NoError(t, ring.Set(service, path, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))))
		},
		"file of another store": func(t *testing.T, path string) {
			other := newStore(t, path+"-2")
			save(t, other, "other")
			require.NoError(t, os.Rename(path+"-2", path))
		},
		"file without encryption": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte(`{"access_token":"planted"}`), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			store := newStore(t, path)
			save(t, store, "access-1")
			damage(t, path)
			_, err := store.LoadToken(t.Context())
			require.ErrorContains(t, err, "log in again")
			assert.NotContains(t, err.Error(), "planted")
			require.NoError(t, store.Check(t.Context()), "the store can be used")
			save(t, store, "access-2")
			assert.Equal(t, "access-2", loaded(t, store))
		})
	}
	for name, key := range map[string]string{"key in no base64": "***", "key too short": "AAAA"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			store := newStore(t, path)
			save(t, store, "access-1")
			require.NoError(t, ring.Set(service, path, key))
			_, err := store.LoadToken(t.Context())
			assert.ErrorContains(t, err, "is not a key of this store")
			assert.ErrorContains(t, store.SaveToken(t.Context(), token("access-2")), "is not a key of this store")
			require.NoError(t, store.DeleteToken(t.Context()))
			save(t, store, "access-3")
			assert.Equal(t, "access-3", loaded(t, store))
		})
	}
}

// Several processes save a first token at once. They agree on one key.
func TestStore_first_save(t *testing.T) {
	needSecretService(t)
	for range 5 {
		path := filepath.Join(t.TempDir(), "token")
		var saving sync.WaitGroup
		for i := range 4 {
			saving.Go(func() { save(t, newStore(t, path), fmt.Sprint(i)) })
		}
		saving.Wait()
		assert.NotEmpty(t, loaded(t, newStore(t, path)))
	}
}

func TestStore_unsafe_file(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	path := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(path, nil, 0o644))
	store := newStore(t, path)
	_, err := store.LoadToken(t.Context())
	for _, err := range []error{err, store.Check(t.Context())} {
		assert.ErrorAs(t, err, new(*tokenstore.UnsafeFileError), "nobody asks the keyring")
	}
}
