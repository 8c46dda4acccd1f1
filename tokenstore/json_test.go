package tokenstore_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/tokenstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

var fullToken = oauth2.Token{
	AccessToken: "<at>&", TokenType: "Bearer", RefreshToken: "令牌",
	Expiry: time.Date(2031, 7, 9, 11, 22, 33, 123456789, time.UTC), ExpiresIn: 3600,
}

func TestMarshal(t *testing.T) {
	for name, extra := range map[string]map[string]any{
		"no extra":       nil,
		"scope":          {"scope": "openid user:basic"},
		"id_token":       {"id_token": "e30.e30.c2ln"},
		"both":           {"scope": "openid", "id_token": "e30.e30.c2ln"},
		"list of scopes": {"scope": []any{"user:read", "chat:read"}}, // as Twitch answers
	} {
		t.Run(name, func(t *testing.T) {
			data, err := tokenstore.Marshal(fullToken.WithExtra(extra))
			require.NoError(t, err)
			got, err := tokenstore.Unmarshal(data)
			require.NoError(t, err)
			for _, member := range []string{"scope", "id_token"} {
				assert.Equal(t, extra[member], got.Extra(member), member)
			}
			assert.Equal(t, fullToken, *got.WithExtra(nil))
			var plain oauth2.Token
			require.NoError(t, json.Unmarshal(data, &plain), "encoding/json reads it, too")
			assert.Equal(t, fullToken, plain)
		})
	}
}

func TestMarshal_other_extras_are_not_kept(t *testing.T) {
	want, err := json.Marshal(fullToken)
	require.NoError(t, err)
	got, err := tokenstore.Marshal(fullToken.WithExtra(map[string]any{"access_token": "other", "user": 7}))
	require.NoError(t, err)
	assert.Equal(t, string(want), string(got))
}

func TestMarshal_errors(t *testing.T) {
	const secret = "hush-hush"
	year := func(y int) *oauth2.Token {
		return &oauth2.Token{AccessToken: secret, Expiry: time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC)}
	}
	for name, tok := range map[string]*oauth2.Token{
		"no token":      nil,
		"year 10000":    year(10000),
		"year -1":       year(-1),
		"scope no JSON": (&oauth2.Token{}).WithExtra(map[string]any{"scope": func() {}}),
		"error that quotes": (&oauth2.Token{}).WithExtra(map[string]any{
			"id_token": json.RawMessage(`{"` + secret),
		}),
	} {
		t.Run(name, func(t *testing.T) {
			data, err := tokenstore.Marshal(tok)
			require.Error(t, err)
			assert.Nil(t, data)
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "hush")
		})
	}
}

func TestUnmarshal(t *testing.T) {
	for name, tok := range map[string]oauth2.Token{"full": fullToken, "empty": {}, "access token only": {AccessToken: "at"}} {
		t.Run("plain JSON/"+name, func(t *testing.T) {
			data, err := json.Marshal(tok)
			require.NoError(t, err)
			got, err := tokenstore.Unmarshal(data)
			require.NoError(t, err)
			assert.Equal(t, tok, *got)
			assert.Nil(t, got.Extra("scope"))
		})
	}
}

// notTokens are texts that Unmarshal and File refuse, without quoting them.
var notTokens = map[string]string{
	"nothing":          "",
	"null":             "null",
	"list":             `["hush"]`,
	"half a token":     `{"access_token":"hush`,
	"wrong type":       `{"access_token":{"hush":1}}`,
	"expiry no time":   `{"access_token":"at","expiry":"hush"}`,
	"expires_in large": `{"access_token":"hush","expires_in":1e400}`,
	"text behind":      `{"access_token":"at"} hush`,
}

func TestUnmarshal_errors(t *testing.T) {
	for name, data := range notTokens {
		t.Run(name, func(t *testing.T) {
			tok, err := tokenstore.Unmarshal([]byte(data))
			require.Error(t, err)
			assert.Nil(t, tok)
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "hush")
		})
	}
}
