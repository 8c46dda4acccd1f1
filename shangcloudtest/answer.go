package shangcloudtest

import (
	"encoding/json"
	"net/http"
)

// writeJSON answers with a JSON value. No cache may keep the platform's answers
// (RFC 6749, 5.1).
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // cannot happen: all answers can be encoded
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// apiError is an error answer in the form of RFC 6749, 5.2.
type apiError struct {
	status      int
	code        string
	description string
}

func writeError(w http.ResponseWriter, e *apiError) {
	writeJSON(w, e.status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description,omitempty"`
	}{e.code, e.description})
}

func invalidRequest(description string) *apiError {
	return badRequest("invalid_request", description)
}

func badRequest(code, description string) *apiError {
	return &apiError{http.StatusBadRequest, code, description}
}
