package shangcloudtest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"regexp"
)

// PKCE is a client's setting for proof keys (RFC 7636). As seen in the platform's
// game clients, the developer console has one.
type PKCE int

const (
	PKCEOptional PKCE = iota // checked when a challenge was sent
	PKCERequired             // no login without a challenge
	PKCEIgnored              // as on a platform that does not know it (RFC 6749, 3.1)
)

// RFC 7636, 4.1 and 4.2.
var (
	validVerifier  = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)
	validChallenge = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
)

// checkChallenge judges the PKCE parameters of an authorization request.
func checkChallenge(c *client, challenge, method string) *apiError {
	switch {
	case c.PKCE == PKCEIgnored:
	case challenge == "" && method != "":
		return badRequest("invalid_request", "code_challenge_method without code_challenge")
	case challenge == "" && c.PKCE == PKCERequired:
		return badRequest("invalid_request", "code_challenge is needed") // RFC 7636, 4.4.1
	case challenge == "":
	case method != "S256": // a missing one would mean "plain" (RFC 7636, 4.3)
		return badRequest("invalid_request", "code_challenge_method must be S256")
	case !validChallenge.MatchString(challenge):
		return badRequest("invalid_request", "code_challenge is malformed")
	}
	return nil
}

// challengeOf is the S256 challenge of a verifier (RFC 7636, 4.2), or "" if there
// is none to have.
func challengeOf(verifier string) string {
	if !validVerifier.MatchString(verifier) {
		return ""
	}
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// checkVerifier compares what was promised with what came.
func checkVerifier(promised, verifier, challenge string) *apiError {
	if promised == "" {
		if verifier != "" {
			// RFC 9700, 2.1.1: somebody took the challenge out of the request.
			return badRequest("invalid_grant", "code_verifier without code_challenge")
		}
		return nil
	}
	if subtle.ConstantTimeCompare([]byte(promised), []byte(challenge)) != 1 {
		return badRequest("invalid_grant", "code_verifier does not match") // RFC 7636, 4.6
	}
	return nil
}
