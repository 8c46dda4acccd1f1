package tokenstore

import (
	"encoding/json"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"golang.org/x/oauth2"
)

// where is the beginning of error texts of this package.
const where = "tokenstore"

// stored is the JSON form of a token.
type stored struct {
	*oauth2.Token
	Scope   any `json:"scope,omitempty"` // a string, or a list at some providers
	IDToken any `json:"id_token,omitempty"`
}

// Marshal returns tok as JSON: its exported fields as encoding/json writes them, and the
// members scope and id_token if [oauth2.Token.Extra] has them. All stores of this module
// keep tokens in this form.
//
// Marshal returns an error if tok is nil, or if the expiry is outside the years 0 to 9999,
// which JSON can't represent. Errors never quote the token.
func Marshal(tok *oauth2.Token) ([]byte, error) {
	if tok == nil {
		return nil, quiet.New(where, "there is no token to save")
	}
	data, err := json.Marshal(stored{tok, tok.Extra("scope"), tok.Extra("id_token")})
	if err != nil { // the text of err may quote an extra
		return nil, quiet.New(where, "the token can't be written as JSON: its expiry is not in the years 0 to 9999, or its scope or id_token is no JSON value")
	}
	return data, nil
}

// Unmarshal decodes what [Marshal] returned. It also reads an [oauth2.Token] that
// encoding/json encoded. data must be one JSON object whose members have the right types.
// Errors never quote data.
func Unmarshal(data []byte) (*oauth2.Token, error) {
	s := &stored{Token: new(oauth2.Token)}
	// If data is null, s becomes nil.
	if json.Unmarshal(data, &s) != nil || s == nil {
		return nil, quiet.New(where, "the stored data is not a token")
	}
	extra := map[string]any{}
	if s.Scope != nil {
		extra["scope"] = s.Scope
	}
	if s.IDToken != nil {
		extra["id_token"] = s.IDToken
	}
	if len(extra) == 0 {
		return s.Token, nil
	}
	return s.Token.WithExtra(extra), nil
}
