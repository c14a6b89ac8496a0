package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/lock"
)

func (a *app) observeCommand() *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use:     "observe KEY",
		GroupID: groupLocks,
		Short:   "Follow who leads an election",
		Long: `Print who holds KEY, with its value, and again each time that changes, until
interrupted: a line with the token, the holder and the value, or "vacant". A
leader that came and went in an instant can be left out. With lockkeeper lock
--value a command campaigns for KEY.`,
		Example: `  lockkeeper observe leader
  lockkeeper observe leader --count 1            # who leads now
  lockkeeper observe leader --json | jq .value`,
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeLock,
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 0 {
				return usageOf(cmd, errors.New("--count must not be negative"))
			}
			return a.observe(cmd.Context(), args[0], count)
		},
	}
	cmd.Flags().IntVar(&count, "count", 0, "end after so many lines; 0: never")
	return cmd
}

// leaderJSON is a line of `observe --json`.
type leaderJSON struct {
	Vacant bool       `json:"vacant"`
	Holder string     `json:"holder,omitempty"`
	Token  lock.Token `json:"token,omitempty"`
	Value  string     `json:"value"`
}

func (a *app) observe(ctx context.Context, key string, count int) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	locks, err := a.openLocks(ctx)
	if err != nil {
		return err
	}
	defer closing(&err, locks.Close)
	seen := 0
	for leader, err := range locks.Observe(ctx, key) {
		switch {
		case interrupted(ctx) != nil:
			return nil
		case err != nil:
			return err
		case a.json:
			err = a.printJSON(leaderJSON{leader.Vacant(), leader.Holder, leader.Token, string(leader.Value)})
		case leader.Vacant():
			_, err = fmt.Fprintln(a.Out, "vacant")
		default:
			_, err = fmt.Fprintf(a.Out, "%v %s %q\n", leader.Token, leader.Holder, leader.Value)
		}
		if seen++; err != nil || seen == count {
			return err
		}
	}
	return nil
}
