package seal_test

import (
	"strings"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
	"github.com/stretchr/testify/require"
)

func key(c string) []byte { return []byte(strings.Repeat(c, seal.KeySize)) }

func newKeys(t testing.TB, keys ...[]byte) *seal.Keys {
	t.Helper()
	k, err := seal.New(keys)
	require.NoError(t, err)
	return k
}
