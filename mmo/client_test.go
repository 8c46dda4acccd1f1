package mmo_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

const (
	ownerUID = int64(10001)
	guestUID = int64(10002)
)

// newPlatform starts a platform with the application "game" and two users.
func newPlatform(t *testing.T) *shangcloudtest.Server {
	t.Helper()
	platform := shangcloudtest.NewServer(t)
	platform.AddClient(shangcloudtest.Client{ID: "game"})
	platform.AddClient(shangcloudtest.Client{ID: "other game"})
	platform.AddUser(shangcloudtest.User{ID: ownerUID})
	platform.AddUser(shangcloudtest.User{ID: guestUID})
	return platform
}

// newAPI returns an API client with a token of a user, which can be refreshed.
func newAPI(t *testing.T, platform *shangcloudtest.Server, app string, uid int64, scopes ...string) *shangcloud.API {
	t.Helper()
	p, err := shangcloud.New(&oauth2.Config{ClientID: app, RedirectURL: "http://127.0.0.1/callback", Endpoint: shangcloud.EndpointAt(platform.URL)}, nil)
	require.NoError(t, err)
	access, refresh := platform.Issue(app, uid, scopes...)
	return p.API(p.TokenSource(&oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now().Add(time.Hour)}))
}

func newClient(t *testing.T, platform *shangcloudtest.Server, uid int64) *mmo.Client {
	t.Helper()
	return mmo.NewClient(newAPI(t, platform, "game", uid, shangcloud.ScopeMMO))
}

