package mmo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
)

const (
	minPause = time.Second
	maxPause = 30 * time.Second // also how long a connection has to live to count as good
)

// Session keeps a client in a room. It joins, dials, and gives the connection to Use. When
// the connection has ended, Session begins again. Join and Use have to be set. A Session
// may run several times, even at the same time.
type Session struct {
	// Join enters the room. Most often, it calls [Client.Join]. It has to get a new connect
	// key for every connection.
	Join func(context.Context) (*Room, error)

	// Use works with one connection, until Read or a sending method fails. If Use returns
	// that error, or an error that wraps it, Run calls Use again with a new connection. If
	// Use returns nil or any other error, Run ends. A new connection knows nothing of the
	// old one: send variables again. Run closes the connection.
	//
	// It is unknown whether [ErrClosedByEdge] means a kick. If this client should stay away
	// after a kick, return another error instead of ErrClosedByEdge.
	Use func(context.Context, *Conn) error

	// Options are for [Room.Dial]; may be nil.
	Options *DialOptions

	// Waiting, if not nil, is told why there is no connection, and how long Run waits
	// before it joins again.
	Waiting func(err error, pause time.Duration)
}

// Run returns when Use is finished, ctx ends, or a new try is useless: the platform refuses
// Join (a status other than 408, 429 and 500 or above), the user has to log in again, the
// edge URL can't be used, or an option is wrong. If ctx ends, the error is that of ctx.
//
// The pauses before the tries are 1, 2, 4, 8, 16 and 30 seconds, each up to 25 % more or
// less, or as long as the platform asks. After a connection that lasted for 30 seconds,
// they begin at 1 second again.
func (s *Session) Run(ctx context.Context) error {
	pause := minPause
	for {
		hasConnected, lasted, err := s.once(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("mmo: session: %w", ctx.Err())
		case !isTemporary(err, hasConnected):
			return err
		}
		if lasted >= maxPause {
			pause = minPause
		}
		wait := pause*3/4 + rand.N(pause/2)
		if refusal, ok := errors.AsType[*shangcloud.APIError](err); ok {
			wait = max(wait, refusal.RetryAfter)
		}
		pause = min(2*pause, maxPause)
		if s.Waiting != nil {
			s.Waiting(err, wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("mmo: session: %w", ctx.Err())
		}
	}
}

// once joins the room, connects to it, and uses the connection until it ends. lasted is how
// long that connection was used.
func (s *Session) once(ctx context.Context) (hasConnected bool, lasted time.Duration, err error) {
	room, err := s.Join(ctx)
	if err != nil {
		return false, 0, err
	}
	conn, err := room.Dial(ctx, s.Options)
	if err != nil {
		return false, 0, err
	}
	defer conn.Close()
	began := time.Now()
	err = s.Use(ctx, conn)
	return true, time.Since(began), err
}

// isTemporary reports whether a new try can help. Once Use has been called, only an error
// of the connection is temporary. Any other error of Use comes from the application.
func isTemporary(err error, hasConnected bool) bool {
	isLost := errors.Is(err, ErrNoConnection) || errors.Is(err, ErrClosedByEdge) || errors.Is(err, ErrRefused)
	if hasConnected || isLost {
		return isLost
	}
	for _, hopeless := range []error{oauth2login.ErrLoginRequired, ErrInvalid, ErrEdgeURL, ErrPlaintext, ErrMessage} {
		if errors.Is(err, hopeless) {
			return false
		}
	}
	refusal, isRefusal := errors.AsType[*shangcloud.APIError](err)
	return !isRefusal || refusal.StatusCode == 408 || errors.Is(err, oauth2login.ErrUnavailable)
}
