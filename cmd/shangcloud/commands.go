package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/spf13/cobra"
)

// maxValue is the longest value of a variable that this program sends.
const maxValue = 1 << 20

type action = func(cmd *cobra.Command, s *session, args []string, jsonOutput bool) error

// newCommand makes a command that works with the stored login.
func newCommand(use, short string, args cobra.PositionalArgs, do action) *cobra.Command {
	return newCommandTo(toWork, use, short, args, do)
}

func newCommandTo(to purpose, use, short string, args cobra.PositionalArgs, do action) *cobra.Command {
	var s settings
	cmd := &cobra.Command{Use: use, Short: short, Args: usage(args)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.run(cmd, to, func(session *session) error { return do(cmd, session, args, s.jsonOutput) })
	}
	s.addTo(cmd.Flags())
	return cmd
}

func newLogout() *cobra.Command {
	return newCommandTo(toLogOut, "logout", "Forget the login", cobra.NoArgs, func(cmd *cobra.Command, s *session, _ []string, jsonOutput bool) error {
		if err := s.login.Delete(cmd.Context()); err != nil {
			return err
		}
		if err := s.clearOther(cmd.Context()); err != nil {
			return err
		}
		if jsonOutput {
			return printJSON(cmd, map[string]any{"base_url": s.BaseURL, "logged_in": false})
		}
		return printLine(cmd, "Logged out of %s.", s.BaseURL)
	})
}

func newWhoami() *cobra.Command {
	return newCommand("whoami", "Print who is logged in", cobra.NoArgs, func(cmd *cobra.Command, s *session, _ []string, jsonOutput bool) error {
		user, err := s.provider.API(s.login).UserInfo(cmd.Context())
		if err != nil {
			return err
		}
		if jsonOutput {
			return printJSON(cmd, struct {
				UID      int64  `json:"uid"`
				Nickname string `json:"nickname"`
				Mail     string `json:"mail"`
				Avatar   string `json:"avatar"`
			}{user.ID, user.Nickname, user.Email, user.AvatarURL})
		}
		return printLine(cmd, "%s", userName(user))
	})
}

func userName(user *shangcloud.UserInfo) string {
	name := fmt.Sprint(user.ID)
	if user.Nickname != "" {
		name = fmt.Sprintf("%s (%d)", user.Nickname, user.ID)
	}
	if user.Email != "" {
		name += " <" + user.Email + ">"
	}
	return name
}

func newToken() *cobra.Command {
	return newCommand("token", "Print a valid access token, for scripts", cobra.NoArgs, func(cmd *cobra.Command, s *session, _ []string, jsonOutput bool) error {
		tok, err := s.login.TokenContext(cmd.Context())
		if err != nil {
			return err
		}
		if !jsonOutput {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), tok.AccessToken)
			return err
		}
		expiry := tok.Expiry
		if saved, err := s.store.LoadToken(cmd.Context()); err == nil && saved != nil && saved.AccessToken == tok.AccessToken {
			expiry = saved.Expiry // the true one: see withMinimumLife
		}
		return printJSON(cmd, struct {
			AccessToken string    `json:"access_token"`
			TokenType   string    `json:"token_type"`
			ExpiresAt   time.Time `json:"expires_at,omitzero"`
		}{tok.AccessToken, tok.Type(), expiry.UTC()})
	})
}

