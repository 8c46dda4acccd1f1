package redisstore_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/redisstore"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

const hold = 25 * time.Second

func TestTokens_commands(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string {
		switch args[0] {
		case "get":
			return bulk(`{"access_token":"at"}`)
		case "del", "eval":
			return ":1\r\n"
		}
		return "+OK\r\n"
	})
	u := redisstore.NewTokens(f.client(t), redisstore.WithPrefix("app:")).User("10001")
	require.NoError(t, u.SaveToken(t.Context(), &oauth2.Token{AccessToken: "at"}))
	tok, err := u.LoadToken(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "at", tok.AccessToken)
	require.NoError(t, u.DeleteToken(t.Context()))
	unlock, err := u.LockToken(t.Context(), 1500*time.Microsecond)
	require.NoError(t, err)
	unlock()
	unlock()

	require.Len(t, f.seen, 5, "one command for each call, and none for the second unlock")
	assert.Equal(t, []string{"set", "app:{u:10001}"}, f.seen[0][:2])
	assert.Equal(t, []string{"get", "app:{u:10001}"}, f.seen[1])
	assert.Equal(t, []string{"del", "app:{u:10001}"}, f.seen[2])
	lock := f.seen[3][2]
	assert.Equal(t, []string{"set", "app:{u:10001}:lock", lock, "nx", "px", "2"}, f.seen[3])
	assert.Equal(t, []string{"1", "app:{u:10001}:lock", lock}, f.seen[4][2:])
}

// TestTokens_lost_answer_to_a_lock: the lock command must not leave a lock behind, and
// must not be sent again. A second command would find the lock of the first and wait for
// it.
func TestTokens_lost_answer_to_a_lock(t *testing.T) {
	unlocked := make(chan []string, 1)
	f := newFakeRedis(t, func(args []string) string {
		if args[0] == "eval" {
			unlocked <- args
			return ":1\r\n"
		}
		return ""
	})
	u := redisstore.NewTokens(f.client(t, func(o *redis.Options) { o.MaxRetries = 3 })).User("10001")
	_, err := u.LockToken(t.Context(), hold)
	assert.ErrorIs(t, err, io.EOF)
	select {
	case args := <-unlocked:
		assert.Equal(t, f.seen[0][2], args[4], "its own lock")
	case <-time.After(time.Minute):
		t.Fatal("the lock is not given back")
	}
	assert.Equal(t, []string{"set", "eval"}, f.commands())
}

// TestTokens_late_lock: the answer to the lock command arrives too late. LockToken
// releases the lock and tries again.
func TestTokens_late_lock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := 0
		f := &fakeRedis{answer: func(args []string) string {
			if args[0] == "eval" {
				return ":1\r\n"
			}
			if locks++; locks < 3 {
				time.Sleep(2500 * time.Millisecond)
			}
			return "+OK\r\n"
		}}
		client := redis.NewClient(&redis.Options{
			Addr:     "192.0.2.1:6379", // not a name: go-redis would look it up outside of the bubble
			Protocol: 2, DisableIdentity: true, MaxRetries: -1, ReadTimeout: time.Minute,
			Dialer: func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				go f.serve(there)
				return here, nil
			},
		})
		defer client.Close()
		unlock, err := redisstore.NewTokens(client).User("10001").LockToken(t.Context(), hold)
		require.NoError(t, err)
		assert.Equal(t, []string{"set", "eval", "set", "eval", "set"}, f.commands())
		assert.Equal(t, f.seen[0][2], f.seen[1][4], "its own lock")
		assert.NotEqual(t, f.seen[0][2], f.seen[2][2], "a late release must not end the next lock")
		unlock()
		assert.Len(t, f.commands(), 6)
	})
}

// A caller gives up while the lock command is under way. The lock that the command sets is
// given back, and not before the command is answered: Redis would then know no such lock.
func TestTokens_lock_given_up_on_the_way(t *testing.T) {
	sent, answered, unlocked := make(chan bool), make(chan bool), make(chan bool, 1)
	f := newFakeRedis(t, func(args []string) string {
		switch args[0] {
		case "set":
			close(sent)
			<-answered
			return "+OK\r\n"
		case "eval":
			select {
			case <-answered:
				unlocked <- true
			default:
				unlocked <- false
			}
		}
		return "$-1\r\n"
	})
	u := redisstore.NewTokens(f.client(t)).User("10001")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-sent
		cancel()
	}()
	_, err := u.LockToken(ctx, hold)
	assert.ErrorIs(t, err, context.Canceled)
	for range 50 { // time for an unlock that is too early
		_, err = u.LoadToken(t.Context())
		assert.NoError(t, err)
	}
	close(answered)
	assert.True(t, <-unlocked, "the unlock was sent before the lock")
}

