package shangcloud_test

import (
	"testing"
	"testing/synctest"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for name, c := range map[string]struct {
			tok  *oauth2.Token
			want bool
		}{
			"none":                  {nil, true},
			"empty":                 {&oauth2.Token{Expiry: now.Add(time.Hour)}, true},
			"for ever":              {&oauth2.Token{AccessToken: "a"}, false},
			"of unclear age":        {&oauth2.Token{AccessToken: "a", ExpiresIn: 3600}, true},
			"in an hour":            {&oauth2.Token{AccessToken: "a", Expiry: now.Add(time.Hour)}, false},
			"in more than a minute": {&oauth2.Token{AccessToken: "a", Expiry: now.Add(time.Minute + 1)}, false},
			"in a minute":           {&oauth2.Token{AccessToken: "a", Expiry: now.Add(time.Minute)}, true},
			"from a store":          {&oauth2.Token{AccessToken: "a", Expiry: now.Add(time.Minute).Round(0)}, true},
			"long ago":              {&oauth2.Token{AccessToken: "a", Expiry: time.Unix(1, 0)}, true},
		} {
			assert.Equal(t, c.want, shangcloud.Expired(c.tok), name)
		}
	})
}

func TestStoredTokensOutliveTheProvider(t *testing.T) {
	platform := newPlatform(t)
	store := new(tokenstore.Memory)
	access, refresh := platform.Issue("demo", 10001)
	tok := &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now()}
	require.NoError(t, newProvider(t, platform).StoredTokens(store).SetToken(t.Context(), tok))

	p := newProvider(t, platform) // another process
	user, err := p.API(p.StoredTokens(store)).UserInfo(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(10001), user.ID)
	require.NoError(t, p.StoredTokens(store).Delete(t.Context()))
	saved, err := store.LoadToken(t.Context())
	require.NoError(t, err)
	assert.Nil(t, saved)
}
