package queue_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/queue"
)

// A queue for answers that nobody else can take, and that goes with its owner.
func ExampleBroker_Declare_exclusive() {
	ctx := context.Background()
	mine, err := queue.Open(ctx, "mem://example-exclusive")
	if err != nil {
		panic(err)
	}
	defer mine.Close() // and the queue is gone
	other, err := queue.Open(ctx, "mem://example-exclusive")
	if err != nil {
		panic(err)
	}
	defer other.Close()

	err = mine.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{{Name: "replies.7", Exclusive: true}}})
	if err != nil {
		panic(err)
	}
	// Everybody may publish to it.
	if _, err := other.Publish(ctx, queue.Route{Key: "replies.7"}, &queue.Message{Body: []byte("done")}); err != nil {
		panic(err)
	}
	_, err = other.Purge(ctx, "replies.7")
	fmt.Println("refused to others:", errors.Is(err, queue.ErrExclusive))
	st, err := mine.Stats(ctx, "replies.7")
	if err != nil {
		panic(err)
	}
	fmt.Println("ready:", st.Ready)
	// Output:
	// refused to others: true
	// ready: 1
}
