//go:build !plan9

package oauth2login_test

import (
	"bytes"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// If the store can neither be locked nor written, a refresh goes on without a lock and a
// save. The log reports that once.
func TestTokenSourceReadOnlyStore(t *testing.T) {
	var log bytes.Buffer
	inTokenBubble(t, func(t *testing.T, s *tokenSite) {
		for _, cause := range []error{&fs.PathError{Op: "open", Path: "/data/t.lock", Err: syscall.EROFS}, &fs.PathError{Op: "open", Path: "/data/t.lock", Err: syscall.EACCES}} {
			store := newLockingStore(s.expired())
			store.lockErr, store.saveErr = cause, cause
			src := s.StoredTokens(store)
			tok, err := src.Token()
			require.NoError(t, err)
			for range 10 {
				time.Sleep(time.Minute)
				again, err := s.StoredTokens(store).Token()
				require.NoError(t, err)
				assert.Same(t, tok, again, "it lives in this process")
			}
		}
		assert.Equal(t, 2, s.refreshes())
	}, func(o *oauth2login.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	assert.Equal(t, 1, strings.Count(log.String(), "can't be written"), log.String())
	assert.Contains(t, log.String(), syscall.EROFS.Error())
}
