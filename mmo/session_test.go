package mmo_test

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo/mmotest"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/stretchr/testify/require"
)

// joiner stands in for the platform: it admits a client to an edge in memory.
func joiner(e *mmotest.Edge, protocol string) func(context.Context) (*mmo.Room, error) {
	return func(context.Context) (*mmo.Room, error) {
		key := rand.Text()
		e.Admit("room", key, "1")
		url, spoken := e.URL(protocol)
		return mmo.NewRoom("room", url, spoken, key), nil
	}
}

// readAll uses a connection until it ends.
func readAll(ctx context.Context, conn *mmo.Conn) error {
	for {
		if _, err := conn.Read(ctx); err != nil {
			return err
		}
	}
}

func TestSession(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		var waits []error
		uses := 0
		s := mmo.Session{
			Join:    joiner(e, protocol),
			Options: options(e, "1"),
			Use: func(ctx context.Context, conn *mmo.Conn) error {
				uses++
				switch uses {
				case 1:
					time.AfterFunc(time.Minute, func() { e.Kick("room", "1") })
				case 2:
					time.AfterFunc(time.Minute, func() { e.Cut("room", "1") })
				case 3:
					return nil
				}
				return readAll(ctx, conn)
			},
			Waiting: func(err error, pause time.Duration) {
				waits = append(waits, err)
				require.InDelta(t, 1, pause.Seconds(), 0.25)
			},
		}
		require.NoError(t, s.Run(t.Context()))
		require.Equal(t, 3, uses)
		require.Len(t, waits, 2)
		require.ErrorIs(t, waits[0], mmo.ErrClosedByEdge)
		require.ErrorIs(t, waits[1], mmo.ErrNoConnection)
	})
}

func TestSessionPauses(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		var pauses []time.Duration
		ctx, cancel := context.WithCancel(t.Context())
		tries := 0
		s := mmo.Session{
			Join: func(ctx context.Context) (*mmo.Room, error) {
				if tries++; tries == 8 {
					return nil, &shangcloud.APIError{StatusCode: 503, RetryAfter: time.Hour}
				}
				return nil, errors.New("the network is down")
			},
			Use: readAll,
			Waiting: func(_ error, pause time.Duration) {
				if pauses = append(pauses, pause); len(pauses) == 8 {
					cancel()
				}
			},
		}
		require.ErrorIs(t, s.Run(ctx), context.Canceled)
		for i, want := range []float64{1, 2, 4, 8, 16, 30, 30} {
			require.InDelta(t, want, pauses[i].Seconds(), want/4)
		}
		require.Equal(t, time.Hour, pauses[7])
	})
}

// Only a connection that lasts makes the pauses short again; a slow Join does not.
func TestSessionPausesBeginAgain(t *testing.T) {
	inMemory(t, func(t *testing.T, e *mmotest.Edge) {
		ctx, cancel := context.WithCancel(t.Context())
		join, uses := joiner(e, mmo.ProtocolTCP), []time.Duration{0, 29 * time.Second, 30 * time.Second, 0}
		var pauses []time.Duration
		s := mmo.Session{
			Join: func(ctx context.Context) (*mmo.Room, error) {
				time.Sleep(time.Minute)
				return join(ctx)
			},
			Options: options(e, "1"),
			Use: func(context.Context, *mmo.Conn) error {
				time.Sleep(uses[len(pauses)])
				return mmo.ErrNoConnection
			},
			Waiting: func(_ error, pause time.Duration) {
				if pauses = append(pauses, pause); len(pauses) == len(uses) {
					cancel()
				}
			},
		}
		require.ErrorIs(t, s.Run(ctx), context.Canceled)
		for i, want := range []float64{1, 2, 1, 2} {
			require.InDelta(t, want, pauses[i].Seconds(), want/4)
		}
	})
}

func TestSessionEnds(t *testing.T) {
	errOwn := errors.New("the application's own")
	room := mmo.NewRoom("room", "", "tcp", "key")
	for name, c := range map[string]struct {
		joinErr error
		url     string
		useErr  error
		want    error
	}{
		"no such room":    {joinErr: &shangcloud.APIError{StatusCode: 404}},
		"not allowed":     {joinErr: &shangcloud.APIError{StatusCode: 403}},
		"logged out":      {joinErr: oauth2login.ErrLoginRequired, want: oauth2login.ErrLoginRequired},
		"edge URL":        {url: "nowhere", want: mmo.ErrEdgeURL},
		"plaintext":       {url: "192.0.2.1:1", want: mmo.ErrPlaintext},
		"own error":       {useErr: errOwn, want: errOwn},
		"bad message":     {useErr: mmo.ErrMessage, want: mmo.ErrMessage},
		"nothing went on": {useErr: nil},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, e *mmotest.Edge) {
				s := mmo.Session{
					Join: func(ctx context.Context) (*mmo.Room, error) {
						switch {
						case c.joinErr != nil:
							return nil, c.joinErr
						case c.url != "":
							room.EdgeURL = c.url
							return room, nil
						}
						return joiner(e, "tcp")(ctx)
					},
					Use:     func(context.Context, *mmo.Conn) error { return c.useErr },
					Options: options(e, ""),
					Waiting: func(err error, _ time.Duration) { t.Errorf("waits after %v", err) },
				}
				if name == "plaintext" {
					s.Options = nil
				}
				err := s.Run(t.Context())
				switch {
				case c.want != nil:
					require.ErrorIs(t, err, c.want)
				case c.joinErr != nil:
					require.Equal(t, c.joinErr, err)
				default:
					require.NoError(t, err)
				}
			})
		})
	}
}

func TestSessionContext(t *testing.T) {
	overEach(t, func(t *testing.T, e *mmotest.Edge, protocol string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := mmo.Session{Join: joiner(e, protocol), Options: options(e, "1"), Use: readAll}
		require.ErrorIs(t, s.Run(ctx), context.DeadlineExceeded)

		ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		s.Join = func(context.Context) (*mmo.Room, error) { return nil, oauth2login.ErrUnavailable }
		require.ErrorIs(t, s.Run(ctx), context.DeadlineExceeded, "also in a pause")
	})
}