// answering returns a client of a server that gives every call the same answer, and a
// function that returns the requests so far.
func answering(t *testing.T, status int, body string, opts ...mmo.ClientOption) (*mmo.Client, func() []*http.Request) {
	t.Helper()
	var mu sync.Mutex
	var seen []*http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		r.Body = io.NopCloser(strings.NewReader(string(sent)))
		mu.Lock()
		seen = append(seen, r)
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	hc := oauth2.NewClient(t.Context(), oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "at-1", TokenType: "Bearer"}))
	return mmo.NewClient(shangcloud.NewAPI(hc, shangcloud.WithBaseURL(server.URL)), opts...), func() []*http.Request {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

// everyCall makes each of the eight calls.
var everyCall = map[string]func(ctx context.Context, c *mmo.Client, room string) error{
	"new": func(ctx context.Context, c *mmo.Client, _ string) error { _, err := c.Create(ctx, ""); return err },
	"join": func(ctx context.Context, c *mmo.Client, room string) error {
		_, err := c.Join(ctx, room, "")
		return err
	},
	"config": func(ctx context.Context, c *mmo.Client, room string) error {
		return c.Configure(ctx, room, mmo.Config{})
	},
	"data/set": func(ctx context.Context, c *mmo.Client, room string) error {
		return c.SetData(ctx, room, "motd", mmo.StringValue("hi"))
	},
	"data/get":    func(ctx context.Context, c *mmo.Client, room string) error { _, err := c.Data(ctx, room); return err },
	"data/delete": func(ctx context.Context, c *mmo.Client, room string) error { return c.DeleteData(ctx, room, "motd") },
	"kick":        func(ctx context.Context, c *mmo.Client, room string) error { return c.Kick(ctx, room, "10003") },
	"usercount": func(ctx context.Context, c *mmo.Client, room string) error {
		_, err := c.UserCount(ctx, room)
		return err
	},
}

func TestClient(t *testing.T) {
	platform, ctx := newPlatform(t), t.Context()
	owner, guest := newClient(t, platform, ownerUID), newClient(t, platform, guestUID)
	own, err := owner.Create(ctx, mmo.ProtocolTCP)
	require.NoError(t, err)
	assert.NotEmpty(t, own.ID)
	assert.NotEmpty(t, own.EdgeURL)
	assert.Equal(t, mmo.ProtocolTCP, own.Protocol)
	assert.Empty(t, own.AssignedUID)

	joined, err := guest.Join(ctx, own.ID, mmo.ProtocolWebSocket)
	require.NoError(t, err)
	assert.Equal(t, own.ID, joined.ID)
	assert.Equal(t, mmo.ProtocolWebSocket, joined.Protocol)
	assert.Contains(t, joined.EdgeURL, "ws://")
	require.NoError(t, owner.Configure(ctx, own.ID, mmo.Config{AllowMultiLogin: true}))
	again, err := guest.Join(ctx, own.ID, "")
	require.NoError(t, err)
	assert.Equal(t, "10002-2", again.AssignedUID)
	count, err := guest.UserCount(ctx, own.ID)
	require.NoError(t, err)
	assert.Equal(t, 3, count)
	require.NoError(t, owner.Kick(ctx, own.ID, again.AssignedUID))
	count, err = owner.UserCount(ctx, own.ID)
	require.NoError(t, err)
	assert.Equal(t, 2, count)

	data, err := guest.Data(ctx, own.ID)
	require.NoError(t, err)
	assert.Equal(t, map[string]mmo.Value{}, data)
	want := map[string]mmo.Value{
		"max_players": mmo.NumberValue(8),
		"digits":      mmo.NumberValue(json.Number("123456789012345678901234567890.10")),
		"motd":        mmo.StringValue("<你好>\"\\\x00\u2028"),
		"empty":       mmo.StringValue(""),
		"open":        mmo.BoolValue(true),
		"closed":      mmo.BoolValue(false),
	}
	for key, value := range want {
		require.NoError(t, owner.SetData(ctx, own.ID, key, value), key)
	}
	data, err = guest.Data(ctx, own.ID)
	require.NoError(t, err)
	assert.Equal(t, want, data)
	require.NoError(t, owner.DeleteData(ctx, own.ID, "motd"))

	platform.Configure(func(s *shangcloudtest.Settings) { s.QuotedRoomData = true })
	data, err = guest.Data(ctx, own.ID)
	require.NoError(t, err)
	assert.NotContains(t, data, "motd")
	players, err := data["max_players"].Int64()
	require.NoError(t, err)
	assert.Equal(t, int64(8), players)
	open, err := data["open"].Bool()
	require.NoError(t, err)
	assert.True(t, open)
}

// TestClientRecorded compares each call with the recorded request of the platform's own
// Python client. That client sends the type of the token.
func TestClientRecorded(t *testing.T) {
	var recording struct {
		Requests []struct {
			Name     string
			Requests []struct {
				Method, Target, Body string
				Headers              map[string]string
			}
		}
	}
	text, err := os.ReadFile("testdata/python-1.2.0.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &recording))
	const room = "550e8400-e29b-41d4-a716-446655440000"
	ctx := t.Context()
	calls := map[string]func(c *mmo.Client) error{
		"room new":                  func(c *mmo.Client) error { _, err := c.Create(ctx, mmo.ProtocolTCP); return err },
		"room new default protocol": func(c *mmo.Client) error { _, err := c.Create(ctx, ""); return err },
		"room join":                 func(c *mmo.Client) error { _, err := c.Join(ctx, room, mmo.ProtocolWebSocket); return err },
		"room config":               func(c *mmo.Client) error { return c.Configure(ctx, room, mmo.Config{AllowMultiLogin: true}) },
		"room data set number":      func(c *mmo.Client) error { return c.SetData(ctx, room, "max_players", mmo.NumberValue(8)) },
		"room data set default type": func(c *mmo.Client) error {
			return c.SetData(ctx, room, "motd", mmo.StringValue("hi"))
		},
		"room data get":    func(c *mmo.Client) error { _, err := c.Data(ctx, room); return err },
		"room data delete": func(c *mmo.Client) error { return c.DeleteData(ctx, room, "motd") },
		"room kick":        func(c *mmo.Client) error { return c.Kick(ctx, room, "12345") },
		"room user count":  func(c *mmo.Client) error { _, err := c.UserCount(ctx, room); return err },
	}
	const answer = `{"room_id":"r","edge_url":"e","connect_key":"k","protocol":"tcp","user_count":1}`
	tested := 0
	for _, recorded := range recording.Requests {
		if !strings.HasPrefix(recorded.Name, "room ") {
			continue
		}
		tested++
		for name, opts := range map[string][]mmo.ClientOption{"bare": nil, "typed": {mmo.WithTypedToken()}} {
			t.Run(recorded.Name+", "+name, func(t *testing.T) {
				client, requests := answering(t, 200, answer, opts...)
				require.NoError(t, calls[recorded.Name](client))
				require.Len(t, requests(), 1)
				got, want := requests()[0], recorded.Requests[0]
				body, err := io.ReadAll(got.Body)
				require.NoError(t, err)
				assert.Equal(t, want.Method, got.Method)
				assert.Equal(t, want.Target, got.RequestURI)
				assert.JSONEq(t, want.Body, string(body))
				sent := map[string]string{}
				for header := range got.Header {
					if header == "Content-Type" || header == "Authorization" || strings.HasPrefix(header, "X-") {
						sent[header] = got.Header.Get(header)
					}
				}
				if name == "bare" {
					assert.Equal(t, "at-1", sent["Authorization"])
					sent["Authorization"] = "Bearer " + sent["Authorization"]
				}
				assert.Equal(t, want.Headers, sent)
			})
		}
	}
	assert.Equal(t, len(calls), tested)
}

func TestClientAuthorization(t *testing.T) {
	platform, ctx := newPlatform(t), t.Context()
	bare := newClient(t, platform, ownerUID)
	typed := mmo.NewClient(newAPI(t, platform, "game", ownerUID, shangcloud.ScopeMMO), mmo.WithTypedToken())
	for form, works := range map[shangcloudtest.Authorization][2]bool{
		shangcloudtest.AnyAuthorization:   {true, true},
		shangcloudtest.BareAuthorization:  {true, false},
		shangcloudtest.TypedAuthorization: {false, true},
	} {
		platform.Configure(func(s *shangcloudtest.Settings) { s.Authorization = form })
		for i, c := range []*mmo.Client{bare, typed} {
			_, err := c.Create(ctx, "")
			if works[i] {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, oauth2login.ErrLoginRequired)
			}
		}
	}

	// With an unknown transport, a client can't send the token alone. It can send the token
	// with its type.
	hc := &http.Client{Transport: unknownTransport{}}
	_, err := mmo.NewClient(shangcloud.NewAPI(hc, shangcloud.WithBaseURL(platform.URL))).Create(ctx, "")
	assert.ErrorContains(t, err, "bare token")
	platform.Configure(func(s *shangcloudtest.Settings) { s.Authorization = shangcloudtest.AnyAuthorization })
	access, _ := platform.Issue("game", ownerUID, shangcloud.ScopeMMO)
	hc.Transport = unknownTransport{&oauth2.Transport{Source: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: access})}}
	_, err = mmo.NewClient(shangcloud.NewAPI(hc, shangcloud.WithBaseURL(platform.URL)), mmo.WithTypedToken()).Create(ctx, "")
	assert.NoError(t, err)
}

