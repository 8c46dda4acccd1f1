package tokenstore_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/leak"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func key(c string) []byte { return []byte(strings.Repeat(c, 32)) }

func newKeys(t testing.TB, keys ...[]byte) *tokenstore.Keys {
	t.Helper()
	k, err := tokenstore.NewKeys(keys...)
	require.NoError(t, err)
	return k
}

func TestEncrypted(t *testing.T) {
	keys := newKeys(t, key("1"), key("2"))
	for name, open := range map[string]func(t *testing.T) (a, b oauth2login.TokenStore){
		"file": func(t *testing.T) (a, b oauth2login.TokenStore) {
			f := newFile(t)
			return f, fileAt(t, strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(f), "tokenstore.File("), ")"))
		},
		"no lock": func(t *testing.T) (a, b oauth2login.TokenStore) {
			m := struct{ oauth2login.TokenStore }{&tokenstore.Memory{}}
			return m, m
		},
		"encoding/json": func(t *testing.T) (a, b oauth2login.TokenStore) {
			s := &jsonStore{}
			return s, s
		},
	} {
		t.Run(name, func(t *testing.T) {
			tokenstoretest.Run(t, tokenstoretest.Backend{
				Open: func(t *testing.T) (a, b oauth2login.TokenStore) {
					a, b = open(t)
					return tokenstore.Encrypted(a, keys, "provider", "user"), tokenstore.Encrypted(b, keys, "provider", "user")
				},
				Extra: true, // even if the inner store loses the extras
			})
		})
	}
}

// jsonStore keeps a token as JSON, as an application's own store may.
type jsonStore struct {
	tokenstore.Memory
}

func (s *jsonStore) SaveToken(ctx context.Context, tok *oauth2.Token) error {
	data, err := json.Marshal(tok)
	if err != nil {
		return err
	}
	var again oauth2.Token
	if err := json.Unmarshal(data, &again); err != nil {
		return err
	}
	return s.Memory.SaveToken(ctx, &again)
}

func TestEncrypted_stored_form(t *testing.T) {
	var inner tokenstore.Memory
	store := tokenstore.Encrypted(&inner, newKeys(t, key("1")), "provider", "user")
	tok := &oauth2.Token{AccessToken: "hush-access", RefreshToken: "hush-refresh", TokenType: "Bearer", Expiry: time.Now(), ExpiresIn: 7}
	var texts []string
	for range 2 {
		require.NoError(t, store.SaveToken(t.Context(), tok))
		stored, err := inner.LoadToken(t.Context())
		require.NoError(t, err)
		assert.Equal(t, oauth2.Token{AccessToken: stored.AccessToken}, *stored, "no other field")
		assert.Regexp(t, `^sealed-v1\.[A-Za-z0-9_-]+$`, stored.AccessToken)
		texts = append(texts, stored.AccessToken)
	}
	assert.NotEqual(t, texts[0], texts[1], "a nonce is used once")
}

// TestEncrypted_binding stores a token for one user of one provider. It must not be
// possible to decrypt the token for another user or provider.
func TestEncrypted_binding(t *testing.T) {
	keys := newKeys(t, key("1"))
	var inner tokenstore.Memory
	require.NoError(t, tokenstore.Encrypted(&inner, keys, "github", "user").SaveToken(t.Context(), &oauth2.Token{AccessToken: "hush"}))
	for _, place := range [][2]string{{"google", "user"}, {"github", "User"}, {"user", "github"}, {"githubu", "ser"}, {"github", "user "}} {
		tok, err := tokenstore.Encrypted(&inner, keys, place[0], place[1]).LoadToken(t.Context())
		assert.Nil(t, tok)
		assert.ErrorContains(t, err, "not this user's at this provider", place)
		assert.False(t, leak.Prints(err, "hush"))
	}
}

