package tokenstore

import (
	"bytes"
	"strings"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testKey(c string) []byte { return []byte(strings.Repeat(c, seal.KeySize)) }

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
	for _, s := range []*sealer{one, both, lenient} {
		got, err := s.open(sealed, "table", "user")
		require.NoError(t, err)
		assert.Equal(t, plain, got)
	}
	for _, place := range [][2]string{{"table", "User"}, {"table2", "user"}, {"user", "table"}, {"tableu", "ser"}} {
		_, err := one.open(sealed, place[0], place[1])
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
