package mmotest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/internal/edge"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
)

func TestEdge(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			e := mmotest.NewEdge(t)
			ann := join(t, e, protocol, "room", "1")
			bob := join(t, e, protocol, "room", "2")
			ann.write("hello")
			bob.expect("hello")
			bob.write(edge.Heartbeat)
			bob.expect(edge.Heartbeat)
			require.Equal(t, []string{"1", "2"}, e.Members("room"))
			ann.announce("1", "Ann")
			bob.expect(announcement("1", "Ann"))
			require.Equal(t, `__pong__:1:[{"uid":"1","nickname":"Ann"}]`, ann.pong())
			e.Kick("room", "1")
			ann.expect(edge.Closed)
			ann.ended()
			bob.expect(leaving("1"))
		})
	}
}
