package wire_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"github.com/stretchr/testify/assert"
)

func TestRead(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, "zipped")
	_ = z.Close()
	damaged := bytes.Clone(zipped.Bytes())
	damaged[len(damaged)-8] ^= 1
	corrupt := bytes.Clone(zipped.Bytes())
	corrupt[10] ^= 0xff // the first byte after the header
	for name, c := range map[string]struct {
		status         int
		encoding, body string
		want           string // or no answer
	}{
		"at the limit":     {200, "", "12345678", "12345678"},
		"too long":         {200, "", "123456789", ""},
		"too long refusal": {400, "", "123456789", "12345678"},
		"gzip":             {200, "gzip", zipped.String(), "zipped"},
		"no gzip":          {200, "gzip", "zipped", ""},
		"damaged gzip":     {200, "GZIP", string(damaged), ""},
		"corrupt gzip":     {200, "gzip", string(corrupt), ""},
	} {
		res := &http.Response{StatusCode: c.status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(c.body))}
		res.Header.Set("Content-Encoding", c.encoding)
		a, err := wire.Read(res, 8)
		if c.want == "" {
			assert.ErrorIs(t, err, wire.ErrUnusable, name)
			continue
		}
		if assert.NoError(t, err, name) {
			assert.Equal(t, c.want, string(a.Body), name)
			assert.Equal(t, c.status == 200, a.OK(), name)
		}
	}
}

// repeated is a body that repeats the same bytes for ever.
type repeated struct {
	bytes []byte
	read  int
}

func (r *repeated) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.bytes[(r.read+i)%len(r.bytes)]
	}
	r.read += len(p)
	if r.read > 16<<20 {
		return 0, errors.New("read too far")
	}
	return len(p), nil
}

func TestReadEndlessGzip(t *testing.T) {
	for _, content := range []string{"", "x"} {
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		_, _ = io.WriteString(z, content)
		_ = z.Close()
		body := &repeated{bytes: zipped.Bytes()}
		res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Encoding": {"gzip"}}, Body: io.NopCloser(body)}
		_, _ = wire.Read(res, 1<<10)
		assert.Less(t, body.read, 1<<20, "content %q", content)
	}
}

func TestDecodeObject(t *testing.T) {
	for body, ok := range map[string]bool{
		` {"a":"1"}`:                        true,
		`{"a":"1","x":{"a":2,"A":[3,"a"]}}`: true,
		`{"\u0061":"1"}`:                    true,
		`{"x":"\"a\":","a":"1"}`:            true,
		`{"a":"1","a":"1"}`:                 false,
		`{"a":"1","A":"2"}`:                 false,
		`{"A":"1"}`:                         false,
		`{"a":"1","\u0061":"2"}`:            false,
		`{"a":"1"} {}`:                      false,
		`{"a":1}`:                           false,
		`[{"a":"1"}]`:                       false,
		"{\"a\":\"\xff\"}":                  false,
		``:                                  false,
	} {
		var v struct{ A string }
		err := wire.DecodeObject([]byte(body), &v, "a")
		if !ok {
			assert.ErrorIs(t, err, wire.ErrUnusable, body)
			continue
		}
		assert.NoError(t, err, body)
		assert.Equal(t, "1", v.A, body)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "x": 0, "-1": 0, "120": 2 * time.Minute, "99999999": 24 * time.Hour, "99999999999": 0,
		"Tue, 01 Jan 2030 00:01:00 GMT": time.Minute, "Tue, 01 Jan 2019 00:01:00 GMT": 0,
	} {
		assert.Equal(t, want, wire.RetryAfter(http.Header{"Retry-After": {value}}, now), value)
	}
}

func TestUnavailable(t *testing.T) {
	for status, want := range map[int]bool{200: false, 302: true, 400: false, 401: false, 429: true, 500: true, 503: true} {
		assert.Equal(t, want, wire.Unavailable(status), status)
	}
}
