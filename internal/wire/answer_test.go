package wire_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/wire"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func gzipped(s string) string {
	return compressed(s, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
}

// deflated returns s in the zlib format, which HTTP calls "deflate".
func deflated(s string) string {
	return compressed(s, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
}

// rawDeflated returns s as raw deflate data without the zlib header. Some servers call this
// data "deflate" too.
func rawDeflated(s string) string {
	return compressed(s, func(w io.Writer) io.WriteCloser {
		z, _ := flate.NewWriter(w, flate.BestCompression) // fails only for an unknown level
		return z
	})
}

func compressed(s string, by func(io.Writer) io.WriteCloser) string {
	var out strings.Builder
	w := by(&out)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return out.String()
}

// flipped returns s with the byte at i changed. A negative i counts from the end.
func flipped(s string, i int) string {
	b := []byte(s)
	b[(i+len(b))%len(b)] ^= 0xff
	return string(b)
}

func TestRead(t *testing.T) {
	const none = "no answer"
	bomb := strings.Repeat("\x00", 4<<20)
	for name, c := range map[string]struct {
		status         int
		encoding, body string
		want           string
	}{
		"at the limit":            {200, "", "12345678", "12345678"},
		"too long":                {200, "", "123456789", none},
		"too long refusal":        {400, "", "123456789", "12345678"},
		"identity":                {200, "identity", "as it is", "as it is"},
		"gzip":                    {200, "gzip", gzipped("zipped"), "zipped"},
		"gzip of a refusal":       {400, "gzip", gzipped("refused"), "refused"},
		"x-gzip":                  {200, "x-gzip", gzipped("zipped"), "zipped"},
		"gzip in two parts":       {200, "gzip", gzipped("zip") + gzipped("ped"), "zipped"},
		"empty gzip":              {200, "gzip", gzipped(""), ""},
		"nothing":                 {204, "gzip", "", ""},
		"nothing, twice":          {204, "deflate, gzip", gzipped(""), ""},
		"no gzip":                 {200, "gzip", "zipped, it says", none},
		"a byte":                  {200, "gzip", "z", none},
		"damaged gzip":            {200, "GZIP", flipped(gzipped("zipped"), -8), none},
		"corrupt gzip":            {200, "gzip", flipped(gzipped("zipped"), 10), none}, // the first byte after the header
		"cut gzip":                {200, "gzip", gzipped("zipped")[:20], none},
		"gzip, then more":         {200, "gzip", gzipped("zipped") + "and what is no gzip", none},
		"gzip bomb":               {200, "gzip", gzipped(bomb), none},
		"gzip bomb of a refusal":  {400, "gzip", gzipped(bomb), bomb[:8]},
		"deflate":                 {200, "deflate", deflated("zipped"), "zipped"},
		"deflate, no header":      {200, "Deflate", rawDeflated("zipped"), "zipped"},
		"no deflate":              {200, "deflate", "\xffzipped", none},
		"damaged deflate":         {200, "deflate", flipped(deflated("zipped"), -1), none},
		"cut deflate":             {200, "deflate", deflated("zipped")[:6], none},
		"deflate bomb":            {200, "deflate", deflated(bomb), none},
		"two codings":             {200, "deflate, gzip", gzipped(deflated("zipped")), "zipped"},
		"two codings, no space":   {200, "gzip,identity", gzipped("zipped"), "zipped"},
		"two codings, misordered": {200, "gzip, deflate", gzipped(deflated("zipped")), none},
		"gzip twice":              {200, "gzip, gzip", gzipped(gzipped("zipped")), "zipped"},
		"bomb in a bomb":          {200, "gzip, gzip", gzipped(gzipped(bomb)), none},
		"three codings":           {200, "gzip, gzip, gzip", gzipped(gzipped(gzipped("zipped"))), none},
		"an unknown coding":       {200, "br", "zipped", none},
		"gzip without a header":   {200, "", gzipped("zipped")[:8], none},
	} {
		t.Run(name, func(t *testing.T) {
			res := &http.Response{StatusCode: c.status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(c.body))}
			res.Header.Set("Content-Encoding", c.encoding)
			a, err := wire.Read(res, 8)
			if c.want == none {
				assert.Nil(t, a)
				if !strings.HasPrefix(name, "cut ") && name != "a byte" { // a broken connection may also cut an answer
					assert.ErrorIs(t, err, wire.ErrUnusable)
				}
				require.Error(t, err)
				assert.NotContains(t, err.Error(), "zipped")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.want, string(a.Body))
			assert.Equal(t, c.status < 300, a.OK())
		})
	}
	res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Encoding": {"deflate", "gzip"}}, Body: io.NopCloser(strings.NewReader(gzipped(deflated("zipped"))))}
	a, err := wire.Read(res, 8)
	require.NoError(t, err)
	assert.Equal(t, "zipped", string(a.Body), "in two headers")
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
		"": 0, "x": 0, "-1": 0, "120": 2 * time.Minute, "99999999": 24 * time.Hour, "2147483648": 24 * time.Hour, "99999999999999999999999": 24 * time.Hour, "+5": 0, "5s": 0, "1e9": 0,
		"Fri, 31 Dec 9999 23:59:59 GMT": 24 * time.Hour,
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
