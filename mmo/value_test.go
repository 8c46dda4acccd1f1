package mmo_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

func TestValue(t *testing.T) {
	const no = math.MinInt64 // no whole number
	nan := math.NaN()
	for text, want := range map[string]struct {
		kind   mmo.Kind
		whole  int64
		number float64 // NaN: none
		truth  string  // "": no boolean
	}{
		`8`:                        {mmo.KindNumber, 8, 8, ""},
		`"8"`:                      {mmo.KindString, 8, 8, ""},
		`-0`:                       {mmo.KindNumber, 0, 0, ""},
		`8.0`:                      {mmo.KindNumber, 8, 8, ""},
		`"8e2"`:                    {mmo.KindString, 800, 800, ""},
		`8.5`:                      {mmo.KindNumber, no, 8.5, ""},
		`9223372036854775807`:      {mmo.KindNumber, math.MaxInt64, 9223372036854775807, ""},
		`9223372036854775808`:      {mmo.KindNumber, no, 9223372036854775808, ""},
		`9007199254740993.0`:       {mmo.KindNumber, 9007199254740992, 9007199254740992, ""},
		`9007199254740994.0`:       {mmo.KindNumber, no, 9007199254740994, ""},
		`1e999`:                    {mmo.KindNumber, no, nan, ""},
		`1e-999`:                   {mmo.KindNumber, 0, 0, ""},
		`"1e999999999"`:            {mmo.KindString, no, nan, ""},
		`""`:                       {mmo.KindString, no, nan, ""},
		`" 8"`:                     {mmo.KindString, no, nan, ""},
		`"+8"`:                     {mmo.KindString, no, nan, ""},
		`"08"`:                     {mmo.KindString, no, nan, ""},
		`"0x8"`:                    {mmo.KindString, no, nan, ""},
		`"1_0"`:                    {mmo.KindString, no, nan, ""},
		`"NaN"`:                    {mmo.KindString, no, nan, ""},
		`"Infinity"`:               {mmo.KindString, no, nan, ""},
		`"\"8\""`:                  {mmo.KindString, no, nan, ""},
		`true`:                     {mmo.KindBool, no, nan, "true"},
		`"false"`:                  {mmo.KindString, no, nan, "false"},
		`"True"`:                   {mmo.KindString, no, nan, ""},
		`"1"`:                      {mmo.KindString, 1, 1, ""},
		`null`:                     {mmo.KindOther, no, nan, ""},
		`[8]`:                      {mmo.KindOther, no, nan, ""},
		`{"a":"键"}`:                {mmo.KindOther, no, nan, ""},
		`0.1000000000000000055511`: {mmo.KindNumber, no, 0.1, ""},
	} {
		t.Run(text, func(t *testing.T) {
			var v mmo.Value
			require.NoError(t, json.Unmarshal([]byte(text), &v))
			assert.Equal(t, want.kind, v.Kind())
			whole, err := v.Int64()
			if want.whole == no {
				assert.Error(t, err)
				whole = no
			}
			assert.Equal(t, want.whole, whole)
			number, err := v.Float64()
			if math.IsNaN(want.number) {
				assert.Error(t, err)
			} else {
				require.NoError(t, err)
				assert.Equal(t, want.number, number)
			}
			truth, err := v.Bool()
			assert.Equal(t, want.truth == "", err != nil)
			assert.Equal(t, want.truth == "true", truth)
			out, err := json.Marshal(v)
			require.NoError(t, err)
			assert.Equal(t, text, string(out))
			if v.Kind() != mmo.KindString {
				assert.Equal(t, text, v.String())
			}
		})
	}
}

