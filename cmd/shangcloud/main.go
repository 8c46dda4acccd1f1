// Command shangcloud logs in to ShangCloud from a terminal, keeps the login, and works with
// it: who am I, cloud variables, game rooms, access tokens for scripts. "shangcloud dev" is the platform
// itself in one process, for developers of any language.
//
// README.md shows how to use it; "shangcloud help" lists the commands.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	return report(ctx, stderr, err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "shangcloud",
		Short: "Log in to ShangCloud, and work with the login",
		Long: `Log in to ShangCloud, and work with the login.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 log in again, 4 the platform is
unavailable, 130 interrupted.`,
		Args:          usage(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newLogin(), newLogout(), newStatus(), newToken(), newVar(), newRoom(), newWhoami(), newDev())
	return root
}

// usage makes a wrong number of arguments an error of usage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
