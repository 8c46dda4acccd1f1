package tokenstore

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testKey(c string) []byte { return []byte(strings.Repeat(c, keySize)) }

func TestSealer(t *testing.T) {
	one, err := newSealer([][]byte{testKey("1")}, false)
	require.NoError(t, err)
	both, err := newSealer([][]byte{testKey("2"), testKey("1")}, false)
	require.NoError(t, err)
	lenient, err := newSealer([][]byte{testKey("1")}, true)
	require.NoError(t, err)
	without, err := newSealer(nil, false)
	require.NoError(t, err)

	plain := []byte(`{"access_token":"hush"}`)
	sealed := one.seal(plain, "table", "user")
	assert.NotContains(t, string(sealed), "hush")
	assert.NotEqual(t, sealed, one.seal(plain, "table", "user"))
	assert.Len(t, sealed, 1+keyIDSize+12+len(plain)+16, "as documented")
	for _, s := range []*sealer{one, both, lenient} {
		got, err := s.open(sealed, "table", "user")
		require.NoError(t, err)
		assert.Equal(t, plain, got)
	}
	for _, place := range [][]string{{"table", "User"}, {"table2", "user"}, {"user", "table"}, {"tableuser"}, {"tableu", "ser"}, {"table", "user", ""}, nil} {
		_, err := one.open(sealed, place...)
		assert.Equal(t, errAltered, err, place)
	}
	_, err = one.open(both.seal(plain, "table", "user"), "table", "user")
	assert.Equal(t, errUnknownKey, err)
	_, err = without.open(sealed, "table", "user")
	assert.Equal(t, errNoKeys, err)

	assert.Equal(t, plain, without.seal(plain, "table", "user"))
	_, err = one.open(plain, "table", "user")
	assert.Equal(t, errNotEncrypted, err)
	for _, s := range []*sealer{without, lenient} {
		got, err := s.open(plain, "table", "user")
		require.NoError(t, err)
		assert.Equal(t, plain, got)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x80
		_, err := one.open(bad, "table", "user")
		assert.Error(t, err, "byte %d", i)
		_, err = lenient.open(sealed[:i], "table", "user")
		assert.Error(t, err, "%d bytes", i)
	}
}

func TestSealerKeys(t *testing.T) {
	for name, keys := range map[string][][]byte{
		"nil":       {nil},
		"AES-128":   {make([]byte, 16)},
		"31":        {testKey("1")[:31]},
		"33":        {append(testKey("1"), 1)},
		"second":    {testKey("1"), []byte("secret")},
		"zeros":     {make([]byte, keySize)},
		"twice":     {testKey("1"), testKey("1")},
		"twice, on": {testKey("1"), testKey("2"), testKey("1")},
	} {
		_, err := newSealer(keys, false)
		require.Error(t, err, name)
		assert.NotContains(t, err.Error(), "secret")
		assert.NotContains(t, err.Error(), "1111")
	}
}

func FuzzOpen(f *testing.F) {
	s, err := newSealer([][]byte{testKey("1")}, false)
	require.NoError(f, err)
	f.Add(s.seal([]byte("{}"), "t", "u"))
	f.Add([]byte{sealedV1})
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if plain, err := s.open(data, "t", "u"); err == nil && !bytes.Equal(plain, []byte("{}")) {
			t.Errorf("%x opens", data)
		}
	})
}
