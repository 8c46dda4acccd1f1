package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
)

// answerTimeout is how long the edge may take to say who is in the room.
const answerTimeout = 5 * time.Second

// visit is a stay in a room, over any number of connections.
type visit struct {
	rooms    *mmo.Client
	id       string
	protocol string
	print    *roomPrinter
	input    *lines // nil: only listens

	room    *mmo.Room // of the present connection
	wasIn   bool      // there has been a connection
	pending string    // a line that is not said yet
	unsaid  int       // lines that can't be said

	isLeaving atomic.Bool // the edge is asked for a last answer
}

// run stays in the room until the user leaves. The first connection has to succeed; later
// ones are tried again.
func (v *visit) run(user context.Context, options *mmo.DialOptions) error {
	ctx, cancel := context.WithCancel(user)
	defer cancel()
	var failure error
	stay := &mmo.Session{
		Join: func(ctx context.Context) (room *mmo.Room, err error) {
			v.room, err = v.rooms.Join(ctx, v.id, v.protocol)
			return v.room, err
		},
		Use:     v.use,
		Options: options,
		Waiting: func(err error, pause time.Duration) {
			switch {
			case errors.Is(err, mmo.ErrClosedByEdge):
				err = v.closed(ctx)
			case v.wasIn:
				err = v.print.lost(err, pause)
			}
			if err != nil {
				failure = err
				cancel()
			}
		},
	}
	err := stay.Run(ctx)
	if failure != nil {
		return failure
	}
	if v.wasIn && user.Err() != nil { // Ctrl-C is a way to leave
		err = nil
	}
	if err == nil && v.unsaid > 0 {
		return fmt.Errorf("%d of the lines could not be said", v.unsaid)
	}
	return err
}

// use stays in the room with one connection.
func (v *visit) use(ctx context.Context, conn *mmo.Conn) error {
	v.wasIn = true
	if err := v.print.connected(v.room, v.input != nil); err != nil {
		return err
	}
	inside, leave := context.WithCancelCause(ctx)
	answered := make(chan struct{}, 1)
	var reading sync.WaitGroup
	reading.Go(func() { leave(v.listen(inside, conn, answered)) })
	err := v.talk(inside, conn, answered)
	leave(nil)
	reading.Wait()
	return err
}

// closed says why the edge has closed the connection. The error ends the visit: to join again
// would undo a kick.
func (v *visit) closed(ctx context.Context) error {
	if _, err := v.rooms.UserCount(ctx, v.id); errors.Is(err, mmo.ErrNoRoom) {
		return errors.New("the room has ended")
	}
	return errors.New("the edge closed the connection: you were kicked, or have joined elsewhere, or it restarts")
}

// listen prints events until the connection or ctx ends. It tells answered that the edge has
// said who is in the room.
func (v *visit) listen(ctx context.Context, conn *mmo.Conn, answered chan<- struct{}) error {
	for {
		event, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		_, isAnswer := event.(mmo.Members)
		if !isAnswer || !v.isLeaving.Load() {
			if err := v.print.event(event); err != nil {
				return err
			}
		}
		if isAnswer {
			select {
			case answered <- struct{}{}:
			default:
			}
		}
	}
}

// talk says the lines of the input. Without an input it waits for the end of ctx.
func (v *visit) talk(ctx context.Context, conn *mmo.Conn, answered <-chan struct{}) error {
	if v.input == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	// The edge answers in order. The first answer has to be here before the lines are sent.
	// Then the next answer shows that the edge has read all lines.
	if err := await(ctx, answered); err != nil {
		return err
	}
	for {
		if v.pending == "" {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case line, open := <-v.input.each:
				if !open {
					return v.leave(ctx, conn, answered)
				}
				v.pending = line
			}
		}
		if err := v.say(ctx, conn); err != nil {
			return err
		}
		v.pending = ""
	}
}

// say says the pending line.
func (v *visit) say(ctx context.Context, conn *mmo.Conn) error {
	err := conn.Broadcast(ctx, v.pending, "")
	switch {
	case errors.Is(err, mmo.ErrMessage):
		v.unsaid++
		return v.print.notSaid(err)
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

// leave ends the visit once the edge has read all lines. A connection that is closed earlier
// could take lines with it.
func (v *visit) leave(ctx context.Context, conn *mmo.Conn, answered <-chan struct{}) error {
	if v.input.err != nil {
		return v.input.err
	}
	v.isLeaving.Store(true)
	if err := conn.RequestMembers(ctx); err != nil {
		return err
	}
	return await(ctx, answered)
}

// await waits for an answer, but no longer than answerTimeout.
func await(ctx context.Context, answered <-chan struct{}) error {
	timeout := time.NewTimer(answerTimeout)
	defer timeout.Stop()
	select {
	case <-answered:
	case <-timeout.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// lines are the lines of an input.
type lines struct {
	each chan string
	err  error // why they ended; set before each is closed
}

// readLines reads lines that are not empty, until ctx ends. A read that is blocked by then
// stays so.
func readLines(ctx context.Context, r io.Reader) *lines {
	l := &lines{each: make(chan string)}
	go func() {
		defer close(l.each)
		scanner := bufio.NewScanner(r)
		scanner.Buffer(nil, maxValue)
		for scanner.Scan() {
			if strings.TrimSpace(scanner.Text()) == "" {
				continue
			}
			select {
			case l.each <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
		switch err := scanner.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			l.err = usagef("a line of standard input is longer than 1 MiB")
		case err != nil:
			l.err = fmt.Errorf("standard input: %w", err)
		}
	}()
	return l
}
