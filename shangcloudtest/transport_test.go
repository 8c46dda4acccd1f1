package shangcloudtest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

func TestTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := populate(shangcloudtest.New())
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("given up"))
		req, err := http.NewRequestWithContext(ctx, "POST", s.URL, strings.NewReader("x"))
		require.NoError(t, err)
		_, err = s.Transport().RoundTrip(req)
		assert.Error(t, err)
		assert.Empty(t, s.Requests(), "the request was not sent")

		// A client may close an answer without reading it.
		resp, err := (&http.Client{Transport: s.Transport()}).Get(s.URL + "/device")
		require.NoError(t, err)
		assert.Equal(t, "200 OK", resp.Status)
		require.NoError(t, resp.Body.Close())
		synctest.Wait()

		s.Handle("/empty", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "0")
			_, err := w.Write(nil)
			assert.NoError(t, err)
		}))
		resp, err = (&http.Client{Transport: s.Transport()}).Get(s.URL + "/empty")
		require.NoError(t, err)
		assert.EqualValues(t, 0, resp.ContentLength)
		require.NoError(t, resp.Body.Close())
	})
}
