package shangcloudtest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTokenExpiryAndRevocation(t *testing.T) {
	s := platform(t)
	c := newClock(s)
	alive := func(token string) bool {
		_, ok := s.UserOf(token, "user:basic")
		return ok
	}
	access, _ := s.Issue(webClient, uid)
	c.add(time.Hour - time.Second)
	assert.True(t, alive(access))
	c.add(time.Second)
	assert.False(t, alive(access))

	access, again := s.Issue(webClient, uid, everyScope...)
	s.ExpireTokens()
	assert.False(t, alive(access))
	a := refresh(t, s, again)
	assert.Equal(t, http.StatusOK, a.status, "refresh tokens stay valid")
	access, again = a.value(t, "access_token").(string), a.value(t, "refresh_token").(string)
	assert.True(t, alive(access))

	code, _ := approve(t, s, config(s).AuthCodeURL("s"))
	theirs, _ := s.Issue(webClient, otherUID)
	s.Revoke(uid)
	assert.False(t, alive(access))
	assert.True(t, alive(theirs))
	assert.Equal(t, "invalid_grant", refresh(t, s, again).value(t, "error"))
	_, err := config(s).Exchange(t.Context(), code)
	assert.ErrorContains(t, err, "invalid_grant")
	assert.NotEmpty(t, login(t, s).AccessToken, "a new login works")

	assert.Panics(t, func() { s.Issue("nobody", uid) })
	assert.Panics(t, func() { s.Issue(webClient, 404) })
	assert.Panics(t, func() { s.Issue(webClient, uid, "admin") })
}
