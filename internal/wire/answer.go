package wire

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
)

// maxRetryAfter caps the time that a server can ask for with Retry-After.
const maxRetryAfter = 24 * time.Hour

// codingOverhead is the number of bytes by which a compressed body may exceed the limit for
// its decoded content. Without it, a server could send compressed blocks without content
// for ever.
const codingOverhead = 64 << 10

// maxCodings caps how many content codings of a body are decoded. Each decoder takes
// memory.
const maxCodings = 2

// gzipMagic is the start of every gzip body (RFC 1952, section 2.3.1). JSON and forms never
// start with it.
var gzipMagic = []byte{0x1f, 0x8b}

// ErrUnusable means that an answer is malformed, ambiguous or too long.
var ErrUnusable = errors.New("unusable answer")

// Unusable returns an error that matches ErrUnusable. The text must not quote the answer.
func Unusable(text string) error { return quiet.New("", "unusable answer: "+text, ErrUnusable) }

// Answer is an HTTP answer with its body. The body of an error answer may be cut.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Read reads up to limit bytes of the body of res, and closes the body. If the body of a
// successful answer is longer, Read returns an error. If the body of another answer is
// longer, Read cuts the body. Read decodes gzip and deflate, because some proxies compress
// answers without being asked.
func Read(res *http.Response, limit int64) (*Answer, error) {
	defer res.Body.Close()
	a := &Answer{Status: res.StatusCode, Header: res.Header}
	from, err := decoder(res, limit)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(from, limit+1))
	switch {
	case isDamaged(err):
		return nil, errDamaged
	case err != nil:
		return nil, harmless(err)
	case int64(len(body)) > limit && a.OK():
		return nil, Unusable(fmt.Sprintf("longer than %d bytes", limit))
	}
	if bytes.HasPrefix(body, gzipMagic) {
		return nil, Unusable("gzip without the header Content-Encoding; perhaps a proxy compresses answers")
	}
	a.Body = body[:min(int64(len(body)), limit)]
	return a, nil
}

var errDamaged = Unusable("not in the coding that its header names; perhaps a proxy changes answers")

// decoder returns a reader that decodes the content codings of a body (RFC 9110, section
// 8.4). It decodes the last coding first.
func decoder(res *http.Response, limit int64) (io.Reader, error) {
	from := io.Reader(res.Body)
	codings := strings.FieldsFunc(strings.ToLower(strings.Join(res.Header.Values("Content-Encoding"), ",")), func(r rune) bool {
		return r == ',' || r == ' ' || r == '\t'
	})
	if len(codings) > maxCodings {
		return nil, Unusable("in too many content codings; perhaps a proxy compresses answers")
	}
	for _, coding := range slices.Backward(codings) {
		decode, known := decoders[coding]
		if !known {
			return nil, Unusable("in an unknown content coding; perhaps a proxy compresses answers")
		}
		bounded := bufio.NewReader(io.LimitReader(from, limit+codingOverhead))
		if _, err := bounded.Peek(1); err != nil {
			return bounded, nil // an empty body needs no decoding
		}
		var err error
		if from, err = decode(bounded); isDamaged(err) {
			return nil, errDamaged
		} else if err != nil {
			return nil, harmless(err)
		}
	}
	return from, nil
}

var decoders = map[string]func(*bufio.Reader) (io.Reader, error){
	"identity": func(r *bufio.Reader) (io.Reader, error) { return r, nil },
	"gzip":     func(r *bufio.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	"x-gzip":   func(r *bufio.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	"deflate":  inflate,
}

// inflate decodes the zlib format, and deflate data without the zlib header. Some servers
// omit the header: "Some non-conformant implementations send the deflate compressed data
// without the zlib wrapper." https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.2
func inflate(from *bufio.Reader) (io.Reader, error) {
	if head, _ := from.Peek(2); len(head) == 2 && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		return zlib.NewReader(from)
	}
	return flate.NewReader(from), nil
}

// isDamaged reports whether err means that the body is not valid data of its content
// coding.
func isDamaged(err error) bool {
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	return corrupt || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) ||
		errors.Is(err, zlib.ErrChecksum) || errors.Is(err, zlib.ErrHeader) || errors.Is(err, zlib.ErrDictionary)
}

// OK reports whether the status is a success (2xx).
func (a *Answer) OK() bool { return a.Status >= 200 && a.Status <= 299 }

// Unavailable reports whether a status means that the server could not handle the request.
// Any other error status means that the server refused the request.
func Unavailable(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || status >= 300 && status <= 399
}

// RetryAfter returns how long the server asks the client to wait, at most a day. It returns
// 0 if the server sends no valid Retry-After. The header contains seconds or a date (RFC
// 9110, section 10.2.3).
func RetryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err == nil || errors.Is(err, strconv.ErrRange) { // on ErrRange, seconds is the largest number of 31 bits
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// DecodeObject decodes body into the struct that v points to. body must be a single JSON
// object. names lists the members that must not be ambiguous: each may occur at most
// once, and only in this spelling. encoding/json alone would ignore case and use the last
// duplicate.
func DecodeObject(body []byte, v any, names ...string) error {
	if !utf8.Valid(body) {
		return Unusable("not UTF-8")
	}
	if !IsObject(body) {
		return Unusable("not a JSON object")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return Unusable("not the expected JSON")
	}
	seen := 0 // a bit for each of names
	for key := range topLevelKeys(body) {
		for i, name := range names {
			if !bytes.EqualFold(key, []byte(name)) {
				continue
			}
			if string(key) != name || seen&(1<<i) != 0 {
				return Unusable("ambiguous JSON")
			}
			seen |= 1 << i
		}
	}
	return nil
}

// IsObject reports whether body starts like a JSON object.
func IsObject(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))
}

// topLevelKeys yields the names of the members of object, but not those of nested objects.
// object must be valid JSON.
func topLevelKeys(object []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		depth, isKey := 0, true
		for i := 0; i < len(object); i++ {
			switch object[i] {
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			case ':':
				isKey = false
			case ',':
				isKey = true
			case '"':
				end := stringEnd(object, i)
				if depth == 1 && isKey && !yield(unquote(object[i:end+1])) {
					return
				}
				i = end
			}
		}
	}
}

// stringEnd returns the index of the closing quote of a JSON string. start is the index of
// the opening quote.
func stringEnd(object []byte, start int) int {
	i := start + 1
	for ; object[i] != '"'; i++ {
		if object[i] == '\\' {
			i++
		}
	}
	return i
}

func unquote(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // cannot fail: the whole object is valid JSON
	return []byte(s)
}