// statusReport is the output of the command status. It contains no secret.
type statusReport struct {
	BaseURL     string    `json:"base_url"`
	ClientID    string    `json:"client_id"`
	Store       string    `json:"store"`
	Path        string    `json:"path"`
	LoggedIn    bool      `json:"logged_in"`
	Scopes      string    `json:"scopes,omitempty"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	Refreshable bool      `json:"refreshable"`
}

func newStatus() *cobra.Command {
	return newCommand("status", "Print which login is kept, where, and until when", cobra.NoArgs, func(cmd *cobra.Command, s *session, _ []string, jsonOutput bool) error {
		tok, err := s.store.LoadToken(cmd.Context())
		if err != nil {
			return err
		}
		r := statusReport{BaseURL: s.BaseURL, ClientID: s.ClientID, Store: s.Store, Path: s.path(s.Store)}
		if tok != nil {
			r.Scopes, _ = tok.Extra("scope").(string)
			r.ExpiresAt, r.Refreshable = tok.Expiry.UTC(), tok.RefreshToken != ""
			r.LoggedIn = r.Refreshable || tok.Valid()
		}
		if err := r.print(cmd, jsonOutput); err != nil || r.LoggedIn {
			return err
		}
		return oauth2login.ErrLoginRequired
	})
}

func (r *statusReport) print(cmd *cobra.Command, jsonOutput bool) error {
	if jsonOutput {
		return printJSON(cmd, r)
	}
	return errors.Join(
		printLine(cmd, "Deployment  %s", r.BaseURL),
		printLine(cmd, "Client ID   %s", r.ClientID),
		printLine(cmd, "Store       %s", r.Store),
		printLine(cmd, "File        %s", r.Path),
		printLine(cmd, "Login       %s", r.validity(time.Now())),
	)
}

// validity says how long the login is valid.
func (r *statusReport) validity(now time.Time) string {
	switch {
	case r.ExpiresAt.IsZero() && r.LoggedIn:
		return "valid, without an end"
	case !r.LoggedIn && r.ExpiresAt.IsZero():
		return "none"
	case !r.LoggedIn:
		return "expired at " + r.ExpiresAt.Format(time.RFC3339)
	case now.After(r.ExpiresAt):
		return "expired; the next command refreshes it"
	case r.Refreshable:
		return "valid until " + r.ExpiresAt.Format(time.RFC3339) + ", then it is refreshed"
	default:
		return "valid until " + r.ExpiresAt.Format(time.RFC3339)
	}
}

func newVar() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "var",
		Short: "Read, write and delete cloud variables",
		Args:  usage(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	set := newCommand("set KEY VALUE", "Write a variable; the value - is read from standard input, byte for byte", keyAnd(1), setVariable)
	set.Example = "  shangcloud var set theme dark\n  shangcloud var set save - < save.json"
	cmd.AddCommand(
		newCommand("get KEY", "Print a variable, byte for byte", keyAnd(0), getVariable),
		set,
		newCommand("delete KEY", "Delete a variable", keyAnd(0), deleteVariable),
	)
	return cmd
}

// keyAnd wants a key that the platform accepts, and more arguments after it.
func keyAnd(more int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(1+more)(cmd, args); err != nil {
			return err
		}
		if args[0] == "" || !utf8.ValidString(args[0]) {
			return errors.New("the key is empty, or is not UTF-8 text")
		}
		return nil
	}
}

func getVariable(cmd *cobra.Command, s *session, args []string, jsonOutput bool) error {
	value, err := s.provider.API(s.login).Variable(cmd.Context(), args[0])
	if err != nil {
		return err
	}
	if jsonOutput {
		return printJSON(cmd, struct {
			Key   string `json:"key"`
			Value string `json:"value"`
		}{args[0], value})
	}
	out := cmd.OutOrStdout()
	if isTerminal(out) { // the next output begins a new line, and the value can't control the terminal
		value = printable(strings.TrimSuffix(value, "\n"), "\n\t") + "\n"
	}
	_, err = io.WriteString(out, value)
	return err
}

func setVariable(cmd *cobra.Command, s *session, args []string, jsonOutput bool) error {
	value, err := valueOf(cmd, args[1])
	if err != nil {
		return err
	}
	return changed(cmd, args[0], jsonOutput, s.provider.API(s.login).SetVariable(cmd.Context(), args[0], value))
}

func deleteVariable(cmd *cobra.Command, s *session, args []string, jsonOutput bool) error {
	return changed(cmd, args[0], jsonOutput, s.provider.API(s.login).DeleteVariable(cmd.Context(), args[0]))
}

// changed ends a command that has changed the variable key. Without jsonOutput it prints
// nothing.
func changed(cmd *cobra.Command, key string, jsonOutput bool, err error) error {
	if err != nil || !jsonOutput {
		return err
	}
	return printJSON(cmd, map[string]string{"key": key})
}

// valueOf returns the value to write. The value must be UTF-8, because the platform
// stores JSON.
func valueOf(cmd *cobra.Command, arg string) (string, error) {
	if arg == "-" {
		data, err := readAll(cmd.Context(), cmd.InOrStdin())
		if err != nil {
			return "", fmt.Errorf("standard input: %w", err)
		}
		arg = string(data)
	}
	if len(arg) > maxValue {
		return "", usagef("the value is longer than 1 MiB")
	}
	if !utf8.ValidString(arg) {
		return "", usagef("the value is not UTF-8 text; encode it first, for example with base64")
	}
	return arg, nil
}

// readAll reads at most one byte more than the longest value, so that the caller notices a
// value that is too long. It returns when ctx ends, even if a read from a terminal is still
// blocked.
func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := io.ReadAll(io.LimitReader(r, maxValue+1))
		done <- result{data, err}
	}()
	select {
	case r := <-done:
		return r.data, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