func TestValueMade(t *testing.T) {
	var zero mmo.Value
	assert.Equal(t, mmo.StringValue(""), zero)
	for want, v := range map[string]mmo.Value{
		"8":                    mmo.NumberValue(8),
		"-9223372036854775808": mmo.NumberValue(int64(math.MinInt64)),
		"18446744073709551615": mmo.NumberValue(uint64(math.MaxUint64)),
		"1.5":                  mmo.NumberValue(1.5),
		"1e+300":               mmo.NumberValue(1e300),
		"0.10":                 mmo.NumberValue(json.Number("0.10")),
		"true":                 mmo.BoolValue(true),
		"text":                 mmo.StringValue("text"),
	} {
		assert.Equal(t, want, v.String())
	}
	for _, bad := range []mmo.Value{mmo.NumberValue(math.NaN()), mmo.NumberValue(math.Inf(-1)), mmo.NumberValue(json.Number("1 "))} {
		_, err := json.Marshal(bad)
		assert.Error(t, err)
	}
	for _, bad := range []string{"", " ", "{", `"`, "08", "tru"} {
		assert.Error(t, new(mmo.Value).UnmarshalJSON([]byte(bad)), bad)
	}
	assert.NoError(t, new(mmo.Value).UnmarshalJSON([]byte(" 8 ")))
}

// FuzzValue reads any JSON, and writes it again without a change.
func FuzzValue(f *testing.F) {
	for _, seed := range []string{`8`, `"8"`, `-1.50e+7`, `"\u0000\ud800"`, `true`, `null`, `[1, {"a": 2}]`, `"1e999999999"`, "\"\xff\"", ` "x" `} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var v mmo.Value
		if json.Unmarshal([]byte(text), &v) != nil {
			assert.False(t, json.Valid([]byte(text)))
			return
		}
		out, err := json.Marshal(v)
		require.NoError(t, err)
		var again mmo.Value
		require.NoError(t, json.Unmarshal(out, &again))
		if v.Kind() != mmo.KindOther { // Marshal compacts it
			assert.Equal(t, v, again)
		}
		assert.Equal(t, v.Kind(), again.Kind())
		assert.Equal(t, v.Kind() == mmo.KindNumber, strings.ContainsAny(string(out[:1]), "-0123456789"))
		if v.Kind() == mmo.KindString {
			assert.True(t, utf8.ValidString(v.String()))
		}
		whole, err := v.Int64()
		if number, failed := v.Float64(); err == nil {
			require.NoError(t, failed)
			assert.InDelta(t, number, float64(whole), math.Abs(number)*1e-15)
		}
		_, _ = v.Bool()
	})
}

// FuzzSetData sets a value and reads it back. The value comes back unchanged, or is
// refused.
func FuzzSetData(f *testing.F) {
	platform := shangcloudtest.New()
	f.Cleanup(func() { _ = platform.Close() })
	platform.AddClient(shangcloudtest.Client{ID: "game"})
	platform.AddUser(shangcloudtest.User{ID: ownerUID})
	access, _ := platform.Issue("game", ownerUID, shangcloud.ScopeMMO)
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: platform.Transport()})
	hc := oauth2.NewClient(ctx, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: access}))
	owner := mmo.NewClient(shangcloud.NewAPI(hc, shangcloud.WithBaseURL(platform.URL)))
	room, err := owner.Create(ctx, "")
	require.NoError(f, err)
	f.Add("k", "text", false)
	f.Add("max_players", "8", true)
	f.Add("键\x00\"", "-1.50E+999", true)
	f.Add("", "\xff", false)
	f.Add("k", " 8", true)
	f.Fuzz(func(t *testing.T, key, text string, isNumber bool) {
		value := mmo.StringValue(text)
		if isNumber {
			value = mmo.NumberValue(json.Number(text))
		}
		if err := owner.SetData(ctx, room.ID, key, value); err != nil {
			require.ErrorIs(t, err, mmo.ErrInvalid)
			refusal, sent := errors.AsType[*shangcloud.APIError](err)
			assert.False(t, sent, "the platform refused it: %v", refusal)
			return
		}
		data, err := owner.Data(ctx, room.ID)
		require.NoError(t, err)
		assert.Equal(t, map[string]mmo.Value{key: value}, data)
		require.NoError(t, owner.DeleteData(ctx, room.ID, key))
	})
}