// unknownTransport is a wrapper, as applications have them for tracing.
type unknownTransport struct{ http.RoundTripper }

// After a 401, each call is repeated once with a new token, even the call that makes a
// room.
func TestClientRefresh(t *testing.T) {
	platform, ctx := newPlatform(t), t.Context()
	room, err := newClient(t, platform, ownerUID).Create(ctx, "")
	require.NoError(t, err)
	for name, call := range everyCall {
		owner := newClient(t, platform, ownerUID)
		platform.ExpireTokens()
		platform.ForgetRequests()
		require.NoError(t, call(ctx, owner, room.ID), name)
		sent := platform.Requests("/api/mmo/room/" + name)
		require.Len(t, sent, 2, name)
		assert.NotEqual(t, sent[0].Header.Get("Authorization"), sent[1].Header.Get("Authorization"))
		assert.Equal(t, sent[0].Body, sent[1].Body)
		assert.Equal(t, sent[0].Header.Get("X-MMO-Room"), sent[1].Header.Get("X-MMO-Room"))
		assert.Len(t, platform.Requests("/oauth/token"), 1)

		owner = newClient(t, platform, ownerUID)
		platform.Revoke(ownerUID)
		assert.ErrorIs(t, call(ctx, owner, room.ID), oauth2login.ErrLoginRequired, name)
	}
}

