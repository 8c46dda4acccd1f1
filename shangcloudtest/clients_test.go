package shangcloudtest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

func TestAddClientAndAddUserPanic(t *testing.T) {
	s := shangcloudtest.New()
	for name, mistake := range map[string]func(){
		"client without ID":          func() { s.AddClient(shangcloudtest.Client{}) },
		"relative redirect URI":      func() { s.AddClient(shangcloudtest.Client{ID: "x", RedirectURIs: []string{"/callback"}}) },
		"redirect URI with fragment": func() { s.AddClient(shangcloudtest.Client{ID: "x", RedirectURIs: []string{"https://a.example/#"}}) },
		"user 0":                     func() { s.AddUser(shangcloudtest.User{}) },
		"user -1":                    func() { s.AddUser(shangcloudtest.User{ID: -1}) },
	} {
		assert.Panics(t, mistake, name)
	}
}
