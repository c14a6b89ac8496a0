package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/internal/cli/topofile"
	"github.com/lockkeeper/lockkeeper/internal/cron"
	"github.com/lockkeeper/lockkeeper/queue"
)

func (a *app) applyCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:     "apply FILE.yaml",
		GroupID: groupQueues,
		Short:   "Declare exchanges, queues, bindings and schedules from a file",
		Long: `Declare exchanges, queues and bindings from a file, or from standard input
with -. All of it is made, or nothing. What exists already and is equal stays
as it is, so it can be applied again and again; what exists and differs is an
error. Nothing is ever deleted: see lockkeeper delete.

Schedules are checked before anything is made, and put when the rest is there,
one after the other. One that exists and differs is replaced.

A file with every field:

` + indent(topofile.Example),
		Example: `  lockkeeper apply shop.yaml
  lockkeeper apply --dry-run shop.yaml      # + is what would be made
  generate-topology | lockkeeper apply -`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := a.readTopology(args[0])
			if err != nil {
				return &failure{status: StatusUsage, err: fmt.Errorf("%s: %w", args[0], err)}
			}
			return a.withQueues(cmd.Context(), func(ctx context.Context, queues *queue.Broker) error {
				return a.apply(ctx, queues, f, dryRun)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show the difference and change nothing")
	return cmd
}

func (a *app) readTopology(name string) (*topofile.File, error) {
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

// apply makes what a file says, or shows what that would change.
func (a *app) apply(ctx context.Context, queues *queue.Broker, f *topofile.File, dryRun bool) error {
	do, verb := queues.Apply, "made"
	if dryRun {
		do, verb = queues.Diff, "to make"
	}
	schedules, err := scheduleChanges(ctx, queues, f.Schedules)
	if err != nil {
		return err
	}
	t := f.Topology
	var changes []queue.Change
	total := len(t.Exchanges) + len(t.Queues) + len(t.Bindings)
	if total > 0 {
		if changes, err = do(ctx, t); err != nil {
			return err
		}
	}
	for _, c := range changes {
		if err := a.printChange(c, dryRun); err != nil {
			return err
		}
	}
	for _, c := range schedules {
		if !dryRun {
			if err := queues.PutSchedule(ctx, c.put); err != nil {
				return err
			}
		}
		if err := a.printChange(c.Change, dryRun); err != nil {
			return err
		}
	}
	if a.json {
		return nil
	}
	n := len(changes) + len(schedules)
	_, err = fmt.Fprintf(a.Out, "%d %s, %d there already\n", n, verb, max(0, total+len(f.Schedules)-n))
	return err
}

func (a *app) printChange(c queue.Change, dryRun bool) error {
	if a.json {
		return a.printJSON(changeJSON{c.Action, c.What, c.Name, dryRun})
	}
	sign := "+"
	if c.Action == replaces {
		sign = "~"
	}
	_, err := fmt.Fprintf(a.Out, "%s %s %s\n", sign, c.What, c.Name)
	return err
}

// Actions of changes of schedules.
const (
	creates  = "create"
	replaces = "replace"
)

// scheduleChange is a schedule that is to be put.
type scheduleChange struct {
	queue.Change
	put *queue.Schedule
}

// scheduleChanges checks schedules, and returns those that are not there as
// they should be.
func scheduleChanges(ctx context.Context, queues *queue.Broker, all []*queue.Schedule) ([]scheduleChange, error) {
	var changes []scheduleChange
	names := map[string]bool{}
	for i, s := range all {
		err := s.Validate()
		if err == nil {
			_, err = cron.Compile(s.Cron, s.TimeZone)
		}
		if err == nil && names[s.Name] {
			err = errors.New("is there twice")
		}
		if err != nil {
			return nil, fmt.Errorf("schedules[%d] %s: %w", i, s.Name, err)
		}
		names[s.Name] = true
		c := scheduleChange{queue.Change{Action: creates, What: "schedule", Name: s.Name}, s}
		switch there, err := queues.Schedule(ctx, s.Name); {
		case errors.Is(err, queue.ErrNotFound):
		case err != nil:
			return nil, err
		case sameSchedule(&there.Schedule, s):
			continue
		default:
			c.Action = replaces
		}
		changes = append(changes, c)
	}
	return changes, nil
}

func sameSchedule(a, b *queue.Schedule) bool {
	x, y := *a.Message, *b.Message
	if !bytes.Equal(x.Body, y.Body) || len(x.Headers)+len(y.Headers) > 0 && !reflect.DeepEqual(x.Headers, y.Headers) {
		return false
	}
	x.Body, y.Body, x.Headers, y.Headers = nil, nil, nil, nil
	return reflect.DeepEqual(x, y) && a.Cron == b.Cron && a.TimeZone == b.TimeZone && a.Route == b.Route &&
		a.Missed == b.Missed && a.Paused == b.Paused
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ")
}
