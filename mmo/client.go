package mmo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
)

// A Client sends nothing beyond these limits. The platform's own limits are unknown.
const (
	maxID   = 256     // bytes of a room ID or a uid
	maxData = 1 << 20 // bytes of a key and its value: what fits into a message to the edge
)

// Errors of a [Client], for errors.Is. The platform's answer is an [*shangcloud.APIError]
// in the same chain. If the platform does not accept the token (status 401), the error
// matches [oauth2login.ErrLoginRequired]. If the platform is down, it matches
// [oauth2login.ErrUnavailable].
var (
	// ErrInvalid means that a parameter is not acceptable. Either the platform refused it
	// (status 400), or this package refused it and sent nothing.
	ErrInvalid = errors.New("mmo: a parameter is not acceptable")

	// ErrForbidden means that the user may not do this (status 403): the token lacks
	// [shangcloud.ScopeMMO], or the room belongs to another user or to another application.
	ErrForbidden = errors.New("mmo: not allowed")

	// ErrNoRoom means that the room does not exist, or has ended (status 404).
	ErrNoRoom = errors.New("mmo: there is no such room")
)

// Client makes the platform's calls about rooms for one user. All of them need
// [shangcloud.ScopeMMO]. It is safe for concurrent use.
//
// A room ID is opaque: any text of 1 to 256 bytes that fits into a header. The API's
// time-outs apply. The API also refreshes the token: after an answer with status 401, it
// repeats the call once with a new token.
type Client struct {
	api   *shangcloud.API
	typed bool
}

// A ClientOption changes what NewClient makes.
type ClientOption func(*Client)

// WithTypedToken sends "Bearer" and a space before the token, as RFC 6750 says, instead of
// the token alone.
//
// The platform's clients disagree. Those for Godot, Unreal and Unity send the token alone
// since July 2026, and say that the server checks just that. Those for Python, Go, Java and
// Node send the type before it. Whether the platform accepts both is unknown. If every call
// fails with [oauth2login.ErrLoginRequired] although the token is new, try this option.
func WithTypedToken() ClientOption { return func(c *Client) { c.typed = true } }

// NewClient returns a client that makes its calls with api. Without [WithTypedToken], api
// has to send the token alone. For that, api has to come from [shangcloud.Provider.API], or
// to use an HTTP client from [oauth2login.Provider.Client] or x/oauth2.
func NewClient(api *shangcloud.API, opts ...ClientOption) *Client {
	c := &Client{api: api}
	for _, opt := range opts {
		opt(c)
	}
	return c
}

// Create makes a room. The user owns the new room, and can connect to it with the returned
// [Room]. protocol is [ProtocolTCP], [ProtocolWebSocket], or "" for the platform's choice.
func (c *Client) Create(ctx context.Context, protocol string) (*Room, error) {
	return c.enter(ctx, "new", "", protocol)
}

// Join enters a room. The returned [Room] is good for one connection. protocol is as for
// Create.
//
// An account that is in the room already may get another uid for this connection
// ([Room.AssignedUID]): see [Config]. If it does not, the platform either refuses the
// account or replaces its earlier connection. It is unknown which.
func (c *Client) Join(ctx context.Context, roomID, protocol string) (*Room, error) {
	if err := checkRoom(roomID); err != nil {
		return nil, err
	}
	return c.enter(ctx, "join", roomID, protocol)
}

// enter makes a call that returns a Room.
func (c *Client) enter(ctx context.Context, name, roomID, protocol string) (*Room, error) {
	var opts []shangcloud.CallOption
	switch protocol {
	case "":
	case ProtocolTCP, ProtocolWebSocket:
		opts = append(opts, shangcloud.WithHeader("X-MMO-Protoctl", protocol)) // the platform's spelling
	default:
		return nil, fmt.Errorf("%w: the protocol is neither tcp nor websocket", ErrInvalid)
	}
	var answer struct {
		RoomID      string `json:"room_id"`
		EdgeURL     string `json:"edge_url"`
		Protocol    string `json:"protocol"`
		ConnectKey  string `json:"connect_key"`
		AssignedUID *Value `json:"assigned_uid"`
	}
	if err := c.call(ctx, name, roomID, nil, &answer, opts...); err != nil {
		return nil, err
	}
	room := &Room{ID: answer.RoomID, EdgeURL: answer.EdgeURL, Protocol: answer.Protocol, connectKey: &answer.ConnectKey}
	if uid := answer.AssignedUID; uid != nil {
		if uid.kind != KindString && uid.kind != KindNumber {
			return nil, unusable(name, "assigned_uid")
		}
		room.AssignedUID = uid.text
	}
	for field, text := range map[string]string{"room_id": room.ID, "edge_url": room.EdgeURL, "connect_key": answer.ConnectKey} {
		if text == "" {
			return nil, unusable(name, field)
		}
	}
	return room, nil
}

// unusable is the error of an answer with a wrong field.
func unusable(name, field string) error {
	return fmt.Errorf("mmo: %s: the answer has no usable %s: %w", name, field, oauth2login.ErrUnavailable)
}

// Config is what the owner of a room can set.
type Config struct {
	// AllowMultiLogin lets an account into the room more than once. Each further
	// connection then has a uid of its own. The platform's default is unknown.
	AllowMultiLogin bool
}

