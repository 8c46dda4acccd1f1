package edge_test

import (
	"encoding/json"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/stretchr/testify/require"
)

func TestEncode(t *testing.T) {
	for want, message := range map[string]any{
		`{"type":"__join__","uid":"10001","nickname":"小云"}`:                   edge.Join{edge.TypeJoin, "10001", "小云"},
		`{"type":"__leave__","uid":"1"}`:                                      edge.Leave{edge.TypeLeave, "1"},
		`{"uid":"1","message":"a\"b","extra":""}`:                             edge.Broadcast{"1", `a"b`, ""},
		`{"type":"__sync_var__","uid":"1","vars":{"x":"1.5"},"interp":["x"]}`: edge.Vars{edge.TypeVars, "1", map[string]string{"x": "1.5"}, []string{"x"}},
	} {
		require.Equal(t, want, edge.Encode(message))
	}
}

func TestIsControl(t *testing.T) {
	for _, s := range []string{"__auth_ok__", "__hb__", "__closed__", "__ping__", "__pong__:", "__pong__:1:[]", "__HB__", "__Pong__:x"} {
		require.True(t, edge.IsControl(s), s)
	}
	for _, s := range []string{"", "hb", "__hb__ ", " __hb__", "__pong__", `{"type":"__join__"}`} {
		require.False(t, edge.IsControl(s), s)
	}
}

func TestPong(t *testing.T) {
	require.Equal(t, "__pong__:0:[]", edge.Pong(nil))
	require.Equal(t, `__pong__:1:[{"uid":"1","nickname":"a"}]`, edge.Pong([]edge.Member{{"1", "a"}}))
}

func TestParsePong(t *testing.T) {
	one := []edge.Member{{"1", "a:b"}}
	for data, want := range map[string]struct {
		count   int
		members []edge.Member
		listed  bool
	}{
		`__pong__:1:[{"uid":"1","nickname":"a:b"}]`:            {1, one, true},
		`__pong__:7:[{"uid":"1","nickname":"a:b"}]`:            {7, one, true},
		`__pong__:0:[{"uid":"1","nickname":"a:b"}]`:            {1, one, true},
		`__pong__:x:[{"uid":"1","nickname":"a:b"}]`:            {1, one, true},
		`__pong__:-3:[{"uid":"1","nickname":"a:b"}]`:           {1, one, true},
		`__pong__:99999999999:[{"uid":"1","nickname":"a:b"}]`:  {1, one, true},
		`__pong__:2:[{"uid":1},{"nickname":"x"},{"uid":null}]`: {2, []edge.Member{{"1", ""}}, true},
		`__pong__:2:[]`:    {2, []edge.Member{}, true},
		`__pong__:2:null`:  {2, nil, false},
		`__pong__:2:`:      {2, nil, false},
		`__pong__:2`:       {2, nil, false},
		`__pong__:`:        {0, nil, false},
		`__pong__:2:[{`:    {2, nil, false},
		`__pong__:2:{}`:    {2, nil, false},
		`__pong__:2:["a"]`: {2, nil, false},
		"__pong__:2:\xff":  {2, nil, false},
	} {
		count, members, listed := edge.ParsePong(data)
		require.Equal(t, want.count, count, data)
		require.Equal(t, want.listed, listed, data)
		if listed {
			require.Equal(t, want.members, members, data)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]edge.Text{`"1.5"`: "1.5", `1.5`: "1.5", `true`: "true", `null`: "", `{"a":1}`: `{"a":1}`, `"\u0000"`: "\x00"} {
		got := edge.Text("before")
		require.NoError(t, json.Unmarshal([]byte(in), &got))
		require.Equal(t, want, got, in)
	}
}

func FuzzParsePong(f *testing.F) {
	f.Add(`__pong__:1:[{"uid":"1","nickname":"a:b"}]`)
	f.Add(`__pong__:-1:[[[[`)
	f.Fuzz(func(t *testing.T, data string) {
		count, members, listed := edge.ParsePong(data)
		require.GreaterOrEqual(t, count, 0)
		if !listed {
			require.Empty(t, members)
			return
		}
		for _, m := range members {
			require.NotEmpty(t, m.UID)
		}
		_, again, listed := edge.ParsePong(edge.Pong(members))
		require.True(t, listed)
		require.Equal(t, members, again)
	})
}
