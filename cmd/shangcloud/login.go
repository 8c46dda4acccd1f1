package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-oauth2"
	"github.com/YearnstudioHorizon/shangcloud-oauth2/oauth2login"
	"github.com/cli/browser"
	"github.com/spf13/cobra"
	"golang.org/x/oauth2"
)

// shutdownTimeout is enough time to receive the answer to a refresh and to save the new
// token.
const shutdownTimeout = 20 * time.Second

func init() { browser.Stdout, browser.Stderr = io.Discard, io.Discard }

func newLogin() *cobra.Command {
	var s settings
	var device, local bool
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Log in, in the browser of this machine or on another device",
		Long: `Log in, in the browser of this machine or on another device.

Without --browser and --device, the browser is used if this terminal has a
display. Later commands use the same deployment and client ID.`,
		Args: usage(cobra.NoArgs),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if device && local {
			return usagef("--device and --browser exclude each other")
		}
		return s.run(cmd, toLogIn, func(session *session) error {
			return login(cmd, session, !device && (local || hasDisplay()), s.jsonOutput)
		})
	}
	cmd.Flags().BoolVar(&device, "device", false, "on another device, with a code")
	cmd.Flags().BoolVar(&local, "browser", false, "in the browser of this machine")
	s.addTo(cmd.Flags())
	s.addLogin(cmd.Flags())
	return cmd
}

func login(cmd *cobra.Command, s *session, local, jsonOutput bool) error {
	ctx, say := cmd.Context(), &prompter{to: cmd.ErrOrStderr()}
	var login *oauth2login.Login
	var err error
	if local {
		login, err = s.provider.LocalLogin(ctx, func(address string) error { return openBrowser(say, address) })
	} else {
		login, err = s.provider.DeviceLogin(ctx, func(d *oauth2.DeviceAuthResponse) error { return promptDevice(say, d) })
	}
	say.end()
	if err != nil {
		return err
	}
	if err := s.login.SetToken(ctx, login.Token); err != nil {
		return err
	}
	if err := remember(s.dir, s.known); err != nil {
		return fmt.Errorf("the login is saved, its settings are not: %w", err)
	}
	if err := s.clearOther(ctx); err != nil {
		return fmt.Errorf("logged in, but an older login is left: %w", err)
	}
	if jsonOutput {
		return printJSON(cmd, map[string]any{"base_url": s.BaseURL, "client_id": s.ClientID, "scopes": login.Scopes})
	}
	return printLine(cmd, "Logged in to %s%s.", s.BaseURL, who(ctx, s.provider.API(s.login)))
}

// who returns the user's name for a message, or "". The login is valid even without the
// name.
func who(ctx context.Context, api *shangcloud.API) string {
	user, err := api.UserInfo(ctx)
	if err != nil {
		return ""
	}
	return " as " + userName(user)
}

// prompter prints for a person while a login is under way. The program that opens the
// browser can run longer than the login. What it prints after the login is dropped.
type prompter struct {
	mu    sync.Mutex
	to    io.Writer
	ended bool
}

func (p *prompter) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return len(text), nil
	}
	return p.to.Write(text)
}

func (p *prompter) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// hasDisplay tells whether a browser can be opened where the user sits.
func hasDisplay() bool {
	switch runtime.GOOS {
	case "windows", "darwin":
		return os.Getenv("SSH_CONNECTION") == ""
	default:
		return os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "" || os.Getenv("WSL_DISTRO_NAME") != ""
	}
}

// openBrowser opens address in a browser. It also prints the address: perhaps no browser
// opens, or the user prefers another browser.
func openBrowser(say *prompter, address string) error {
	_, err := fmt.Fprintf(say, "Log in in the browser. If it does not open, open this address on this machine:\n\n  %s\n\nCtrl-C gives up.\n", address)
	if err != nil {
		return err
	}
	if err := browser.OpenURL(address); err != nil {
		_, _ = fmt.Fprintf(say, "No browser could be opened: %s.\n", oneLine(err.Error()))
	}
	return nil
}

// promptDevice shows where to enter the code.
func promptDevice(say *prompter, d *oauth2.DeviceAuthResponse) error {
	text := fmt.Sprintf("Open this page on any device:\n\n  %s\n\nand enter the code:\n\n  %s\n\n", oneLine(d.VerificationURI), oneLine(d.UserCode))
	if d.VerificationURIComplete != "" && isTerminal(say.to) {
		if qr, err := qrCode(d.VerificationURIComplete); err == nil { // too long for a code: the page is enough
			text += "Or scan this:\n\n" + qr + "\n"
		}
	}
	_, err := io.WriteString(say, text+"Waiting. Ctrl-C gives up.\n")
	return err
}
