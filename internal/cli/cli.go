// Package cli is the command line of lockkeeper: one file a command, with what
// they share in streams.go, connect.go, failure.go and table.go. Package main
// only calls Run.
//
// Commands write results to standard output and everything else to standard
// error. With --json results are JSON, one object a line, tokens as strings
// and durations as integers in fields that end in _ms, as on the wire.
//
// Exit statuses are part of the interface: see failure.go.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// DefaultURL is the daemon that `lockkeeper serve` starts.
const DefaultURL = "http://127.0.0.1:7420"

// envURL names the environment variable that --url overrides.
const envURL = "LOCKKEEPER_URL"

// app is what all commands share.
type app struct {
	Streams
	url  string
	json bool
}

// Run carries out one command line, without the program's name, and returns
// its exit status.
func Run(args []string, s Streams) int {
	a := &app{Streams: s}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	return a.report(root.ExecuteContext(context.Background()))
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "lockkeeper",
		Short: "Locks that are safe and queues that lose nothing",
		Long: `Locks that are safe and queues that lose nothing, from one command.

Start a durable server for both, with no other software:

  lockkeeper serve

Then, in another terminal:

  lockkeeper lock nightly-report -- ./report.sh    # only one at a time, anywhere
  lockkeeper declare queue mail
  lockkeeper publish "" mail 'hello'               # "" is the default exchange
  lockkeeper consume mail --count 1

The other commands act on the server at --url. Where that makes sense without
a server they take file://DIR too, which one process at a time can open.

Exit statuses: 0 success, 1 failure, 2 wrong usage, 69 lock not granted in
time, 75 lock lost while the command ran; 'lockkeeper lock' otherwise exits
with the status of its command.`,
		SilenceErrors: true,
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,

		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	url := os.Getenv(envURL)
	if url == "" {
		url = DefaultURL
	}
	root.PersistentFlags().StringVar(&a.url, "url", url, "server or store to act on; also from "+envURL)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print results as JSON, one object a line")
	root.SetFlagErrorFunc(usageOf)
	root.AddGroup(
		&cobra.Group{ID: groupLocks, Title: "Locks:"},
		&cobra.Group{ID: groupQueues, Title: "Queues:"},
		&cobra.Group{ID: groupServer, Title: "Server and tools:"},
	)
	root.SetHelpCommandGroupID(groupServer)
	root.SetCompletionCommandGroupID(groupServer)
	root.AddCommand(
		a.lockCommand(), a.locksCommand(), a.observeCommand(), a.revokeCommand(),
		a.applyCommand(), a.queuesCommand(), a.declareCommand(), a.publishCommand(), a.consumeCommand(), a.streamCommand(), a.scheduleCommand(),
		a.peekCommand(), a.cancelCommand(), a.purgeCommand(), a.redriveCommand(), a.deleteCommand(),
		a.serveCommand(), a.topCommand(), a.benchCommand(), a.doctorCommand(), a.demoCommand(), a.versionCommand(),
	)
	return root
}

const (
	groupLocks  = "locks"
	groupQueues = "queues"
	groupServer = "server"
)

func unknownCommand(cmd *cobra.Command, name string) error {
	text := fmt.Sprintf("unknown command %q", name)
	if like := cmd.SuggestionsFor(name); len(like) > 0 {
		text += "; did you mean " + strings.Join(like, " or ") + "?"
	}
	return usageOf(cmd, errors.New(text))
}

// group makes a command that only has subcommands.
func group(cmd *cobra.Command, sub ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageOf(cmd, errors.New("which one? say one of the commands below"))
		}
		return unknownCommand(cmd, args[0])
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(sub...)
	return cmd
}

// arguments checks the number of arguments and says which they are.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usageOf(cmd, fmt.Errorf("has %d arguments, needs %d", len(args), least))
		case len(args) > most:
			return usageOf(cmd, fmt.Errorf("does not know what to do with %q: put arguments with spaces in quotes", args[most]))
		}
		return nil
	}
}

// interruptible returns a context that ends, with an *interruption as its
// cause, when the user or the system asks the program to end. After the first
// such signal the next one ends the program at once, unless the caller
// catches it.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case s := <-signals:
			signal.Stop(signals)
			cancel(&interruption{signal: s})
		case <-ctx.Done():
			signal.Stop(signals)
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}
