package queue_test

import (
	"context"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/queue"
)

// Keep what happened for a week, and let each service read it at its own pace.
func ExampleBroker_Stream() {
	ctx := context.Background()
	b, err := queue.Open(ctx, "mem://")
	if err != nil {
		panic(err)
	}
	defer b.Close()
	err = b.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{{
		Name: "events", Type: queue.Stream, Retention: queue.Retention{Age: 7 * 24 * time.Hour},
	}}})
	if err != nil {
		panic(err)
	}
	for _, event := range []string{"ordered", "paid", "shipped"} {
		if _, err := b.Publish(ctx, queue.Route{Key: "events"}, &queue.Message{Body: []byte(event)}); err != nil {
			panic(err)
		}
	}

	// The offset is saved under the name as messages are handled: a reader
	// that starts again with it goes on there.
	r, err := b.Stream("events", &queue.StreamOptions{From: queue.FromFirst, Consumer: "audit"})
	if err != nil {
		panic(err)
	}
	for m, err := range r.All(ctx) {
		if err != nil {
			panic(err)
		}
		fmt.Printf("%d %s\n", m.Offset, m.Message.Body)
		if m.Offset == 3 {
			break // which does not say that 3 was handled
		}
	}
	if err := r.Close(); err != nil {
		panic(err)
	}
	saved, err := b.Offsets(ctx, "events", "audit")
	if err != nil {
		panic(err)
	}
	fmt.Println("goes on at", saved[0].Offset)
	// Output:
	// 1 ordered
	// 2 paid
	// 3 shipped
	// goes on at 3
}