func TestClientRefusals(t *testing.T) {
	platform, ctx := newPlatform(t), t.Context()
	owner, guest := newClient(t, platform, ownerUID), newClient(t, platform, guestUID)
	elsewhere := mmo.NewClient(newAPI(t, platform, "other game", ownerUID, shangcloud.ScopeMMO))
	noScope := mmo.NewClient(newAPI(t, platform, "game", ownerUID, shangcloud.ScopeUserBasic))
	room, err := owner.Create(ctx, "")
	require.NoError(t, err)
	sentinels := []error{mmo.ErrInvalid, mmo.ErrForbidden, mmo.ErrNoRoom, oauth2login.ErrLoginRequired, oauth2login.ErrUnavailable}
	is := func(t *testing.T, err, want error, status int) {
		t.Helper()
		for _, sentinel := range sentinels {
			assert.Equal(t, sentinel == want, errors.Is(err, sentinel), "%v: %v", sentinel, err)
		}
		refusal, ok := errors.AsType[*shangcloud.APIError](err)
		require.True(t, ok)
		assert.Equal(t, status, refusal.StatusCode)
	}
	for name, call := range everyCall {
		t.Run(name, func(t *testing.T) {
			is(t, call(ctx, noScope, room.ID), mmo.ErrForbidden, 403)
			for status, want := range map[int]error{400: mmo.ErrInvalid, 409: nil, 429: oauth2login.ErrUnavailable, 500: oauth2login.ErrUnavailable, 302: oauth2login.ErrUnavailable} {
				platform.Fault("/api/mmo/room/"+name, shangcloudtest.Fault{Times: 1, Status: status, Body: `{"message":"hush"}`})
				err := call(ctx, owner, room.ID)
				is(t, err, want, status)
				assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "hush")
			}
			platform.Fault("/api/mmo/room/"+name, shangcloudtest.Fault{Times: 1, Status: 200, Body: `{"error":"hush it"}`})
			is(t, call(ctx, owner, room.ID), nil, 200)
			if name == "new" {
				platform.Fault("/api/mmo/room/new", shangcloudtest.Fault{Times: 1, Status: 404})
				is(t, call(ctx, owner, ""), nil, 404)
				return
			}
			is(t, call(ctx, owner, "none"), mmo.ErrNoRoom, 404)
			is(t, call(ctx, elsewhere, room.ID), mmo.ErrForbidden, 403)
			switch name {
			case "config", "data/set", "data/delete", "kick":
				is(t, call(ctx, guest, room.ID), mmo.ErrForbidden, 403)
			default:
				assert.NoError(t, call(ctx, guest, room.ID))
			}
		})
	}
	is(t, owner.Kick(ctx, room.ID, "10001"), mmo.ErrInvalid, 400)
	platform.EndRoom(room.ID)
	_, err = guest.Join(ctx, room.ID, "")
	is(t, err, mmo.ErrNoRoom, 404)
}

