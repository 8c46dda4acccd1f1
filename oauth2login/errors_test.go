package oauth2login_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCallbackErrorIs(t *testing.T) {
	for code, want := range map[string]error{
		"access_denied":            oauth2login.ErrAccessDenied,
		"user_cancelled_login":     oauth2login.ErrAccessDenied,
		"user_cancelled_authorize": oauth2login.ErrAccessDenied,
		"server_error":             oauth2login.ErrUnavailable,
		"temporarily_unavailable":  oauth2login.ErrUnavailable,
		"invalid_scope":            nil,
		"Access_Denied":            nil,
		"":                         nil,
	} {
		err := error(&oauth2login.CallbackError{Code: code})
		for _, target := range []error{oauth2login.ErrAccessDenied, oauth2login.ErrUnavailable, oauth2login.ErrBadCallback} {
			assert.Equal(t, target == want, errors.Is(err, target), "%q is %v", code, target)
		}
	}
}

func TestErrorKinds(t *testing.T) {
	assert.ErrorIs(t, oauth2login.ErrNoCookies, oauth2login.ErrWrongBrowser)
	assert.NotErrorIs(t, oauth2login.ErrWrongBrowser, oauth2login.ErrNoCookies)
}

// Errors of callbacks and logins print known error codes and the reason. They print no
// other text that came from outside.
func TestErrorPrints(t *testing.T) {
	for name, c := range map[string]struct {
		err        error
		text, json string
	}{
		"known code":   {&oauth2login.CallbackError{Code: "access_denied", Description: "hush", URI: "hush"}, "the login came back with access_denied", `{"Code":"access_denied"}`},
		"unknown code": {&oauth2login.CallbackError{Code: "hush"}, "the login came back with an unknown error", `{"Code":""}`},
		"login":        {&oauth2login.LoginError{ReturnTo: "/cart", Value: "hush", Err: oauth2login.ErrAccessDenied}, oauth2login.ErrAccessDenied.Error(), `{"ReturnTo":"/cart"}`},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
			assert.Equal(t, c.text, fmt.Sprintf(verb, c.err), name+" "+verb)
		}
		data, err := json.Marshal(c.err)
		require.NoError(t, err, name)
		assert.JSONEq(t, c.json, string(data), name)
	}
	assert.ErrorIs(t, &oauth2login.LoginError{Err: oauth2login.ErrAccessDenied}, oauth2login.ErrAccessDenied)
}
