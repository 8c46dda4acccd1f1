package shangcloudtest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

func TestUserInfo(t *testing.T) {
	s := platform(t)
	access, _ := s.Issue(webClient, uid)
	for _, body := range []string{"{}", " { }\r\n ", `{"more": [1]}`} {
		a := call(t, s, "/api/user/info", access, body)
		assert.Equal(t, http.StatusOK, a.status)
		assert.JSONEq(t, `{"uid":10001,"nickname":"小云","mail":"yun@example.com","avatar":"https://cdn.example.com/1.png"}`, a.body)
	}
	a := send(t, "GET", s.URL+"/oauth/userinfo", "", "Authorization", "bearer "+access)
	assert.JSONEq(t, `{"sub":"10001","nickname":"小云","email":"yun@example.com","picture":"https://cdn.example.com/1.png"}`, a.body)

	s.AddUser(shangcloudtest.User{ID: uid, Nickname: "new"})
	assert.Equal(t, "new", call(t, s, "/api/user/info", access, "{}").value(t, "nickname"))
}

func TestAPIErrors(t *testing.T) {
	s := platform(t)
	basicOnly, _ := s.Issue(webClient, uid)
	rooms, _ := s.Issue(webClient, uid, "mmo")
	full, refreshToken := s.Issue(webClient, uid, everyScope...)
	const jsonType = "application/json"
	read := `{"key":"k","action":"read","value":""}`
	for name, row := range map[string]struct {
		method, path, authorization, contentType, body string
		status                                         int
		code                                           string
	}{
		"no token":             {"POST", "/api/user/info", "", jsonType, "{}", 401, "invalid_token"},
		"unknown token":        {"POST", "/api/user/info", "Bearer x", jsonType, "{}", 401, "invalid_token"},
		"no scheme":            {"POST", "/api/user/info", full, jsonType, "{}", 401, "invalid_token"},
		"another scheme":       {"POST", "/api/user/info", "Basic " + full, jsonType, "{}", 401, "invalid_token"},
		"refresh token":        {"POST", "/api/user/info", "Bearer " + refreshToken, jsonType, "{}", 401, "invalid_token"},
		"scheme in capitals":   {"POST", "/api/user/info", "BEARER " + full, jsonType, "{}", 200, ""},
		"charset":              {"POST", "/api/user/info", "Bearer " + full, jsonType + "; charset=utf-8", "{}", 200, ""},
		"no user:basic":        {"POST", "/api/user/info", "Bearer " + rooms, jsonType, "{}", 403, "insufficient_scope"},
		"no var:io":            {"POST", "/api/varibles", "Bearer " + basicOnly, jsonType, read, 403, "insufficient_scope"},
		"no openid":            {"GET", "/oauth/userinfo", "Bearer " + rooms, "", "", 403, "insufficient_scope"},
		"wrong type":           {"POST", "/api/user/info", "Bearer " + full, formType, "{}", 415, "invalid_request"},
		"no type":              {"POST", "/api/user/info", "Bearer " + full, "", "{}", 415, "invalid_request"},
		"empty body":           {"POST", "/api/user/info", "Bearer " + full, jsonType, "", 400, "invalid_request"},
		"null":                 {"POST", "/api/user/info", "Bearer " + full, jsonType, "null", 400, "invalid_request"},
		"array":                {"POST", "/api/user/info", "Bearer " + full, jsonType, "[]", 400, "invalid_request"},
		"two objects":          {"POST", "/api/user/info", "Bearer " + full, jsonType, "{}{}", 400, "invalid_request"},
		"incomplete object":    {"POST", "/api/user/info", "Bearer " + full, jsonType, "{", 400, "invalid_request"},
		"no key":               {"POST", "/api/varibles", "Bearer " + full, jsonType, `{"action":"read","value":""}`, 400, "invalid_request"},
		"empty key":            {"POST", "/api/varibles", "Bearer " + full, jsonType, `{"key":"","action":"read","value":""}`, 400, "invalid_request"},
		"no value":             {"POST", "/api/varibles", "Bearer " + full, jsonType, `{"key":"k","action":"write"}`, 400, "invalid_request"},
		"value is a number":    {"POST", "/api/varibles", "Bearer " + full, jsonType, `{"key":"k","action":"write","value":1}`, 400, "invalid_request"},
		"unknown action":       {"POST", "/api/varibles", "Bearer " + full, jsonType, `{"key":"k","action":"list","value":""}`, 400, "invalid_request"},
		"GET user info":        {"GET", "/api/user/info", "Bearer " + full, jsonType, "", 405, "invalid_request"},
		"PUT variable":         {"PUT", "/api/varibles", "Bearer " + full, jsonType, read, 405, "invalid_request"},
		"GET token":            {"GET", "/oauth/token", "", "", "", 405, "invalid_request"},
		"POST authorize":       {"POST", "/oauth/authorize", "", formType, "", 405, "invalid_request"},
		"GET consent":          {"GET", "/oauth/consent", "", "", "", 405, "invalid_request"},
		"POST device page":     {"POST", "/device", "", formType, "", 405, "invalid_request"},
		"GET device flow":      {"GET", "/oauth/device_authorization", "", "", "", 405, "invalid_request"},
		"POST openid userinfo": {"POST", "/oauth/userinfo", "Bearer " + full, jsonType, "{}", 405, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			headers := []string{"Content-Type", row.contentType}
			if row.authorization != "" {
				headers = append(headers, "Authorization", row.authorization)
			}
			a := send(t, row.method, s.URL+row.path, row.body, headers...)
			assert.Equal(t, row.status, a.status, a.body)
			assert.Equal(t, row.status == 405, a.header.Get("Allow") != "")
			assert.Equal(t, row.status == 401 || row.status == 403, a.header.Get("WWW-Authenticate") != "")
			if row.code != "" {
				assert.Equal(t, row.code, a.value(t, "error"))
			}
		})
	}
}

