package queue_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/queue"
)

// Declare a small topology: what the shop publishes goes to the services that
// asked for it, everything to the audit, and what nobody asked for is kept.
func ExampleBroker_Declare() {
	ctx := context.Background()
	b, err := queue.Open(ctx, "mem://")
	if err != nil {
		panic(err)
	}
	defer b.Close()

	err = b.Declare(ctx, &queue.Topology{
		Exchanges: []queue.Exchange{
			{Name: "shop", Kind: queue.Topic, Alternate: "unrouted"},
			{Name: "audit", Kind: queue.Fanout},
			{Name: "unrouted", Kind: queue.Fanout},
		},
		Queues: []queue.QueueSpec{
			{Name: "payments", SingleActive: true},
			{Name: "log"},
			{Name: "lost"},
		},
		Bindings: []queue.Binding{
			{Exchange: "shop", Queue: "payments", Key: "order.*"},
			{Exchange: "shop", ToExchange: "audit", Key: "order.#"},
			{Exchange: "audit", Queue: "log"},
			{Exchange: "unrouted", Queue: "lost"},
		},
	})
	if err != nil {
		panic(err)
	}
	for _, key := range []string{"order.placed", "order.placed.twice", "refund"} {
		receipts, err := b.Publish(ctx, queue.Route{Exchange: "shop", Key: key}, &queue.Message{Body: []byte(key)})
		if err != nil {
			panic(err)
		}
		fmt.Println(key, "went to", receipts[0].Queues)
	}
	err = b.Delete(ctx, &queue.DeleteRequest{Exchange: "unrouted"})
	fmt.Println("the alternate is needed:", errors.Is(err, queue.ErrInUse))
	// Output:
	// order.placed went to 2
	// order.placed.twice went to 1
	// refund went to 1
	// the alternate is needed: true
}
