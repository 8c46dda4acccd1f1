package mmo_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/stretchr/testify/require"
)

func TestEvents(t *testing.T) {
	events := map[string]mmo.Event{
		"text":   mmo.Text("text"),
		"a\xffb": mmo.Text("a\uFFFDb"),
		"{":      mmo.Text("{"),
		"{}":     mmo.Text("{}"),
		`{"type":"mine","uid":"1","message":"x"}`: mmo.Text(`{"type":"mine","uid":"1","message":"x"}`),
		`[{"message":"x"}]`:                       mmo.Text(`[{"message":"x"}]`),

		`{"uid":"1","message":"a","extra":"b"}`:      mmo.Broadcast{"1", "a", "b"},
		`{"message":"a","extra":""}`:                 mmo.Broadcast{"", "a", ""},
		`{"message":5,"uid":10001,"type":""}`:        mmo.Broadcast{"10001", "5", ""},
		`{"message":null,"uid":"1","type":null}`:     mmo.Broadcast{"1", "", ""},
		`{"message":{"x":[1]},"uid":"1","vars":7}`:   mmo.Broadcast{"1", `{"x":[1]}`, ""},
		`{"message":"a"}`:                            mmo.Text(`{"message":"a"}`),
		`{"Message":"a","UID":"1"}`:                  mmo.Text(`{"Message":"a","UID":"1"}`), // names match exactly
		`{"uid":"1","message":"a"} more`:             mmo.Text(`{"uid":"1","message":"a"} more`),
		`{"uid":"1","message":"` + "\xff" + `"}`:     mmo.Broadcast{"1", "\uFFFD", ""},
		`{"uid":"1","message":"\u0000__closed__"}`:   mmo.Broadcast{"1", "\x00__closed__", ""},
		`{"type":"__join__","uid":"1"}`:              mmo.MemberJoined{"1", ""},
		`{"type":"__join__","uid":1,"nickname":"n"}`: mmo.MemberJoined{"1", "n"},
		`{"type":"__join__","nickname":"n"}`:         mmo.Text(`{"type":"__join__","nickname":"n"}`),
		`{"type":"__leave__","uid":"1"}`:             mmo.MemberLeft{"1"},
		`{"type":"__leave__"}`:                       mmo.Text(`{"type":"__leave__"}`),

		`{"type":"__sync_var__","uid":"1","vars":{"a":"1.5","b":1.50,"c":true,"d":null,"e":[1]},"interp":["a"]}`: mmo.Vars{"1",
			map[string]string{"a": "1.5", "b": "1.50", "c": "true", "d": "", "e": "[1]"}, []string{"a"}},
		`{"type":"__sync_var__","uid":"1","vars":{}}`:                  mmo.Vars{"1", map[string]string{}, nil},
		`{"type":"__sync_var__","uid":"1","vars":{},"interp":[1,2]}`:   mmo.Vars{"1", map[string]string{}, nil},
		`{"type":"__sync_var__","uid":"1","vars":[1]}`:                 mmo.Text(`{"type":"__sync_var__","uid":"1","vars":[1]}`),
		`{"type":"__sync_var__","uid":"1"}`:                            mmo.Text(`{"type":"__sync_var__","uid":"1"}`),
		strings.Repeat(`{"a":`, 20000):                                 mmo.Text(strings.Repeat(`{"a":`, 20000)),
		`{"type":"__sync_var__","uid":"1","vars":{"a":"1","a":"2"}}`:   mmo.Vars{"1", map[string]string{"a": "2"}, nil},
		`{"uid":"1","uid":"2","message":"the last of equal names"}`:    mmo.Broadcast{"2", "the last of equal names", ""},
		`{"uid":"1","message":"a","message":null,"extra":"__leave__"}`: mmo.Broadcast{"1", "", "__leave__"},
	}
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		conn := join(t, e, protocol, "")
		require.IsType(t, mmo.Members{}, read(t, conn))
		for data, want := range events {
			e.Send("room", data)
			if len(data) > 1<<16 && protocol == mmo.ProtocolUDP {
				continue
			}
			require.Equal(t, want, read(t, conn), data)
		}
		require.Zero(t, conn.Dropped())
	})
}

func TestEventPongs(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		conn := join(t, e, protocol, "")
		require.Equal(t, mmo.Members{Count: 0, List: []mmo.Member{}}, read(t, conn))
		one := []mmo.Member{{UID: "1", Nickname: "a"}}
		e.Send("room", `__pong__:3:[{"uid":"1","nickname":"b"},{"uid":"1","nickname":"a"},{"nickname":"x"},{}]`)
		require.Equal(t, mmo.Members{Count: 3, List: one}, read(t, conn))
		for _, same := range []string{`__pong__:3:null`, `__pong__:`, `__pong__:x:y`, `__pong__:1:[{"uid":"1","nickname":"a"}]`, `__pong__:1:{"uid":"2"}`} {
			e.Send("room", same)
			synctest.Wait()
			require.Equal(t, one, conn.Members(), same)
		}
		e.Send("room", "__pong__:0:[]")
		require.Equal(t, mmo.Members{Count: 0, List: []mmo.Member{}}, read(t, conn), "those before are no change")
	})
}

// A control message gives no event: the Conn handles it, or drops and counts it.
func TestEventControls(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		conn := join(t, e, protocol, "")
		require.IsType(t, mmo.Members{}, read(t, conn))
		for _, data := range []string{"__auth_ok__", "__hb__", "", "__ping__", "__hb__ "} {
			e.Send("room", data)
		}
		require.Equal(t, mmo.Text("__hb__ "), read(t, conn))
		require.Equal(t, uint64(2), conn.Dropped(), "nothing, and a question for the edge")
	})
}

func TestManyMembers(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		conn := join(t, e, mmo.ProtocolTCP, "")
		require.Empty(t, next[mmo.Members](t, conn).List)
		var list strings.Builder
		for i := range 66_000 {
			fmt.Fprintf(&list, `,{"uid":"%d"}`, i)
		}
		e.Send("room", "__pong__:100000:["+list.String()[1:]+"]")
		members := next[mmo.Members](t, conn)
		require.Equal(t, 100_000, members.Count)
		require.Len(t, members.List, 66_000)
	})
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"type":"__sync_var__","uid":"1","vars":{"a":1},"interp":["a"]}`))
	f.Add([]byte(`{"uid":"1","message":"a"}`))
	f.Add([]byte("\xff{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		switch event := mmo.ParseEvent(data).(type) {
		case mmo.Text:
			require.True(t, utf8.ValidString(string(event)))
			if utf8.Valid(data) {
				require.Equal(t, string(data), string(event))
			}
		case mmo.Broadcast:
			require.True(t, utf8.ValidString(event.UID+event.Message+event.Extra))
		case mmo.MemberJoined:
			require.NotEmpty(t, event.UID)
		case mmo.MemberLeft:
			require.NotEmpty(t, event.UID)
		case mmo.Vars:
			require.NotNil(t, event.Vars)
		default:
			t.Fatalf("%T", event)
		}
	})
}
