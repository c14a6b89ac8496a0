package shop

import (
	"context"

	"github.com/lockkeeper/lockkeeper/queue"
)

// Payment charges customers.
type Payment struct {
	Queues *queue.Broker
	DB     Database
}

// Serve handles placed orders until ctx ends.
func (s *Payment) Serve(ctx context.Context) error {
	return s.Queues.Serve(ctx, paymentQueue, s.charge, &queue.ServeOptions{Concurrency: 4})
}

// charge may run again for an order, at any point of a run before. Charging
// is remembered by the order's id, and so is publishing.
func (s *Payment) charge(ctx context.Context, d *queue.Delivery) error {
	o, err := order(d)
	if err != nil {
		return err
	}
	if err := s.DB.Charge(ctx, o.ID, o.Cents); err != nil {
		return err
	}
	return publish(ctx, s.Queues, Paid, o)
}
