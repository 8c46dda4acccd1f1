package shangcloudtest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRequests(t *testing.T) {
	s := platform(t)
	send(t, "GET", s.URL+"/device?user_code=a+b&x=%zz", "", "X-Test", "1")
	send(t, "POST", s.URL+"/oauth/token", "a=1&b=2", "Content-Type", formType)
	all := s.Requests()
	require.Len(t, all, 2)
	assert.Equal(t, "GET", all[0].Method)
	assert.Equal(t, "a b", all[0].Query().Get("user_code"))
	assert.Equal(t, "1", all[0].Header.Get("x-test"))
	assert.Equal(t, "2", all[1].Form().Get("b"))
	assert.Len(t, s.Requests("/oauth/token", "/nowhere"), 1)
	s.ForgetRequests()
	assert.Empty(t, s.Requests())

	// The number and the size of recorded requests are limited.
	client := &http.Client{Transport: s.Transport()}
	get := func(path, body string) {
		resp, err := client.Post(s.URL+path, "text/plain", strings.NewReader(body))
		require.NoError(t, err)
		_ = resp.Body.Close()
	}
	for i := range 10_005 {
		get(fmt.Sprintf("/device?%d", i), "")
	}
	all = s.Requests()
	require.Len(t, all, 10_000)
	assert.Equal(t, "5", all[0].RawQuery)
	large := strings.Repeat(" ", 8<<20)
	for range 12 {
		get("/device", large)
	}
	assert.Len(t, s.Requests(), 8)
}
