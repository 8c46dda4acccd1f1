package shangcloudtest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestApproveAndDeny(t *testing.T) {
	s := platform(t)
	authURL := config(s).AuthCodeURL("state-1")
	back, err := s.Deny(authURL)
	require.NoError(t, err)
	assert.Contains(t, back, "error=access_denied")
	assert.Contains(t, back, "state=state-1")

	back, err = s.Approve(strings.Replace(authURL, "mmo", "admin", 1), uid)
	require.NoError(t, err)
	assert.Contains(t, back, "error=invalid_scope")

	for name, row := range map[string]struct {
		address string
		uid     int64
		want    string
	}{
		"unknown user":   {authURL, 404, "no user was chosen"},
		"unknown client": {strings.Replace(authURL, webClient, "nobody", 1), uid, "unknown client_id"},
		"another page":   {s.URL + "/device?state=sec-ret", uid, "not an authorization URL"},
		"malformed URL":  {"http://%zz/?state=sec-ret", uid, "not an authorization URL"},
		"invalid query":  {"/oauth/authorize?state=sec-ret\x7f", uid, "not an authorization URL"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Approve(row.address, row.uid)
			require.ErrorContains(t, err, row.want)
			assert.NotContains(t, err.Error(), "sec-ret")
		})
	}
}