func TestEncrypted_key_rotation(t *testing.T) {
	var inner tokenstore.Memory
	save := func(keys *tokenstore.Keys) {
		t.Helper()
		require.NoError(t, tokenstore.Encrypted(&inner, keys, "p", "u").SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
	}
	load := func(keys *tokenstore.Keys) error {
		_, err := tokenstore.Encrypted(&inner, keys, "p", "u").LoadToken(t.Context())
		return err
	}
	save(newKeys(t, key("1")))
	assert.NoError(t, load(newKeys(t, key("1"), key("2"))), "the new key is added everywhere")
	assert.NoError(t, load(newKeys(t, key("2"), key("1"))))
	assert.ErrorContains(t, load(newKeys(t, key("2"))), "a key that is not one of Keys")
	save(newKeys(t, key("2"), key("1")))
	assert.NoError(t, load(newKeys(t, key("2"))), "the first key encrypts")
	assert.ErrorContains(t, load(newKeys(t, key("1"))), "a key that is not one of Keys")
}

func TestKeys_ReadingPlaintext(t *testing.T) {
	var inner tokenstore.Memory
	want := (&oauth2.Token{AccessToken: "hush", RefreshToken: "rt"}).WithExtra(map[string]any{"scope": "openid"})
	require.NoError(t, inner.SaveToken(t.Context(), want))
	keys := newKeys(t, key("1"))
	strict, lenient := tokenstore.Encrypted(&inner, keys, "p", "u"), tokenstore.Encrypted(&inner, keys.ReadingPlaintext(), "p", "u")

	_, err := strict.LoadToken(t.Context())
	assert.ErrorContains(t, err, "is not encrypted")
	assert.False(t, leak.Prints(err, "hush"))
	got, err := lenient.LoadToken(t.Context())
	require.NoError(t, err)
	assert.Equal(t, want, got)
	require.NoError(t, lenient.SaveToken(t.Context(), got))
	_, err = strict.LoadToken(t.Context())
	assert.NoError(t, err, "a save encrypts")
	_, err = lenient.LoadToken(t.Context())
	assert.NoError(t, err)

	require.NoError(t, inner.SaveToken(t.Context(), &oauth2.Token{AccessToken: "sealed-v1.AAAA"}))
	_, err = lenient.LoadToken(t.Context())
	assert.Error(t, err, "a damaged text is not taken for a plain token")
}

// TestEncrypted_equal: two stores of the same token compare equal (==). Token sources need
// this to share a refresh.
func TestEncrypted_equal(t *testing.T) {
	keys, other := newKeys(t, key("1")), newKeys(t, key("1"))
	a, b := &tokenstore.Memory{}, &tokenstore.Memory{}
	noLock := struct{ oauth2login.TokenStore }{a}
	assert.True(t, tokenstore.Encrypted(a, keys, "p", "u") == tokenstore.Encrypted(a, keys, "p", "u"))
	assert.True(t, tokenstore.Encrypted(noLock, keys, "p", "u") == tokenstore.Encrypted(noLock, keys, "p", "u"))
	for name, store := range map[string]oauth2login.TokenStore{
		"store":    tokenstore.Encrypted(b, keys, "p", "u"),
		"no lock":  tokenstore.Encrypted(noLock, keys, "p", "u"),
		"keys":     tokenstore.Encrypted(a, other, "p", "u"),
		"provider": tokenstore.Encrypted(a, keys, "p2", "u"),
		"user":     tokenstore.Encrypted(a, keys, "p", "u2"),
	} {
		assert.False(t, tokenstore.Encrypted(a, keys, "p", "u") == store, name)
	}
}

// brokenStore returns err from every call. It records the hold with which LockToken was
// called.
type brokenStore struct {
	tokenstore.Memory
	err  error
	hold time.Duration
}

func (s *brokenStore) LoadToken(context.Context) (*oauth2.Token, error) { return nil, s.err }
func (s *brokenStore) SaveToken(context.Context, *oauth2.Token) error   { return s.err }
func (s *brokenStore) DeleteToken(context.Context) error                { return s.err }
func (s *brokenStore) LockToken(_ context.Context, hold time.Duration) (func(), error) {
	s.hold = hold
	return nil, s.err
}

func TestEncrypted_passes_on(t *testing.T) {
	inner := &brokenStore{err: errors.New("no space")}
	store := tokenstore.Encrypted(inner, newKeys(t, key("1")), "p", "u")
	_, loadErr := store.LoadToken(t.Context())
	_, lockErr := store.(oauth2login.TokenLocker).LockToken(t.Context(), 7*time.Second)
	for _, err := range []error{loadErr, lockErr, store.SaveToken(t.Context(), &oauth2.Token{}), store.DeleteToken(t.Context())} {
		assert.Same(t, inner.err, err)
	}
	assert.Equal(t, 7*time.Second, inner.hold)
	assert.ErrorContains(t, store.SaveToken(t.Context(), nil), "there is no token to save")
	_, isLocker := tokenstore.Encrypted(struct{ oauth2login.TokenStore }{inner}, newKeys(t, key("1")), "p", "u").(oauth2login.TokenLocker)
	assert.False(t, isLocker)
}

func TestEncrypted_wrong_arguments(t *testing.T) {
	keys, inner := newKeys(t, key("1")), &tokenstore.Memory{}
	for name, c := range map[string]struct {
		store oauth2login.TokenStore
		text  string
	}{
		"no store":       {tokenstore.Encrypted(nil, keys, "p", "u"), "there is no store"},
		"no keys":        {tokenstore.Encrypted(inner, nil, "p", "u"), "there are no keys: call NewKeys"},
		"no keys at all": {tokenstore.Encrypted(inner, (*tokenstore.Keys)(nil).ReadingPlaintext(), "p", "u"), "there are no keys: call NewKeys"},
		"zero keys":      {tokenstore.Encrypted(inner, &tokenstore.Keys{}, "p", "u"), "there are no keys: call NewKeys"},
		"no provider":    {tokenstore.Encrypted(inner, keys, "", "u"), "the provider and the user must have names"},
		"no user":        {tokenstore.Encrypted(inner, keys, "p", ""), "the provider and the user must have names"},
	} {
		_, loadErr := c.store.LoadToken(t.Context())
		errs := []error{loadErr, c.store.SaveToken(t.Context(), &oauth2.Token{}), c.store.DeleteToken(t.Context())}
		if l, ok := c.store.(oauth2login.TokenLocker); ok {
			_, err := l.LockToken(t.Context(), hold)
			errs = append(errs, err)
		}
		for _, err := range errs {
			assert.EqualError(t, err, "tokenstore: encrypted: "+c.text, name)
		}
	}
}

func TestNewKeys(t *testing.T) {
	for name, keys := range map[string][][]byte{
		"none": nil, "nil": {nil}, "AES-128": {key("1")[:16]}, "second": {key("1"), []byte("hush")},
		"zeros": {make([]byte, 32)}, "twice": {key("1"), key("2"), key("1")},
	} {
		k, err := tokenstore.NewKeys(keys...)
		assert.Nil(t, k, name)
		assert.ErrorContains(t, err, "tokenstore: keys: ", name)
		assert.False(t, leak.Prints(err, "hush", "1111"), name)
	}
	k := newKeys(t, key("1"))
	store := tokenstore.Encrypted(&tokenstore.Memory{}, k, "p", "u")
	for what, v := range map[string]any{"keys": k, "in a field": struct{ k *tokenstore.Keys }{k}, "store": store, "store in a field": struct{ s oauth2login.TokenStore }{store}} {
		assert.False(t, leak.Prints(v, string(key("1"))), what)
	}
}

// sealedOnce was encrypted by an early version with key("1") for user "user" of
// "provider". Every later version must decrypt it.
const sealedOnce = "sealed-v1.AWyBHTEyWDfuY3kkpmOM7NjCAYKo2G4RVOiIRz7qhbluA1Cp6Im_K-3Ad7CcXIkbKOvw79dOM1GCEW9fYgAkdv-gbAD_AfBrSbbU554S1AEdIigV8M6EVzftM3s"

func TestEncrypted_old_values(t *testing.T) {
	var inner tokenstore.Memory
	require.NoError(t, inner.SaveToken(t.Context(), &oauth2.Token{AccessToken: sealedOnce}))
	tok, err := tokenstore.Encrypted(&inner, newKeys(t, key("2"), key("1")), "provider", "user").LoadToken(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "hush", tok.AccessToken)
}

// FuzzEncrypted_open looks for a text that differs from sealedOnce and can still be
// decrypted.
func FuzzEncrypted_open(f *testing.F) {
	keys := newKeys(f, key("1"))
	elsewhere, err := seal.New([][]byte{key("1")})
	require.NoError(f, err)
	f.Add(sealedOnce)
	f.Add(sealedOnce[:len(sealedOnce)-1])
	f.Add(sealedOnce + "=")
	f.Add(sealedOnce + "\n")
	f.Add("sealed-v1.")
	f.Add(`{"access_token":"at"}`)
	f.Add("sealed-v1." + base64.RawURLEncoding.EncodeToString(elsewhere.Seal([]byte(`{}`), "token", "provider", "other")))
	f.Fuzz(func(t *testing.T, text string) {
		var inner tokenstore.Memory
		require.NoError(t, inner.SaveToken(t.Context(), &oauth2.Token{AccessToken: text}))
		tok, err := tokenstore.Encrypted(&inner, keys, "provider", "user").LoadToken(t.Context())
		switch {
		case text == sealedOnce:
			require.NoError(t, err)
		case err == nil:
			t.Errorf("%q opens: %v", text, tok)
		}
	})
}
