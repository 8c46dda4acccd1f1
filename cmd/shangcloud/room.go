package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/mmo"
	"github.com/spf13/cobra"
)

// roomOptions are the flags of the commands that enter a room.
type roomOptions struct {
	name           string
	protocol       string
	allowPlaintext bool
	typedToken     bool
}

func newRoom() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "room",
		Short: "Make game rooms, listen in them, and chat",
		Args:  usage(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRoomNew(), newRoomJoin(), newRoomChat())
	return cmd
}

func newRoomNew() *cobra.Command {
	var o roomOptions
	var multiLogin bool
	cmd := newCommand("new", "Make a room, and print its ID", cobra.NoArgs, func(cmd *cobra.Command, s *session, _ []string, jsonOutput bool) error {
		rooms := o.client(s)
		room, err := rooms.Create(cmd.Context(), "")
		if err != nil {
			return err
		}
		if multiLogin {
			if err := rooms.Configure(cmd.Context(), room.ID, mmo.Config{AllowMultiLogin: true}); err != nil {
				return fmt.Errorf("the room %s is there, but has no --multi-login: %w", room.ID, err)
			}
		}
		if jsonOutput {
			return printJSON(cmd, map[string]any{"room_id": room.ID})
		}
		return printLine(cmd, "%s", room.ID)
	})
	cmd.Long = `Make a room, and print its ID.

The room is yours. Whoever has the ID and an account can join it.`
	cmd.Flags().BoolVar(&multiLogin, "multi-login", false, "an account can be in the room more than once")
	o.addToken(cmd)
	return cmd
}

func newRoomJoin() *cobra.Command {
	var o roomOptions
	cmd := newCommand("join ID", "Join a room, and print what happens there", cobra.ExactArgs(1), func(cmd *cobra.Command, s *session, args []string, jsonOutput bool) error {
		return o.enter(cmd, s, args[0], jsonOutput, false)
	})
	cmd.Long = `Join a room, and print what happens there: an event a line, with --json as JSON.

It joins again after a lost connection, but not if the edge closes it, as after
a kick. Ctrl-C leaves the room.`
	o.addTo(cmd)
	return cmd
}

func newRoomChat() *cobra.Command {
	var o roomOptions
	cmd := newCommand("chat ID", "Join a room, and say the lines of standard input", cobra.ExactArgs(1), func(cmd *cobra.Command, s *session, args []string, jsonOutput bool) error {
		return o.enter(cmd, s, args[0], jsonOutput, true)
	})
	cmd.Long = `Join a room, say each line of standard input to the others, and print what they
say and do, as "room join" does.

A line that the connection did not take is said after it has joined again.
Ctrl-D, which is the end of the input, leaves the room; so does Ctrl-C.`
	cmd.Example = "  shangcloud room chat ID --name Ada\n  echo 'Server restarts at noon' | shangcloud room chat ID"
	o.addTo(cmd)
	return cmd
}

func (o *roomOptions) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "the nickname that others see (default: that of the account)")
	f.StringVar(&o.protocol, "protocol", mmo.ProtocolWebSocket, "websocket or tcp; only websocket can be encrypted")
	f.BoolVar(&o.allowPlaintext, "allow-plaintext", false, "allow an edge that anyone on the way can listen to")
	o.addToken(cmd)
}

func (o *roomOptions) addToken(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.typedToken, "typed-token", false, "send \"Bearer\" before the token, if the platform refuses it alone")
}

func (o *roomOptions) client(s *session) *mmo.Client {
	var opts []mmo.ClientOption
	if o.typedToken {
		opts = append(opts, mmo.WithTypedToken())
	}
	return mmo.NewClient(s.provider.API(s.login), opts...)
}

// enter joins a room until the user leaves.
func (o *roomOptions) enter(cmd *cobra.Command, s *session, id string, jsonOutput, talks bool) error {
	ctx := cmd.Context()
	user, err := s.provider.API(s.login).UserInfo(ctx)
	if err != nil {
		return err
	}
	v := &visit{rooms: o.client(s), id: id, protocol: o.protocol, print: newRoomPrinter(cmd, jsonOutput)}
	if talks {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		v.input = readLines(ctx, cmd.InOrStdin())
	}
	options := &mmo.DialOptions{UID: strconv.FormatInt(user.ID, 10), Nickname: user.Nickname, AllowPlaintext: o.allowPlaintext}
	if o.name != "" {
		options.Nickname = o.name
	}
	return roomUsage(v.run(ctx, options))
}

// roomUsage makes an error of usage of what other arguments and flags avoid.
func roomUsage(err error) error {
	switch _, isRefusal := errors.AsType[*shangcloud.APIError](err); {
	case errors.Is(err, mmo.ErrPlaintext):
		return usagef("%w; --allow-plaintext allows that", err)
	case errors.Is(err, mmo.ErrMessage):
		return usagef("--name: %w", err)
	case errors.Is(err, mmo.ErrInvalid) && !isRefusal:
		return usageError{err}
	}
	return err
}
