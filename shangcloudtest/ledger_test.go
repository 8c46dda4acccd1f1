package shangcloudtest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

func TestLedgerIsBounded(t *testing.T) {
	s := populate(shangcloudtest.New())
	first, _ := s.Issue(webClient, uid)
	var last string
	for range 100_000 {
		last, _ = s.Issue(webClient, uid)
	}
	_, ok := s.UserOf(first, "user:basic")
	assert.False(t, ok, "the oldest token is dropped")
	_, ok = s.UserOf(last, "user:basic")
	assert.True(t, ok)
}
