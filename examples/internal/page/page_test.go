package page

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLanguage(t *testing.T) {
	for header, want := range map[string]string{
		"":                           "en",
		"zh":                         "zh-CN",
		"ZH-Hant-HK":                 "zh-CN",
		"en, zh":                     "en",
		"en;q=0.5, zh;q=0.9":         "zh-CN",
		"fr, zh ; q=0.3 , en;q=0.2":  "zh-CN",
		"zh;q=0, de":                 "en",
		"zh;q=0, en;q=0.1":           "en",
		"zh;q=x":                     "en",
		"z":                          "en",
		"*":                          "en",
		",;,q=,-":                    "en",
		"de, ja":                     "en",
		"zh-CN,zh;q=0.9,en-US;q=0.8": "zh-CN",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept-Language", header)
		assert.Equal(t, want, Language(r, "en", "zh-CN"), "%q", header)
	}
}
