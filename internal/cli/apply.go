package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/internal/cli/topofile"
	"github.com/lockkeeper/lockkeeper/queue"
)

func (a *app) applyCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:     "apply FILE.yaml",
		GroupID: groupQueues,
		Short:   "Declare exchanges, queues and bindings from a file",
		Long: `Declare exchanges, queues and bindings from a file, or from standard input
with -. All of it is made, or nothing. What exists already and is equal stays
as it is, so it can be applied again and again; what exists and differs is an
error. Nothing is ever deleted: see lockkeeper delete.

A file with every field:

` + indent(topofile.Example),
		Example: `  lockkeeper apply shop.yaml
  lockkeeper apply --dry-run shop.yaml      # + is what would be made
  generate-topology | lockkeeper apply -`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.readTopology(args[0])
			if err != nil {
				return &failure{status: StatusUsage, err: fmt.Errorf("%s: %w", args[0], err)}
			}
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				return a.apply(ctx, queues, t, dryRun)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show the difference and change nothing")
	return cmd
}

func (a *app) readTopology(name string) (*queue.Topology, error) {
	in := a.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("cannot be read: %w", err)
		}
		defer f.Close() //nolint:errcheck // it was only read
		in = f
	}
	return topofile.Parse(in)
}

// changeJSON is a line of `apply --json`.
type changeJSON struct {
	Action string `json:"action"`
	What   string `json:"what"`
	Name   string `json:"name"`
	DryRun bool   `json:"dry_run"`
}

// apply declares t, or shows what that would change.
func (a *app) apply(ctx context.Context, queues *queue.Broker, t *queue.Topology, dryRun bool) error {
	do, verb := queues.Apply, "made"
	if dryRun {
		do, verb = queues.Diff, "to make"
	}
	changes, err := do(ctx, t)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if a.json {
			if err := a.printJSON(changeJSON{c.Action, c.What, c.Name, dryRun}); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(a.Out, "+ %s %s\n", c.What, c.Name); err != nil {
			return err
		}
	}
	if a.json {
		return nil
	}
	total := len(t.Exchanges) + len(t.Queues) + len(t.Bindings)
	_, err = fmt.Fprintf(a.Out, "%d %s, %d there already\n", len(changes), verb, max(0, total-len(changes)))
	return err
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ")
}
