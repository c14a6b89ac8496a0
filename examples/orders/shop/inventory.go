package shop

import (
	"context"
	"time"

	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/queue"
)

// LockTTL is for how long a stock row stays locked after its holder died.
const LockTTL = 2 * time.Second

// Inventory takes what was paid for out of stock.
type Inventory struct {
	Queues *queue.Broker
	Locks  *lock.Locker
	DB     Database
}

// Serve handles paid orders until ctx ends.
func (s *Inventory) Serve(ctx context.Context) error {
	return s.Queues.Serve(ctx, inventoryQueue, s.ship, &queue.ServeOptions{Concurrency: 4})
}

func (s *Inventory) ship(ctx context.Context, d *queue.Delivery) error {
	o, err := order(d)
	if err != nil {
		return err
	}
	event := ""
	err = s.Locks.Do(ctx, "stock/"+o.Item, &lock.Options{TTL: LockTTL}, func(ctx context.Context, l *lock.Lease) error {
		event, err = s.take(ctx, o, l.Token())
		return err
	})
	if err != nil {
		return err
	}
	return publish(ctx, s.Queues, event, o)
}

// take changes the row of an item. Nobody else does at the same time: the
// lock sees to it. If this process is paused here until the lock has gone to
// another, the token sees to it: Update refuses one that is smaller than one
// it has seen.
func (s *Inventory) take(ctx context.Context, o *Order, token lock.Token) (event string, err error) {
	row, err := s.DB.Row(ctx, o.Item)
	if err != nil {
		return "", err
	}
	if event, done := row.Outcome[o.ID]; done {
		return event, nil // an earlier attempt got as far as this
	}
	event = Refused
	if row.Stock >= o.Quantity {
		event = Shipped
		row.Stock -= o.Quantity
	}
	row.Outcome[o.ID] = event
	return event, s.DB.Update(ctx, o.Item, token, row)
}
