package oauth2login_test

import (
	"net/url"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUnboundLogin(t *testing.T) {
	s := newSite(t)
	authURL, err := s.StartUnbound(t.Context(), oauth2login.WithValue("7"), oauth2login.WithReturnTo("/inbox?page=2"))
	require.NoError(t, err)
	callback := queryOf(t, authorize(t, authURL))

	login, err := s.FinishUnbound(t.Context(), callback)
	require.NoError(t, err)
	assert.NotEmpty(t, login.Token.AccessToken)
	assert.Equal(t, "7", login.Value)
	assert.Equal(t, "/inbox?page=2", login.ReturnTo)

	_, err = s.FinishUnbound(t.Context(), callback)
	assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, "a state works once")
	assert.Equal(t, 1, s.tokenRequests())
}

func TestUnboundLoginFailedExchange(t *testing.T) {
	s := newSite(t)
	authURL, err := s.StartUnbound(t.Context())
	require.NoError(t, err)
	callback := queryOf(t, authorize(t, authURL))

	_, err = s.FinishUnbound(t.Context(), url.Values{"state": callback["state"], "code": {"wrong"}})
	var failed *oauth2login.LoginError
	require.ErrorAs(t, err, &failed)
	_, err = s.FinishUnbound(t.Context(), callback)
	assert.ErrorIs(t, err, oauth2login.ErrStateNotFound, "a failed exchange uses the state up")
}

func TestUnboundStateOfTheOtherKind(t *testing.T) {
	s := newSite(t)
	b := newBrowser(t)
	bound := authorize(t, b.start(t, s))
	_, err := s.FinishUnbound(t.Context(), queryOf(t, bound))
	assert.ErrorIs(t, err, oauth2login.ErrStateNotFound)
	_, err = b.finish(s, bound)
	require.NoError(t, err, "the browser's login is still there")

	authURL, err := s.StartUnbound(t.Context())
	require.NoError(t, err)
	unbound := authorize(t, authURL)
	b.start(t, s) // so that the browser has a cookie
	_, err = b.finish(s, unbound)
	assert.Error(t, err)
	_, err = s.FinishUnbound(t.Context(), queryOf(t, unbound))
	assert.NoError(t, err, "the unbound login is still there")
}
