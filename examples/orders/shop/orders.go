package shop

import (
	"context"

	"github.com/lockkeeper/lockkeeper/queue"
)

// Orders takes orders from customers and learns what became of them.
type Orders struct {
	Queues *queue.Broker
	DB     Database
}

// Place takes an order. When it returns nil the order is durable and will be
// worked on. After an error the customer asks again with the same order: if
// it was taken after all, nothing happens twice.
func (s *Orders) Place(ctx context.Context, o *Order) error {
	return publish(ctx, s.Queues, Placed, o)
}

// Serve handles what comes back about orders until ctx ends.
func (s *Orders) Serve(ctx context.Context) error {
	return s.Queues.Serve(ctx, ordersQueue, s.finish, &queue.ServeOptions{Concurrency: 4})
}

func (s *Orders) finish(ctx context.Context, d *queue.Delivery) error {
	o, err := order(d)
	if err != nil {
		return err
	}
	// The routing key says what happened.
	return s.DB.Finish(ctx, o.ID, d.Route.Key)
}
