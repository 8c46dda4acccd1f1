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

func TestLanguageLink(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/variable?key=a%26b", nil)
	r.Header.Set("Accept-Language", "en")
	link := LanguageURL(r, http.StatusOK, "zh-CN")
	assert.Equal(t, "/variable?key=a%26b&lang=zh-CN", link)

	r, w := httptest.NewRequest(http.MethodGet, link, nil), httptest.NewRecorder()
	r.Header.Set("Accept-Language", "en")
	assert.Equal(t, "zh-CN", Language(r, "en", "zh-CN"))
	RememberLanguage(w, r, "en", "zh-CN")

	next := httptest.NewRequest(http.MethodGet, "/", nil)
	next.Header.Set("Accept-Language", "en")
	for _, c := range w.Result().Cookies() {
		next.AddCookie(c)
	}
	assert.Equal(t, "zh-CN", Language(next, "en", "zh-CN"), "the choice is remembered")

	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodPost, "/variable", nil),
		httptest.NewRequest(http.MethodGet, "//evil.example/?lang=en", nil),
	} {
		assert.Equal(t, "/?lang=en", LanguageURL(r, http.StatusNotFound, "en"), "a page that can't be asked for again")
	}
	w = httptest.NewRecorder()
	unknown := httptest.NewRequest(http.MethodGet, "/?lang=xx", nil)
	RememberLanguage(w, unknown, "en", "zh-CN")
	assert.Empty(t, w.Result().Cookies())
	assert.Equal(t, "en", Language(unknown, "en", "zh-CN"))
}