func TestClientInput(t *testing.T) {
	client, requests := answering(t, 200, `{}`)
	ctx := t.Context()
	for _, room := range []string{"", " ", " a", "a\n", "a\r\nX-Evil: 1", "a\x00b", "a\x7f", "a\t", strings.Repeat("r", 257)} {
		for name, call := range everyCall {
			if name != "new" {
				assert.ErrorIs(t, call(ctx, client, room), mmo.ErrInvalid, "%s %q", name, room)
			}
		}
	}
	for _, protocol := range []string{"udp", "TCP", "ws", "tcp\r\n"} {
		_, err := client.Create(ctx, protocol)
		assert.ErrorIs(t, err, mmo.ErrInvalid)
		_, err = client.Join(ctx, "r", protocol)
		assert.ErrorIs(t, err, mmo.ErrInvalid)
	}
	var null mmo.Value
	require.NoError(t, json.Unmarshal([]byte("null"), &null))
	inf := 1e308
	for name, err := range map[string]error{
		"no key":             client.SetData(ctx, "r", "", mmo.StringValue("")),
		"key not UTF-8":      client.SetData(ctx, "r", "\xff", mmo.StringValue("")),
		"value not UTF-8":    client.SetData(ctx, "r", "k", mmo.StringValue("\xff")),
		"too long":           client.SetData(ctx, "r", "k", mmo.StringValue(strings.Repeat("x", 1<<20))),
		"infinite":           client.SetData(ctx, "r", "k", mmo.NumberValue(inf*10)),
		"no number":          client.SetData(ctx, "r", "k", mmo.NumberValue(json.Number("eight"))),
		"quoted number":      client.SetData(ctx, "r", "k", mmo.NumberValue(json.Number(`"8"`))),
		"empty number":       client.SetData(ctx, "r", "k", mmo.NumberValue(json.Number(""))),
		"null":               client.SetData(ctx, "r", "k", null),
		"delete no key":      client.DeleteData(ctx, "r", ""),
		"delete too long":    client.DeleteData(ctx, "r", strings.Repeat("x", 1<<20+1)),
		"kick nobody":        client.Kick(ctx, "r", ""),
		"kick not UTF-8":     client.Kick(ctx, "r", "\xff"),
		"kick a long name":   client.Kick(ctx, "r", strings.Repeat("x", 257)),
		"configure no room":  client.Configure(ctx, "", mmo.Config{}),
		"user count no room": func() error { _, err := client.UserCount(ctx, ""); return err }(),
	} {
		assert.ErrorIs(t, err, mmo.ErrInvalid, name)
	}
	assert.Empty(t, requests(), "what is refused is not sent")

	require.NoError(t, client.SetData(ctx, strings.Repeat("房", 85), "k", mmo.StringValue(strings.Repeat("x", 1<<20-1))))
	require.NoError(t, client.Kick(ctx, "r", strings.Repeat("x", 256)))
	assert.Equal(t, strings.Repeat("房", 85), requests()[0].Header.Get("X-MMO-Room"))
}

