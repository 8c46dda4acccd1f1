package shangcloudtest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"regexp"
)

// PKCE is a client's setting for PKCE (RFC 7636). According to the platform's game
// clients, the developer console has this setting.
type PKCE int

const (
	PKCEOptional PKCE = iota // checked if the client sends a challenge
	PKCERequired             // no login without a challenge
	PKCEIgnored              // not checked, as on a platform without PKCE (RFC 6749, 3.1)
)

// The formats of verifier and challenge (RFC 7636, 4.1 and 4.2).
var (
	validVerifier  = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)
	validChallenge = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
)

// checkChallenge checks the PKCE parameters of an authorization request.
func checkChallenge(c *client, challenge, method string) *apiError {
	switch {
	case c.PKCE == PKCEIgnored:
	case challenge == "" && method != "":
		return invalidRequest("code_challenge_method without code_challenge")
	case challenge == "" && c.PKCE == PKCERequired:
		return invalidRequest("code_challenge is missing") // RFC 7636, 4.4.1
	case challenge == "":
	case method != "S256": // without a method it would be "plain" (RFC 7636, 4.3)
		return invalidRequest("code_challenge_method must be S256")
	case !validChallenge.MatchString(challenge):
		return invalidRequest("code_challenge is malformed")
	}
	return nil
}

// challengeOf returns the S256 challenge of a verifier (RFC 7636, 4.2), or "" if the
// verifier is malformed.
func challengeOf(verifier string) string {
	if !validVerifier.MatchString(verifier) {
		return ""
	}
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// checkVerifier compares the challenge of the authorization request with the verifier
// of the token request. computed is challengeOf(verifier).
func checkVerifier(challenge, verifier, computed string) *apiError {
	if challenge == "" {
		if verifier != "" {
			// RFC 9700, 2.1.1: an attacker may have removed the challenge.
			return badRequest("invalid_grant", "code_verifier without code_challenge")
		}
		return nil
	}
	if subtle.ConstantTimeCompare([]byte(challenge), []byte(computed)) != 1 {
		return badRequest("invalid_grant", "code_verifier does not match") // RFC 7636, 4.6
	}
	return nil
}
