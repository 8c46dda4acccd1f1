package seal_test

import (
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/seal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFromSecret(t *testing.T) {
	sealed := seal.FromSecret("secret", "purpose").Seal([]byte("hush"), "place")
	for name, c := range map[string]struct {
		secret, purpose string
		want            error
	}{
		"same secret and purpose": {"secret", "purpose", nil},
		"another secret":          {"secret2", "purpose", seal.ErrUnknownKey},
		"another purpose":         {"secret", "purpose2", seal.ErrUnknownKey},
	} {
		t.Run(name, func(t *testing.T) {
			plain, err := seal.FromSecret(c.secret, c.purpose).Open(sealed, "place")
			require.Equal(t, c.want, err)
			if err == nil {
				assert.Equal(t, "hush", string(plain))
			}
		})
	}
}
