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

// UserOf tells whose an access token is, if it is good and has a scope. It is
// for handlers set with [Server.Handle], and for tests that ask whether a token
// is still in force.
func (s *Server) UserOf(accessToken, scope string) (User, bool) {
	u, refused := s.holder(accessToken, scope)
	return u, refused == nil
}

// holder is the user of an access token with one of the scopes.
func (s *Server) holder(token string, scopes ...string) (User, *apiError) {
	now := s.settings.Load().now()
	s.mu.Lock()
	defer s.mu.Unlock()
	t, found := s.access.get(token, now)
	if !found || t.expired || t.grant.revoked {
		return User{}, &apiError{http.StatusUnauthorized, "invalid_token", "the access token is unknown, expired or revoked"}
	}
	if !slices.ContainsFunc(scopes, func(scope string) bool { return slices.Contains(t.scopes, scope) }) {
		return User{}, &apiError{http.StatusForbidden, "insufficient_scope", "needs the scope " + scopes[0]}
	}
	u, known := s.user(t.grant.uid)
	if !known {
		return User{}, &apiError{http.StatusUnauthorized, "invalid_token", "the user does not exist"}
	}
	return u, nil
}

// authorized answers a call that is not (RFC 6750, 3), and reports whether it is.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request, scopes ...string) (User, bool) {
	refused := &apiError{http.StatusUnauthorized, "invalid_token", "the access token is missing"}
	// The scheme's case does not count (RFC 9110, 11.1): the official clients
	// send "token_type" as they got it.
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		var u User
		if u, refused = s.holder(token, scopes...); refused == nil {
			return u, true
		}
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="ShangCloud", error="`+refused.code+`"`)
	writeError(w, refused)
	return User{}, false
}

// readJSON reads the body of a call into v, a pointer to a struct. It answers
// and reports false if it is not a JSON object.
func readJSON(w http.ResponseWriter, r *http.Request, body []byte, v any) bool {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		writeError(w, &apiError{http.StatusUnsupportedMediaType, "invalid_request", "the Content-Type must be application/json"})
		return false
	}
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) || json.Unmarshal(body, v) != nil {
		writeError(w, badRequest("invalid_request", "the body must be a JSON object"))
		return false
	}
	return true
}

// userInfo is POST /api/user/info, as seen in the platform's reference
// documentation.
func (s *Server) userInfo(w http.ResponseWriter, r *http.Request, body []byte) {
	u, ok := s.authorized(w, r, "user:basic")
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

// openIDUserInfo is GET /oauth/userinfo, which the platform's game clients use:
// OpenID Connect Core 1.0, 5.3.
func (s *Server) openIDUserInfo(w http.ResponseWriter, r *http.Request, _ []byte) {
	u, ok := s.authorized(w, r, "openid", "profile", "user:basic")
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

// variable is POST /api/varibles, as seen in the platform's reference
// documentation and its official clients. Variables belong to a user: all
// applications of the user share them.
func (s *Server) variable(w http.ResponseWriter, r *http.Request, body []byte) {
	u, ok := s.authorized(w, r, "var:io")
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
		writeError(w, badRequest("invalid_request", "key and value are needed"))
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
		writeError(w, badRequest("invalid_request", "action must be read, write or delete"))
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// missingVariable answers for a variable that does not exist. It reports false
// if the answer is that of an empty one.
func (s *Server) missingVariable(w http.ResponseWriter) bool {
	switch s.settings.Load().MissingVariable {
	case MissingIsError: // failures with status 200 are seen by the official clients
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
