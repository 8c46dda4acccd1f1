package shangcloudtest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRecordedPythonClient sends the recorded requests of the official Python client.
// It replaces only the code, the access token and the room with valid ones.
func TestRecordedPythonClient(t *testing.T) {
	var recording struct {
		AccessToken string `json:"access_token"`
		Requests    []struct {
			Name     string
			URL      string
			Requests []struct {
				Method, Target, Body string
				Headers              map[string]string
			}
		}
	}
	text, err := os.ReadFile("testdata/python-1.2.0.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &recording))

	s := platform(t)
	var authURL, access string
	recordedRoom, room := "550e8400-e29b-41d4-a716-446655440000", ""
	sent := 0
	for _, step := range recording.Requests {
		if step.URL != "" {
			authURL = strings.Replace(step.URL, "{base}", s.URL, 1)
			continue
		}
		for _, r := range step.Requests {
			body := r.Body
			if step.Name == "exchange" {
				code, state := approve(t, s, authURL)
				assert.Equal(t, "m/U62rz7su", state)
				body = strings.Replace(body, "code-1", url.QueryEscape(code), 1)
			}
			var headers []string
			valid := strings.NewReplacer(recording.AccessToken, access, recordedRoom, room)
			for name, value := range r.Headers {
				headers = append(headers, name, valid.Replace(value))
			}
			a := send(t, r.Method, s.URL+r.Target, body, headers...)
			require.Equal(t, http.StatusOK, a.status, "%s: %s", step.Name, a.body)
			sent++
			switch step.Name {
			case "exchange":
				access = a.value(t, "access_token").(string)
			case "user info":
				assert.EqualValues(t, uid, a.value(t, "uid"))
			case "variable read":
				assert.Equal(t, "dark", a.value(t, "value"))
			case "room new":
				room = a.value(t, "room_id").(string)
			case "room join":
				assert.Equal(t, room, a.value(t, "room_id"))
				assert.Equal(t, "websocket", a.value(t, "protocol"))
			case "room data get":
				assert.Equal(t, map[string]any{"max_players": 8., "motd": "hi"}, a.value(t, "extra_data"))
			case "room user count":
				assert.EqualValues(t, 1, a.value(t, "user_count"))
			}
		}
	}
	assert.Equal(t, 16, sent)
	assert.Equal(t, map[string]string{"键 1": "值\"\\\n<&>\u2028😀"}, s.Variables(uid), "the other variable was deleted")
}
