package shangcloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// assumedLifetime is that of a token whose answer does not say when it
	// expires. x/oauth2 takes such a token to be valid forever.
	assumedLifetime = time.Hour

	// maxLifetime caps what an answer may claim.
	maxLifetime = 365 * 24 * time.Hour
)

// canonicalToken checks the body of a successful token answer and rewrites it so
// that it has one meaning: exact names, a bearer token fit for a header, and a
// lifetime in whole seconds above zero.
//
// An answer that carries an error passes as it is; x/oauth2 makes a
// [oauth2.RetrieveError] of it.
func canonicalToken(body []byte) ([]byte, error) {
	var tok struct {
		AccessToken  string          `json:"access_token"`
		TokenType    string          `json:"token_type"`
		RefreshToken string          `json:"refresh_token"`
		ExpiresIn    json.RawMessage `json:"expires_in"`
		Error        string          `json:"error"`
	}
	if err := decodeObject(body, &tok, "access_token", "token_type", "refresh_token", "expires_in", "error"); err != nil {
		return nil, err
	}
	switch {
	case tok.Error != "":
		return body, nil
	case !headerSafe(tok.AccessToken):
		return nil, badAnswer("no usable access_token")
	// "Bearer in some casing"; x/oauth2 takes a missing type for Bearer as well.
	case tok.TokenType != "" && !strings.EqualFold(tok.TokenType, "Bearer"):
		return nil, badAnswer("token_type is not Bearer")
	}
	expiresIn := wholeSeconds(lifetime(tok.ExpiresIn))
	if bytes.Equal(expiresIn, tok.ExpiresIn) {
		return body, nil // as it should be
	}
	return withMembers(body, map[string]json.RawMessage{"expires_in": expiresIn})
}

// withMembers returns a JSON object with some of its members replaced.
func withMembers(object []byte, members map[string]json.RawMessage) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(object, &all); err != nil {
		return nil, badAnswer("not a JSON object")
	}
	maps.Copy(all, members)
	return json.Marshal(all)
}

// lifetime reads expires_in so that nothing overflows and nothing is valid
// forever by accident. Zero and negative ones mean one second, so that the token is
// refreshed before its next use.
func lifetime(raw json.RawMessage) time.Duration {
	return seconds(raw, assumedLifetime, maxLifetime)
}

// seconds reads a number, or a string that holds one: it counts in seconds, rounded
// down, at least one and at most as many as most. Whatever else stands there, and
// nothing at all, means assumed.
func seconds(raw json.RawMessage, assumed, most time.Duration) time.Duration {
	text := string(raw)
	if s, err := strconv.Unquote(text); err == nil {
		text = strings.TrimSpace(s)
	}
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax), math.IsNaN(f), math.IsInf(f, 1):
		return assumed
	case f < 1:
		return time.Second
	case f > most.Seconds():
		return most
	}
	return time.Duration(f) * time.Second
}

// badAnswerError is an answer with a successful status that is none.
type badAnswerError struct{ text string }

func badAnswer(text string) error { return &badAnswerError{text} }

func (e *badAnswerError) Error() string { return "unusable answer: " + e.text }

// decodeObject reads body, one JSON object and nothing else, into the struct that
// v points to. Each of names, the members that matter, may occur once and in
// exactly this spelling: encoding/json would take the last one in any case.
func decodeObject(body []byte, v any, names ...string) error {
	if !utf8.Valid(body) {
		return badAnswer("not UTF-8")
	}
	if !isObject(body) {
		return badAnswer("not a JSON object")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return badAnswer("not the expected JSON")
	}
	seen := 0 // a bit for each of names
	for key := range topLevelKeys(body) {
		for i, name := range names {
			if !bytes.EqualFold(key, []byte(name)) {
				continue
			}
			if string(key) != name || seen&(1<<i) != 0 {
				return badAnswer("ambiguous JSON")
			}
			seen |= 1 << i
		}
	}
	return nil
}

// isObject reports whether body starts as a JSON object does.
func isObject(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))
}

// topLevelKeys yields the names of the members of object, which is valid JSON.
func topLevelKeys(object []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		depth, isKey := 0, true
		for i := 0; i < len(object); i++ {
			switch object[i] {
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			case ':':
				isKey = false
			case ',':
				isKey = true
			case '"':
				start := i
				for i++; object[i] != '"'; i++ {
					if object[i] == '\\' {
						i++
					}
				}
				if depth != 1 || !isKey {
					continue
				}
				key := object[start+1 : i]
				if bytes.IndexByte(key, '\\') >= 0 {
					var s string
					if json.Unmarshal(object[start:i+1], &s) != nil {
						return
					}
					key = []byte(s)
				}
				if !yield(key) {
					return
				}
			}
		}
	}
}

// headerSafe reports whether a token can stand in a header as it is: RFC 6749,
// appendix A.12 allows visible ASCII and spaces; a space would make two words
// of one token.
func headerSafe(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return token != ""
}

func isSuccess(status int) bool { return status >= 200 && status <= 299 }

// readBody reads the body of an answer, up to limit bytes. A longer one is no answer
// if its status is a successful one, and is cut otherwise.
func readBody(res *http.Response, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		if isSuccess(res.StatusCode) {
			return nil, badAnswer(fmt.Sprintf("longer than %d bytes", limit))
		}
		body = body[:limit]
	}
	return body, nil
}

func wholeSeconds(d time.Duration) json.RawMessage {
	return strconv.AppendInt(nil, int64(d/time.Second), 10)
}
