package seal_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSealRoundTrip(t *testing.T) {
	one, both := newKeys(t, key("1")), newKeys(t, key("2"), key("1"))
	for _, plain := range []string{"", "hush-hush", strings.Repeat("long ", 10_000)} {
		sealed := one.Seal([]byte(plain), "table", "user")
		assert.Len(t, sealed, len(plain)+seal.Overhead)
		assert.NotContains(t, string(sealed), "hush")
		assert.NotEqual(t, sealed, one.Seal([]byte(plain), "table", "user"), "each call takes a new nonce")
		for _, k := range []*seal.Keys{one, both} {
			got, err := k.Open(sealed, "table", "user")
			require.NoError(t, err)
			assert.Equal(t, plain, string(got))
		}
		_, err := one.Open(both.Seal([]byte(plain), "table", "user"), "table", "user")
		assert.Equal(t, seal.ErrUnknownKey, err, "the first key seals")
	}
}

func TestOpenForAnotherPlace(t *testing.T) {
	k := newKeys(t, key("1"))
	sealed := k.Seal([]byte("hush"), "table", "user")
	for _, place := range [][]string{{"table", "User"}, {"table2", "user"}, {"user", "table"}, {"tableuser"}, {"tableu", "ser"}, {"table", "user", ""}, {"table"}, nil} {
		_, err := k.Open(sealed, place...)
		assert.Equal(t, seal.ErrAltered, err, place)
	}
}

func TestOpenAlteredData(t *testing.T) {
	k := newKeys(t, key("1"))
	sealed := k.Seal([]byte("hush"), "place")
	for i := range sealed {
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(sealed)
			bad[i] ^= bit
			_, err := k.Open(bad, "place")
			assert.Error(t, err, "byte %d", i)
		}
		_, err := k.Open(sealed[:i], "place")
		assert.Error(t, err, "%d bytes", i)
	}
	_, err := k.Open(append(sealed, 0), "place")
	assert.Error(t, err)
}

func TestNewWithUnusableKeys(t *testing.T) {
	for name, keys := range map[string][][]byte{
		"empty list":              nil,
		"nil key":                 {nil},
		"16 bytes":                {key("1")[:16]},
		"31 bytes":                {key("1")[:31]},
		"33 bytes":                {append(key("1"), 1)},
		"second key is too short": {key("1"), []byte("secret")},
		"zeros":                   {make([]byte, seal.KeySize)},
		"duplicate":               {key("1"), key("1")},
		"duplicate further on":    {key("1"), key("2"), key("1")},
	} {
		_, err := seal.New(keys)
		require.Error(t, err, name)
		assert.NotContains(t, err.Error(), "secret")
		assert.NotContains(t, err.Error(), "1111")
	}
}

func TestNewCopiesKeys(t *testing.T) {
	mine := key("1")
	k := newKeys(t, mine)
	clear(mine) // the caller wipes its key
	_, err := newKeys(t, key("1")).Open(k.Seal([]byte("hush"), "place"), "place")
	assert.NoError(t, err)
}

// oldData is the text "hush", which an earlier version sealed with key("1") for "place".
// Every later version must open it.
const oldData = "016c811d31325837ee9f9f9af24fb3bb2bdbe7d69c2b445d82848da85fbf1c81b31cb52e9204e6b8bc"

func TestOpenOldData(t *testing.T) {
	sealed, err := hex.DecodeString(oldData)
	require.NoError(t, err)
	plain, err := newKeys(t, key("2"), key("1")).Open(sealed, "place")
	require.NoError(t, err)
	assert.Equal(t, "hush", string(plain))
}

func FuzzOpen(f *testing.F) {
	k := newKeys(f, key("1"))
	sealed, err := hex.DecodeString(oldData)
	require.NoError(f, err)
	f.Add(sealed)
	f.Add(sealed[:9])
	f.Add([]byte{seal.V1})
	f.Add(k.Seal([]byte("hush"), "elsewhere"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if plain, err := k.Open(data, "place"); err == nil && !bytes.Equal(data, sealed) {
			t.Errorf("%x opens: %q", data, plain)
		}
	})
}
