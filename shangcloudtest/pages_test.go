package shangcloudtest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

func TestPagesLanguage(t *testing.T) {
	s := platform(t)
	for accepts, want := range map[string]string{
		"":                              "zh-CN",
		"zh-CN,zh;q=0.9,en;q=0.8":       "zh-CN",
		"zh-TW":                         "zh-CN",
		"en-US,en;q=0.9,zh;q=0.8":       "en",
		"EN":                            "en",
		"fr, zh;q=0.7, en;q=0.9":        "en",
		"fr":                            "en",
		"en;q=0, zh;q=0.1":              "zh-CN",
		"zh;q=nonsense":                 "en",
		"de;q=0.9, zh-Hans-CN ; q=0.95": "zh-CN",
	} {
		a := send(t, "GET", config(s).AuthCodeURL("s"), "", "Accept-Language", accepts)
		assert.Equal(t, want, a.header.Get("Content-Language"), accepts)
		assert.Contains(t, a.body, `<html lang="`+want+`">`, accepts)
	}
}

func TestPagesEscapeHTML(t *testing.T) {
	s := shangcloudtest.NewServer(t)
	s.AddClient(shangcloudtest.Client{ID: `<script>alert(1)</script>`, Secret: "s", RedirectURIs: []string{callback}})
	conf := config(s)
	conf.ClientID = `<script>alert(1)</script>`
	a := send(t, "GET", conf.AuthCodeURL("s"), "")
	assert.Equal(t, http.StatusOK, a.status)
	assert.Contains(t, a.body, "&lt;script&gt;")
	assert.NotContains(t, a.body, "<script")
	assert.NotContains(t, a.body, `value="allow"`, "without users there is no button to allow")
	a = send(t, "GET", s.URL+"/device?user_code=%22%3E%3Cscript%3E", "")
	assert.NotContains(t, a.body, "<script")
}
