package quiet_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/internal/quiet"
	"github.com/stretchr/testify/assert"
	"golang.org/x/oauth2"
)

var errHush = errors.New("hush")

func TestError(t *testing.T) {
	inner := quiet.New("", "inner", errHush)
	err := error(quiet.New("place", "outer", inner, io.EOF))
	assert.Equal(t, "place: outer", err.Error())
	assert.Equal(t, "inner", inner.Error(), "without a place")
	assert.Equal(t, "inner", inner.SafeText())
	assert.ErrorIs(t, err, errHush)
	assert.ErrorIs(t, err, io.EOF)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		assert.Equal(t, "place: outer", fmt.Sprintf(verb, err), verb)
	}
	assert.Equal(t, `"place: outer"`, fmt.Sprintf("%q", err))
	data, jsonErr := json.Marshal(err)
	assert.NoError(t, jsonErr)
	assert.NotContains(t, string(data), "hush")
}

func TestPlaced(t *testing.T) {
	placed := quiet.New("place", "text")
	for name, c := range map[string]struct {
		err  error
		want *quiet.Error
	}{
		"itself":            {placed, placed},
		"wrapped":           {fmt.Errorf("hush: %w", placed), placed},
		"below one without": {quiet.New("", "other", io.EOF, placed), placed},
		"outermost":         {quiet.New("", "other", quiet.New("", "other", placed)), placed},
		"without":           {quiet.New("", "other", io.EOF), nil},
		"foreign":           {io.EOF, nil},
		"nil":               {nil, nil},
	} {
		got, ok := quiet.Placed(c.err)
		assert.Equal(t, c.want != nil, ok, name)
		if ok {
			assert.Same(t, c.want, got, name)
		}
	}
}

func TestErrorTimeout(t *testing.T) {
	assert.True(t, quiet.New("", "x", io.EOF, context.DeadlineExceeded).Timeout())
	assert.False(t, quiet.New("", "x", io.EOF).Timeout())
	assert.False(t, quiet.New("", "x").Timeout())
}

func TestDescribe(t *testing.T) {
	refused := func(status int, code string) error {
		re := &oauth2.RetrieveError{ErrorCode: code, ErrorDescription: "hush", Body: []byte("hush")}
		if status != 0 {
			re.Response = &http.Response{StatusCode: status}
		}
		return re
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"own":               {fmt.Errorf("hush: %w", quiet.New("place", "text", errHush)), "text"},
		"refusal":           {refused(400, "invalid_grant"), "the token endpoint refused: status 400 invalid_grant"},
		"unknown code":      {refused(400, "hush"), "the token endpoint refused: status 400"},
		"no response":       {refused(0, "hush"), "the token endpoint refused"},
		"canceled":          {fmt.Errorf("hush: %w", context.Canceled), "given up by the caller"},
		"deadline":          {fmt.Errorf("hush: %w", context.DeadlineExceeded), "timed out"},
		"timeout":           {&net.OpError{Op: "hush", Err: os.ErrDeadlineExceeded}, "timed out"},
		"old certificate":   {&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired, Detail: "hush"}}, "the server's certificate has expired or is not valid yet, by this machine's clock"},
		"certificate":       {&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: new(x509.Certificate), Host: "hush"}}, "the server's certificate is not valid for its name, or not trusted"},
		"connection":        {fmt.Errorf("hush: %w", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EACCES}), "dial tcp: " + syscall.EACCES.Error()},
		"name":              {fmt.Errorf("hush: %w", &net.DNSError{Err: "no such host", Name: "host"}), "lookup host: no such host"},
		"path":              {fmt.Errorf("hush: %w", &fs.PathError{Op: "open", Path: "p", Err: fs.ErrNotExist}), "open p: file does not exist"},
		"link":              {fmt.Errorf("hush: %w", &os.LinkError{Op: "rename", Old: "a", New: "b", Err: fs.ErrExist}), "rename a b: file already exists"},
		"closed":            {fmt.Errorf("hush: %w", io.EOF), "the connection was closed"},
		"closed in between": {fmt.Errorf("hush: %w", io.ErrUnexpectedEOF), "the connection was closed"},
		"unknown":           {errHush, quiet.Unknown},
	} {
		assert.Equal(t, c.want, quiet.Describe(c.err), name)
	}
}

func TestDescribeForeign(t *testing.T) {
	assert.Equal(t, "timed out", quiet.DescribeForeign(context.DeadlineExceeded))
	assert.Equal(t, "it failed with *errors.errorString", quiet.DescribeForeign(fmt.Errorf("more: %w", errHush)))
}

func TestCode(t *testing.T) {
	for _, code := range []string{"invalid_grant", "slow_down", "insufficient_scope", "redirect_uri_mismatch", "login_required"} {
		assert.Equal(t, code, quiet.Code(code))
	}
	for _, code := range []string{"", "hush", "Invalid_Grant", "invalid_grant "} {
		assert.Empty(t, quiet.Code(code), code)
	}
}