func TestTokens_wait_for_the_lock(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string {
		if args[0] == "set" {
			return "$-1\r\n" // somebody else holds the lock
		}
		return ":0\r\n"
	})
	u := redisstore.NewTokens(f.client(t)).User("10001")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := u.LockToken(ctx, hold)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "redisstore: tokens: lock: timed out")
}

// TestTokens_errors: errors quote neither Redis's replies nor stored data.
func TestTokens_errors(t *testing.T) {
	call := func(f *fakeRedis) []error {
		u := redisstore.NewTokens(f.client(t, func(o *redis.Options) { o.MaxRetries = -1 })).User("hush-user")
		_, loadErr := u.LoadToken(t.Context())
		_, lockErr := u.LockToken(t.Context(), hold)
		return []error{loadErr, lockErr, u.SaveToken(t.Context(), &oauth2.Token{AccessToken: "hush-token"}), u.DeleteToken(t.Context())}
	}
	for reply, want := range map[string]string{
		"-NOAUTH Authentication required.\r\n":                       "the server answered NOAUTH (give the client the password)",
		"-WRONGPASS invalid username-password pair\r\n":              "the server answered WRONGPASS (the user name or the password is wrong)",
		"-READONLY You can't write against a read only replica.\r\n": "the server answered READONLY (the client must use the server that accepts writes)",
		"-ERR Error running script, with hush-token\r\n":             "the server answered ERR",
		"-hush-token\r\n": "the command failed",
		"":                "the connection was closed",
	} {
		for i, err := range call(newFakeRedis(t, func([]string) string { return reply })) {
			op := []string{"load", "lock", "save", "delete"}[i]
			assert.EqualError(t, err, "redisstore: tokens: "+op+": "+want)
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s %q", err, err, err, err, err), "hush")
		}
	}
	for _, stored := range []string{"", "null", `["hush"]`, `{"access_token":"hush`, "hush"} {
		f := newFakeRedis(t, func([]string) string { return bulk(stored) })
		tok, err := redisstore.NewTokens(f.client(t)).User("u").LoadToken(t.Context())
		assert.Nil(t, tok)
		assert.EqualError(t, err, "redisstore: tokens: load: the stored data is not a token", stored)
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "hush")
	}
}

func TestTokens_wrong_arguments(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Dialer: func(context.Context, string, string) (net.Conn, error) {
		t.Error("nothing is sent")
		return nil, io.EOF
	}})
	defer client.Close()
	tokens := redisstore.NewTokens(client)
	for text, u := range map[string]redisstore.UserTokens{
		"a zero UserTokens is no store: call Tokens.User": {},
		"the user's key is empty":                         tokens.User(""),
	} {
		_, loadErr := u.LoadToken(t.Context())
		_, lockErr := u.LockToken(t.Context(), hold)
		for _, err := range []error{loadErr, lockErr, u.SaveToken(t.Context(), &oauth2.Token{}), u.DeleteToken(t.Context())} {
			assert.EqualError(t, err, "redisstore: tokens: user: "+text)
		}
	}
	err := tokens.User("u").SaveToken(t.Context(), nil)
	assert.EqualError(t, err, "redisstore: tokens: save: the token is nil, or can't be written as JSON")
}

// TestTokens_User_equal: two stores of the same user compare equal (==). Token sources
// need this to share a refresh.
func TestTokens_User_equal(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	a, b := redisstore.NewTokens(client), redisstore.NewTokens(client)
	assert.True(t, oauth2login.TokenStore(a.User("u")) == oauth2login.TokenStore(a.User("u")))
	assert.False(t, oauth2login.TokenStore(a.User("u")) == oauth2login.TokenStore(a.User("v")))
	assert.False(t, oauth2login.TokenStore(a.User("u")) == oauth2login.TokenStore(b.User("u")))
	assert.False(t, strings.Contains(fmt.Sprint(a.User("hush")), "hush"))
}