func TestClientAnswers(t *testing.T) {
	const entry = `{"room_id":"r","edge_url":"e","connect_key":"k"`
	for name, c := range map[string]struct {
		call, body string
		ok         bool
	}{
		"no protocol":                {"new", entry + `}`, true},
		"more fields":                {"new", entry + `,"protocol":"tcp","more":[{}]}`, true},
		"no room":                    {"new", `{"edge_url":"e","connect_key":"k"}`, false},
		"no edge":                    {"new", `{"room_id":"r","connect_key":"k"}`, false},
		"no key":                     {"join", `{"room_id":"r","edge_url":"e"}`, false},
		"empty key":                  {"join", `{"room_id":"r","edge_url":"e","connect_key":""}`, false},
		"key is a number":            {"join", `{"room_id":"r","edge_url":"e","connect_key":1}`, false},
		"key is null":                {"join", `{"room_id":"r","edge_url":"e","connect_key":null}`, false},
		"empty entry":                {"join", ``, false},
		"assigned uid is a list":     {"join", entry + `,"assigned_uid":[]}`, false},
		"assigned uid is true":       {"join", entry + `,"assigned_uid":true}`, false},
		"assigned uid is null":       {"join", entry + `,"assigned_uid":null}`, true},
		"assigned uid is a number":   {"join", entry + `,"assigned_uid":7}`, true},
		"change without answer":      {"config", ``, true},
		"change with any answer":     {"kick", `{"status":"success"}`, true},
		"change with an array":       {"kick", `[]`, false},
		"change with a page":         {"data/set", `<html>`, false},
		"data absent":                {"data/get", `{}`, true},
		"data null":                  {"data/get", `{"extra_data":null}`, true},
		"data a list":                {"data/get", `{"extra_data":[]}`, false},
		"data a string":              {"data/get", `{"extra_data":"{}"}`, false},
		"data without end":           {"data/get", `{"extra_data":{"a":1`, false},
		"data without answer":        {"data/get", ``, false},
		"count":                      {"usercount", `{"user_count":0}`, true},
		"count in quotes":            {"usercount", `{"user_count":"8"}`, true},
		"count absent":               {"usercount", `{}`, false},
		"count null":                 {"usercount", `{"user_count":null}`, false},
		"count negative":             {"usercount", `{"user_count":-1}`, false},
		"count in words":             {"usercount", `{"user_count":"eight"}`, false},
		"count a fraction":           {"usercount", `{"user_count":1.5}`, false},
		"count a list":               {"usercount", `{"user_count":[8]}`, false},
		"count larger than an int64": {"usercount", `{"user_count":9223372036854775808}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := answering(t, 200, c.body)
			err := everyCall[c.call](t.Context(), client, "r")
			if c.ok {
				assert.NoError(t, err)
				return
			}
			assert.ErrorIs(t, err, oauth2login.ErrUnavailable)
		})
	}
	client, _ := answering(t, 200, entry+`,"assigned_uid":7}`)
	room, err := client.Join(t.Context(), "r", "")
	require.NoError(t, err)
	assert.Equal(t, "7", room.AssignedUID)

	client, _ = answering(t, 200, `{"extra_data":{"a":null,"b":[1, 2],"c":8.50,"d":"8","e":true}}`)
	data, err := client.Data(t.Context(), "r")
	require.NoError(t, err)
	kinds := map[string]mmo.Kind{}
	for key, value := range data {
		kinds[key] = value.Kind()
	}
	assert.Equal(t, map[string]mmo.Kind{"a": mmo.KindOther, "b": mmo.KindOther, "c": mmo.KindNumber, "d": mmo.KindString, "e": mmo.KindBool}, kinds)
	assert.Equal(t, "8.50", data["c"].String())
}

func TestClientPrintsNoSecret(t *testing.T) {
	const hush = "hush"
	hc := oauth2.NewClient(t.Context(), oauth2.StaticTokenSource(&oauth2.Token{AccessToken: hush}))
	client, _ := answering(t, 200, `{"room_id":"r","edge_url":"e","connect_key":"hush"}`)
	room, err := client.Create(t.Context(), "")
	require.NoError(t, err)
	for _, v := range []any{mmo.NewClient(shangcloud.NewAPI(hc)), *mmo.NewClient(shangcloud.NewAPI(hc)), room, *room} {
		hidden := struct{ v any }{v}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			printed := fmt.Sprintf(verb+verb, v, hidden)
			assert.NotContains(t, printed, hush)
			assert.NotContains(t, printed, fmt.Sprintf("%x", hush))
		}
		text, err := json.Marshal(v)
		require.NoError(t, err)
		assert.NotContains(t, string(text), hush)
	}
}

// Only calls that change nothing are marked as repeatable for net/http.
func TestClientReadOnly(t *testing.T) {
	for name, call := range everyCall {
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			_, repeatable := r.Header["Idempotency-Key"]
			assert.Equal(t, name == "data/get" || name == "usercount", repeatable, name)
			return nil, errors.New("not sent")
		})
		ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Transport: base})
		hc := oauth2.NewClient(ctx, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "at"}))
		assert.ErrorIs(t, call(t.Context(), mmo.NewClient(shangcloud.NewAPI(hc)), "r"), oauth2login.ErrUnavailable)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
