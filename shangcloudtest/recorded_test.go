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

// recording is what an official client of the platform has sent.
type recording struct {
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

// recordedRoom is the ID of the room in each recording.
const recordedRoom = "550e8400-e29b-41d4-a716-446655440000"

func readRecording(t *testing.T, client string) recording {
	t.Helper()
	text, err := os.ReadFile("testdata/" + client + ".json")
	require.NoError(t, err)
	var r recording
	require.NoError(t, json.Unmarshal(text, &r))
	return r
}

// TestRecordedPythonClient sends the recorded requests of the official Python client.
// It replaces only the code, the access token and the room with valid ones.
func TestRecordedPythonClient(t *testing.T) {
	recording := readRecording(t, "python-1.2.0")
	s := platform(t)
	var authURL, access, room string
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

// TestRecordedRooms sends the recorded requests of two other official clients.
func TestRecordedRooms(t *testing.T) {
	for _, client := range []string{"go-7512d81", "node-6b131f6"} {
		t.Run(client, func(t *testing.T) {
			recording := readRecording(t, client)
			s := platform(t)
			access, _ := s.Issue(webClient, uid, "mmo")
			room := ""
			answers := map[string][]string{}
			for _, step := range recording.Requests {
				for _, r := range step.Requests {
					valid := strings.NewReplacer(recording.AccessToken, access, recordedRoom, room)
					var headers []string
					for name, value := range r.Headers {
						headers = append(headers, name, valid.Replace(value))
					}
					a := send(t, r.Method, s.URL+r.Target, r.Body, headers...)
					require.Equal(t, http.StatusOK, a.status, "%s: %s", step.Name, a.body)
					answers[step.Name] = append(answers[step.Name], a.body)
					if step.Name == "room new" {
						room = a.value(t, "room_id").(string)
					}
				}
			}
			assert.Len(t, answers, 8, "all calls")
			assert.Contains(t, answers["room join"][1], `"assigned_uid":"10001-2"`)
			assert.JSONEq(t, `{"extra_data":{"max_players":8,"n":1.5,"open":true,"motd":"hi 键"}}`, answers["room data get"][0])
			assert.JSONEq(t, `{"extra_data":{"max_players":8,"n":1.5,"open":true}}`, answers["room data get"][1])
			assert.Equal(t, []string{`{"user_count":2}`, `{"user_count":1}`}, answers["room usercount"])
		})
	}
}
