package mmo_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/stretchr/testify/require"
)

func TestRoster(t *testing.T) {
	var r mmo.Roster
	require.Empty(t, r.List())
	r.Leave("1")
	r.Join(mmo.Member{UID: "2", Nickname: "b"})
	r.Join(mmo.Member{UID: "1", Nickname: "a"})
	r.Join(mmo.Member{UID: "2", Nickname: "renamed"})
	require.Equal(t, []mmo.Member{{"1", "a"}, {"2", "renamed"}}, r.List())
	require.False(t, r.Replace([]mmo.Member{{"2", "renamed"}, {"1", "x"}, {"1", "a"}}))
	require.True(t, r.Replace([]mmo.Member{{"3", "c"}}))
	require.Equal(t, []mmo.Member{{"3", "c"}}, r.List())
	r.Leave("3")
	require.Empty(t, r.List())
}

// Anyone in the room can announce any number of members.
func TestRosterIsBounded(t *testing.T) {
	var r mmo.Roster
	long := strings.Repeat("x", 1<<20)
	for range 2 {
		for i := range 100 {
			r.Join(mmo.Member{UID: strconv.Itoa(i), Nickname: long})
		}
		require.Len(t, r.List(), 15)
		for i := range 100 {
			r.Leave(strconv.Itoa(i))
		}
		require.Empty(t, r.List())
	}
	members := make([]mmo.Member, 300_000)
	for i := range members {
		members[i].UID = strconv.Itoa(i)
	}
	require.True(t, r.Replace(members))
	require.InDelta(t, (16<<20)/105, len(r.List()), 3000)
}
