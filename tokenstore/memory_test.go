package tokenstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestMemory(t *testing.T) {
	tokenstoretest.Run(t, tokenstoretest.Backend{
		Open: func(*testing.T) (a, b oauth2login.TokenStore) {
			m := &tokenstore.Memory{}
			return m, m
		},
		Extra: true,
	})
}

func TestMemory_keeps_copies(t *testing.T) {
	var m tokenstore.Memory
	tok := &oauth2.Token{AccessToken: "at", Expiry: time.Now()}
	require.NoError(t, m.SaveToken(t.Context(), tok))
	tok.AccessToken = "changed"
	got, err := m.LoadToken(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "at", got.AccessToken)
	got.AccessToken = "changed"
	got, err = m.LoadToken(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "at", got.AccessToken)
}

// lockingStores returns the stores of this package that have locks.
func lockingStores(t *testing.T) []lockingStore {
	return []lockingStore{&tokenstore.Memory{}, newFile(t)}
}

type lockingStore interface {
	oauth2login.TokenStore
	oauth2login.TokenLocker
}

// TestLockToken_unlocked_twice: a second unlock must not end the lock of the next holder.
func TestLockToken_unlocked_twice(t *testing.T) {
	for _, store := range lockingStores(t) {
		t.Run(fmt.Sprintf("%T", store), func(t *testing.T) {
			first := lock(t, store)
			first()
			second := lock(t, store)
			first()
			ctx := contextFor(t, 50*time.Millisecond)
			_, err := store.LockToken(ctx, hold)
			assert.ErrorIs(t, err, ctx.Err())
			second()
			second()
		})
	}
}

func TestSaveToken_nil(t *testing.T) {
	for _, store := range lockingStores(t) {
		t.Run(fmt.Sprintf("%T", store), func(t *testing.T) {
			want := &oauth2.Token{AccessToken: "at"}
			require.NoError(t, store.SaveToken(t.Context(), want))
			assert.ErrorContains(t, store.SaveToken(t.Context(), nil), "there is no token to save")
			got, err := store.LoadToken(t.Context())
			require.NoError(t, err)
			assert.Equal(t, want, got, "what was saved before stays")
		})
	}
}
