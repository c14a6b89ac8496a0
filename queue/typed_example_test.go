package queue_test

import (
	"context"
	"fmt"
	"log"

	"github.com/lockkeeper/lockkeeper/queue"
)

// Values in, values out. What is not an order goes to the dead letters with
// the reason, without a retry.
func ExampleTyped() {
	type Order struct {
		ID    int    `json:"id"`
		Drink string `json:"drink"`
	}
	orders := queue.Typed[Order]{Type: "order.created"}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b, err := queue.Open(ctx, "mem://")
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	err = b.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{
		{Name: "orders", DeadLetter: &queue.Route{Key: "dead"}}, {Name: "dead"},
	}})
	if err != nil {
		log.Fatal(err)
	}

	if _, err := b.Publish(ctx, queue.Route{Key: "orders"}, &queue.Message{Body: []byte("two teas, please")}); err != nil {
		log.Fatal(err)
	}
	if _, err := orders.Publish(ctx, b, queue.Route{Key: "orders"}, Order{ID: 42, Drink: "tea"}); err != nil {
		log.Fatal(err)
	}
	err = orders.Serve(ctx, b, "orders", func(_ context.Context, o Order, _ *queue.Delivery) error {
		fmt.Println("order", o.ID, o.Drink)
		cancel() // enough for an example
		return nil
	}, nil)
	if err != nil {
		log.Fatal(err)
	}

	dead, err := b.Peek(context.Background(), "dead", 0, 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dead[0].Message.Headers[queue.HeaderDeathDetail])
	// Output:
	// order 42 tea
	// message cannot be decoded: it is of type "", want "order.created"
}
