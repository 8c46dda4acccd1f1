package tokenstore_test

import (
	"fmt"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore/tokenstoretest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestMemory(t *testing.T) {
	tokenstoretest.Run(t, func(*testing.T) (a, b shangcloud.TokenStore) {
		m := &tokenstore.Memory{}
		return m, m
	})
}

func TestMemoryKeepsCopies(t *testing.T) {
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

func TestLogout(t *testing.T) {
	forEachStore(t, func(t *testing.T, store lockingStore) {
		require.NoError(t, store.SaveToken(t.Context(), nil), "nobody is logged in")
		require.NoError(t, store.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
		require.NoError(t, store.SaveToken(t.Context(), nil))
		tok, err := store.LoadToken(t.Context())
		assert.NoError(t, err)
		assert.Nil(t, tok)
		require.NoError(t, store.SaveToken(t.Context(), nil))
	})
}

// TestUnlockTwice must not end the lock of the next holder.
func TestUnlockTwice(t *testing.T) {
	forEachStore(t, func(t *testing.T, store lockingStore) {
		first, err := store.LockToken(t.Context())
		require.NoError(t, err)
		first()
		second, err := store.LockToken(t.Context())
		require.NoError(t, err)
		first()
		ctx, cancel := contextFor(t, 50*time.Millisecond)
		defer cancel()
		_, err = store.LockToken(ctx)
		assert.ErrorIs(t, err, ctx.Err())
		second()
		second()
	})
}

type lockingStore interface {
	shangcloud.TokenStore
	shangcloud.TokenLocker
}

func forEachStore(t *testing.T, test func(t *testing.T, store lockingStore)) {
	for _, store := range []lockingStore{&tokenstore.Memory{}, newFile(t)} {
		t.Run(fmt.Sprintf("%T", store), func(t *testing.T) { test(t, store) })
	}
}
