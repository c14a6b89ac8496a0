package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper/examples/orders/shop"
	"github.com/lockkeeper/lockkeeper/lease"
)

// reopenPause is between two attempts of a service to reach a daemon that was
// killed before the service started.
const reopenPause = 50 * time.Millisecond

// demoWorkerCommand is what the demo starts for each service.
func (a *app) demoWorkerCommand() *cobra.Command {
	var database string
	cmd := &cobra.Command{
		Use:    "worker payment|inventory|orders",
		Hidden: true,
		Args:   arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.demoWorker(ctx, args[0], &remoteDatabase{url: database})
		},
	}
	cmd.Flags().StringVar(&database, "database", "", "URL of the demo's database")
	return cmd
}

func (a *app) demoWorker(ctx context.Context, role string, db shop.Database) (err error) {
	queues, err := untilThere(ctx, a.openQueues)
	if err != nil {
		return err
	}
	defer closing(&err, queues.Close)
	locks, err := untilThere(ctx, a.openLocks)
	if err != nil {
		return err
	}
	defer closing(&err, locks.Close)
	switch role {
	case "payment":
		return (&shop.Payment{Queues: queues, DB: db}).Serve(ctx)
	case "inventory":
		return (&shop.Inventory{Queues: queues, Locks: locks, DB: db}).Serve(ctx)
	case "orders":
		return (&shop.Orders{Queues: queues, DB: db}).Serve(ctx)
	}
	return fmt.Errorf("there is no service %q", role)
}

// untilThere opens again while the daemon is away.
func untilThere[T any](ctx context.Context, open func(context.Context) (T, error)) (T, error) {
	for {
		v, err := open(ctx)
		if !errors.Is(err, lease.ErrUnavailable) && !errors.Is(err, lease.ErrUnknown) {
			return v, err
		}
		select {
		case <-time.After(reopenPause):
		case <-ctx.Done():
			return v, err
		}
	}
}
