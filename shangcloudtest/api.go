package shangcloudtest

import (
	"bytes"
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// UserOf returns the user of an access token. It reports false if the token is invalid
// or does not have the scope. Use it in handlers set with [Server.Handle], and in tests
// that check whether a token is still valid.
func (s *Server) UserOf(accessToken, scope string) (User, bool) {
	h, refusal := s.tokenHolder(accessToken, scope)
	return h.User, refusal == nil
}

// holder is the user and the application that an access token belongs to.
type holder struct {
	User
	clientID string
}

// tokenHolder returns the holder of an access token that has one of the scopes.
func (s *Server) tokenHolder(token string, scopes ...string) (holder, *apiError) {
	now := s.settings.Load().now()
	s.mu.Lock()
	defer s.mu.Unlock()
	t, found := s.access.get(token, now)
	if !found || t.expired || t.grant.revoked {
		return holder{}, &apiError{http.StatusUnauthorized, "invalid_token", "the access token is unknown, expired or revoked"}
	}
	if !slices.ContainsFunc(scopes, func(scope string) bool { return slices.Contains(t.scopes, scope) }) {
		return holder{}, &apiError{http.StatusForbidden, "insufficient_scope", "needs the scope " + scopes[0]}
	}
	u, known := s.user(t.grant.uid)
	if !known {
		return holder{}, &apiError{http.StatusUnauthorized, "invalid_token", "the user does not exist"}
	}
	return holder{u, t.grant.clientID}, nil
}

// authorizeCall returns the holder of the access token that came with an API call in the
// given form. If the token is invalid, authorizeCall answers with an error (RFC 6750, 3)
// and reports false.
func (s *Server) authorizeCall(w http.ResponseWriter, r *http.Request, form Authorization, scopes ...string) (holder, bool) {
	refusal := &apiError{http.StatusUnauthorized, "invalid_token", "the access token is missing"}
	if token := form.token(r.Header.Get("Authorization")); token != "" {
		var h holder
		if h, refusal = s.tokenHolder(token, scopes...); refusal == nil {
			return h, true
		}
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="ShangCloud", error="`+refusal.code+`"`)
	writeError(w, refusal)
	return holder{}, false
}

// token returns the token in an Authorization header, or "" if the header has another form.
func (a Authorization) token(header string) string {
	// The scheme is not case-sensitive (RFC 9110, 11.1). The official clients send the
	// "token_type" that they received.
	scheme, token, isTyped := strings.Cut(header, " ")
	switch {
	case !isTyped && a != TypedAuthorization:
		return header
	case isTyped && a != BareAuthorization && strings.EqualFold(scheme, "Bearer"):
		return token
	}
	return ""
}

// readJSON decodes the body of an API call into v, a pointer to a struct. If the body
// is not a JSON object, readJSON answers with an error and reports false.
func readJSON(w http.ResponseWriter, r *http.Request, body []byte, v any) bool {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		writeError(w, &apiError{http.StatusUnsupportedMediaType, "invalid_request", "the Content-Type must be application/json"})
		return false
	}
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) || json.Unmarshal(body, v) != nil {
		writeError(w, invalidRequest("the body must be a JSON object"))
		return false
	}
	return true
}

// userInfo is POST /api/user/info, according to the platform's reference
// documentation.
func (s *Server) userInfo(w http.ResponseWriter, r *http.Request, body []byte) {
	u, ok := s.authorizeCall(w, r, TypedAuthorization, "user:basic")
	if !ok || !readJSON(w, r, body, &struct{}{}) {
		return
	}
	writeJSON(w, http.StatusOK, struct {
		UID      int64  `json:"uid"`
		Nickname string `json:"nickname"`
		Mail     string `json:"mail"`
		Avatar   string `json:"avatar"`
	}{u.ID, u.Nickname, u.Email, u.AvatarURL})
}

// openIDUserInfo is GET /oauth/userinfo (OpenID Connect Core 1.0, 5.3). The platform's
// game clients use it.
func (s *Server) openIDUserInfo(w http.ResponseWriter, r *http.Request, _ []byte) {
	u, ok := s.authorizeCall(w, r, s.settings.Load().Authorization, "openid", "profile", "user:basic")
	if !ok {
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Subject  string `json:"sub"`
		Nickname string `json:"nickname"`
		Email    string `json:"email"`
		Picture  string `json:"picture"`
	}{strconv.FormatInt(u.ID, 10), u.Nickname, u.Email, u.AvatarURL})
}

// variable is POST /api/varibles, according to the platform's reference documentation
// and its official clients. All applications of a user share the user's variables.
func (s *Server) variable(w http.ResponseWriter, r *http.Request, body []byte) {
	u, ok := s.authorizeCall(w, r, TypedAuthorization, "var:io")
	if !ok {
		return
	}
	var call struct {
		Key    string  `json:"key"`
		Action string  `json:"action"`
		Value  *string `json:"value"`
	}
	if !readJSON(w, r, body, &call) {
		return
	}
	if call.Key == "" || call.Value == nil {
		writeError(w, invalidRequest("key and value are needed"))
		return
	}
	answer := struct {
		Value string `json:"value"`
	}{*call.Value}
	switch call.Action {
	case "write":
		s.SetVariable(u.ID, call.Key, *call.Value)
	case "read":
		value, found := s.lookupVariable(u.ID, call.Key)
		if !found && s.missingVariable(w) {
			return
		}
		answer.Value = value
	case "delete":
		s.deleteVariable(u.ID, call.Key)
		answer.Value = ""
	default:
		writeError(w, invalidRequest("action must be read, write or delete"))
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// missingVariable answers a read of a variable that does not exist. If the setting is
// MissingIsEmpty, it writes no answer and reports false.
func (s *Server) missingVariable(w http.ResponseWriter) bool {
	switch s.settings.Load().MissingVariable {
	case MissingIsError: // the official clients expect errors with status 200
		writeJSON(w, http.StatusOK, map[string]string{"error": "variable not found"})
		return true
	case MissingIsNotFound:
		writeError(w, &apiError{http.StatusNotFound, "not_found", "variable not found"})
		return true
	default:
		return false
	}
}

// SetVariable writes a variable of a user.
func (s *Server) SetVariable(uid int64, key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.variables[uid] == nil {
		s.variables[uid] = make(map[string]string)
	}
	s.variables[uid][key] = value
}

// Variables returns a copy of the variables of a user.
func (s *Server) Variables(uid int64) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.variables[uid])
}

func (s *Server) lookupVariable(uid int64, key string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, found := s.variables[uid][key]
	return value, found
}

func (s *Server) deleteVariable(uid int64, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.variables[uid], key)
}