// Configure sets all of a room's configuration. Only the owner may.
func (c *Client) Configure(ctx context.Context, roomID string, config Config) error {
	return c.change(ctx, "config", roomID, map[string]bool{"allow_multi_login": config.AllowMultiLogin})
}

// SetData sets one value in the data of a room. Only the owner may. key is UTF-8 and not
// empty; key and value together have at most 1 MiB.
func (c *Client) SetData(ctx context.Context, roomID, key string, value Value) error {
	if err := value.check(); err != nil {
		return err
	}
	if err := checkKey(key, len(value.text)); err != nil {
		return err
	}
	// All of the platform's examples send numbers and booleans as strings, too.
	return c.change(ctx, "data/set", roomID, struct {
		Key   string `json:"key"`
		Value string `json:"value"`
		Type  string `json:"type,omitempty"` // a string has none: it is the default
	}{key, value.text, typeNames[value.kind]})
}

// Data returns all data of a room. Any user of the application may read the data, even a
// user who is not in the room. If there is no error, the map is not nil.
func (c *Client) Data(ctx context.Context, roomID string) (map[string]Value, error) {
	var answer struct {
		ExtraData map[string]Value `json:"extra_data"`
	}
	if err := c.read(ctx, "data/get", roomID, &answer); err != nil {
		return nil, err
	}
	if answer.ExtraData == nil {
		return map[string]Value{}, nil
	}
	return answer.ExtraData, nil
}

// DeleteData deletes one value of a room's data. Only the owner may. It is unknown how the
// platform answers if there is no such value.
func (c *Client) DeleteData(ctx context.Context, roomID, key string) error {
	if err := checkKey(key, 0); err != nil {
		return err
	}
	return c.change(ctx, "data/delete", roomID, map[string]string{"key": key})
}

// Kick removes a member from a room. Only the owner may kick, and the owner can't kick
// itself. uid is the account's uid, or the [Room.AssignedUID] of one connection. It is
// unknown how the platform answers if no member has this uid, and whether the account may
// join again.
func (c *Client) Kick(ctx context.Context, roomID, uid string) error {
	if uid == "" || len(uid) > maxID || !utf8.ValidString(uid) {
		return fmt.Errorf("%w: the uid is empty, longer than %d bytes or not UTF-8", ErrInvalid, maxID)
	}
	return c.change(ctx, "kick", roomID, map[string]string{"target_uid": uid})
}

// UserCount returns how many users are in a room. Any user of the application may ask. The
// edge has another count ([Members]). It is unknown whether the two agree.
func (c *Client) UserCount(ctx context.Context, roomID string) (int, error) {
	var answer struct {
		UserCount Value `json:"user_count"`
	}
	if err := c.read(ctx, "usercount", roomID, &answer); err != nil {
		return 0, err
	}
	count, err := answer.UserCount.Int64()
	if err != nil || count < 0 || int64(int(count)) != count {
		return 0, unusable("usercount", "user_count")
	}
	return int(count), nil
}

// read makes a call that changes nothing.
func (c *Client) read(ctx context.Context, name, roomID string, answer any) error {
	if err := checkRoom(roomID); err != nil {
		return err
	}
	return c.call(ctx, name, roomID, nil, answer, shangcloud.ReadOnly())
}

// change makes a call that changes something. Its answer is not needed, and may be empty.
func (c *Client) change(ctx context.Context, name, roomID string, body any) error {
	if err := checkRoom(roomID); err != nil {
		return err
	}
	return c.call(ctx, name, roomID, body, nil)
}

// call makes a call about a room. If roomID is "", the call names no room.
func (c *Client) call(ctx context.Context, name, roomID string, body, answer any, opts ...shangcloud.CallOption) error {
	if !c.typed {
		opts = append(opts, shangcloud.WithBareToken())
	}
	if roomID != "" {
		opts = append(opts, shangcloud.WithHeader("X-MMO-Room", roomID))
	}
	err := c.api.Call(ctx, "/api/mmo/room/"+name, body, answer, opts...)
	if refusal, ok := errors.AsType[*shangcloud.APIError](err); ok {
		switch {
		case refusal.StatusCode == http.StatusBadRequest:
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		case refusal.StatusCode == http.StatusForbidden:
			return fmt.Errorf("%w: %w", ErrForbidden, err)
		case refusal.StatusCode == http.StatusNotFound && roomID != "":
			return fmt.Errorf("%w: %w", ErrNoRoom, err)
		}
	}
	return err
}

// checkRoom checks whether a room ID would arrive as it is.
func checkRoom(id string) error {
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	if id == "" || len(id) > maxID || strings.TrimSpace(id) != id || strings.ContainsFunc(id, isControl) {
		return fmt.Errorf("%w: the room ID is empty, longer than %d bytes, or does not fit into a header", ErrInvalid, maxID)
	}
	return nil
}

// checkKey checks the key of a value that has the given length.
func checkKey(key string, length int) error {
	switch {
	case key == "" || !utf8.ValidString(key):
		return fmt.Errorf("%w: the key is empty or not UTF-8", ErrInvalid)
	case len(key)+length > maxData:
		return fmt.Errorf("%w: key and value are longer than %d bytes", ErrInvalid, maxData)
	}
	return nil
}
