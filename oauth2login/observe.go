package oauth2login

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Event describes how a login or a refresh ended. It prints no secret. But package fmt
// prints the value of a [LoginError] in Err if an Event is in an unexported field of a
// struct.
type Event struct {
	Kind     string        // "login", "device", "local" or "refresh"
	Host     string        // of the provider's AuthURL
	ClientID string        // of the provider's oauth2.Config
	Outcome  string        // see below
	Duration time.Duration // of the requests, or of a whole device or local login
	Err      error         // nil if Outcome is "ok"

	// Outcome is one of:
	//
	//	ok           a token was issued
	//	denied       the user said no
	//	late         the state, or the device login, had expired or was used
	//	browser      the browser did not start the login
	//	refused      the provider refused the code or the refresh token
	//	credentials  the provider refused the client ID or the secret
	//	unavailable  the provider could not be reached, or its answer is unusable
	//	store        the state store or the token store failed
	//	malformed    the request is no callback
	//	canceled     the caller gave up
}

// classOf returns the Outcome for an error.
func classOf(err error) string {
	for _, class := range []struct {
		err  error
		name string
	}{
		{nil, "ok"},
		{ErrAccessDenied, "denied"},
		{ErrStateNotFound, "late"},
		{ErrLoginExpired, "late"},
		{ErrWrongBrowser, "browser"},
		{ErrBadCallback, "malformed"},
		{ErrClientCredentials, "credentials"},
		{ErrStateStore, "store"},
		{ErrTokenStore, "store"},
		{ErrUnavailable, "unavailable"},
		{context.Canceled, "canceled"},
		{context.DeadlineExceeded, "canceled"},
	} {
		if errors.Is(err, class.err) {
			return class.name
		}
	}
	return "refused"
}

// observe calls Options.Observe when a login or a refresh has ended. It recovers a panic
// of that function.
func (p *Provider) observe(ctx context.Context, kind string, begun time.Time, err error) {
	if p.opts.Observe == nil {
		return
	}
	defer func() {
		if recover() != nil {
			p.opts.Logger.Error("oauth2login: Options.Observe panicked")
		}
	}()
	p.opts.Observe(ctx, Event{
		Kind: kind, Host: p.host, ClientID: p.conf.ClientID,
		Outcome: classOf(err), Duration: time.Since(begun), Err: err,
	})
}

// steadyHandler recovers panics of the application's log handler: a log line must not end
// the process.
type steadyHandler struct{ slog.Handler }

func (h steadyHandler) Handle(ctx context.Context, r slog.Record) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("oauth2login: the log's handler panicked")
		}
	}()
	return h.Handler.Handle(ctx, r)
}