func TestVariables(t *testing.T) {
	s := platform(t)
	s.AddClient(shangcloudtest.Client{ID: "other", Secret: "other"})
	access, _ := s.Issue(webClient, uid, "var:io")
	elsewhere, _ := s.Issue("other", uid, "var:io")
	theirs, _ := s.Issue(webClient, otherUID, "var:io")
	do := func(token, key, action, value string) answer {
		body, err := json.Marshal(map[string]string{"key": key, "action": action, "value": value})
		require.NoError(t, err)
		a := call(t, s, "/api/varibles", token, string(body))
		require.Equal(t, http.StatusOK, a.status, a.body)
		return a
	}
	odd := "值\"\\\n<&>\u2028😀"
	do(access, "键 1", "write", odd)
	assert.Equal(t, odd, do(access, "键 1", "read", "").value(t, "value"))
	assert.Equal(t, odd, do(elsewhere, "键 1", "read", "").value(t, "value"), "all applications share the variables")
	assert.Equal(t, "", do(theirs, "键 1", "read", "").value(t, "value"))
	assert.Equal(t, map[string]string{"键 1": odd}, s.Variables(uid))

	do(access, "键 1", "delete", "")
	assert.Empty(t, s.Variables(uid))
	do(access, "键 1", "delete", "")

	s.SetVariable(uid, "theme", "dark")
	assert.Equal(t, "dark", do(access, "theme", "read", "").value(t, "value"))
	s.Variables(uid)["theme"] = "changed"
	assert.Equal(t, "dark", s.Variables(uid)["theme"], "Variables returns a copy")

	s.Configure(func(set *shangcloudtest.Settings) { set.MissingVariable = shangcloudtest.MissingIsError })
	assert.NotEmpty(t, do(access, "none", "read", "").value(t, "error"))
	s.Configure(func(set *shangcloudtest.Settings) { set.MissingVariable = shangcloudtest.MissingIsNotFound })
	assert.Equal(t, http.StatusNotFound, call(t, s, "/api/varibles", access, `{"key":"none","action":"read","value":""}`).status)
}

func TestAPILargeBody(t *testing.T) {
	s := platform(t)
	access, _ := s.Issue(webClient, uid, "var:io")
	value := strings.Repeat(`\u0001`, 1<<20)
	a := call(t, s, "/api/varibles", access, `{"key":"k","action":"write","value":"`+value+`"}`)
	require.Equal(t, http.StatusOK, a.status)
	assert.Len(t, s.Variables(uid)["k"], 1<<20)
	assert.Equal(t, strings.Repeat("\x01", 1<<20), call(t, s, "/api/varibles", access, `{"key":"k","action":"read","value":""}`).value(t, "value"))

	// This request uses the in-process transport. Over a network, the closed connection may
	// hide the answer.
	req, err := http.NewRequest("POST", s.URL+"/api/varibles", strings.NewReader(strings.Repeat(" ", 8<<20+1)))
	require.NoError(t, err)
	resp, err := s.Transport().RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
}
