package queue_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	_ "github.com/lockkeeper/lockkeeper/engine" // mem:// and file://
	"github.com/lockkeeper/lockkeeper/queue"
)

// Handle each message of a queue until ctx ends.
func ExampleBroker_Serve() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	b, err := queue.Open(ctx, "mem://")
	if err != nil {
		panic(err)
	}
	defer b.Close()
	if err := b.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{{Name: "orders"}}}); err != nil {
		panic(err)
	}

	// Publish returns when the messages are as safe as the receipts say. A
	// key keeps the order of one customer, while others' messages go on.
	receipts, err := b.Publish(ctx, queue.Route{Key: "orders"},
		&queue.Message{OrderKey: "ann", Body: []byte("ann buys tea")},
		&queue.Message{OrderKey: "ann", Body: []byte("ann buys milk")},
	)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(receipts), "messages, safe in", receipts[0].Durability)

	handled := 0
	err = b.Serve(ctx, "orders", func(_ context.Context, d *queue.Delivery) error {
		fmt.Printf("attempt %d: %s\n", d.Attempt, d.Message.Body)
		if handled++; handled == 2 {
			stop() // let Serve drain and return
		}
		return nil // acks; an error would make another attempt
	}, nil)
	if err != nil {
		panic(err)
	}
	// Output:
	// 2 messages, safe in memory
	// attempt 1: ann buys tea
	// attempt 1: ann buys milk
}

// Publish many messages without waiting for each.
func ExamplePublisher() {
	ctx := context.Background()
	b, err := queue.Open(ctx, "mem://")
	if err != nil {
		panic(err)
	}
	defer b.Close()
	if err := b.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{{Name: "events"}}}); err != nil {
		panic(err)
	}

	p := b.Publisher(nil)
	var last *queue.Pending
	for i := range 1000 {
		// Send waits only while the window is full.
		last, err = p.Send(ctx, queue.Route{Key: "events"}, &queue.Message{Body: fmt.Appendf(nil, "event %d", i)})
		if err != nil {
			panic(err)
		}
	}
	receipt, err := last.Receipt(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println("the last one is in", receipt.Queues, "queue")
	if err := p.Close(); err != nil { // the first failure of any, after all are decided
		panic(err)
	}
	st, err := b.Stats(ctx, "events")
	if err != nil {
		panic(err)
	}
	fmt.Println(st.Ready, "are ready")
	// Output:
	// the last one is in 1 queue
	// 1000 are ready
}

// Receive in batches and settle by hand.
func ExampleConsumer() {
	ctx := context.Background()
	b, err := queue.Open(ctx, "mem://")
	if err != nil {
		panic(err)
	}
	defer b.Close()
	if err := b.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{{Name: "mails"}}}); err != nil {
		panic(err)
	}
	if _, err := b.Publish(ctx, queue.Route{Key: "mails"},
		&queue.Message{Body: []byte("to ann")},
		&queue.Message{Body: []byte("to bob")},
		&queue.Message{Body: []byte("to cat")},
	); err != nil {
		panic(err)
	}

	c, err := b.Consumer(ctx, "mails", nil)
	if err != nil {
		panic(err)
	}
	ds, err := c.Receive(ctx, 2) // up to 2, at least 1
	if err != nil {
		panic(err)
	}
	for _, d := range ds {
		// Before a write that must not happen twice: is it still ours? The
		// token tells the same to a database.
		if err := d.Check(); err != nil {
			panic(err)
		}
		fmt.Printf("%s, fenced: %v\n", d.Message.Body, d.Token() > 0)
		if err := d.Ack(ctx); err != nil {
			panic(err)
		}
	}
	if err := c.Close(); err != nil { // hands back what was not received
		panic(err)
	}
	st, err := b.Stats(ctx, "mails")
	if err != nil {
		panic(err)
	}
	fmt.Println(st.Ready, "left for others")
	// Output:
	// to ann, fenced: true
	// to bob, fenced: true
	// 1 left for others
}

// A message that fails too often goes to a dead letter queue, with its story
// in the headers; when the cause is mended it is driven back.
func ExampleBroker_Redrive() {
	ctx := context.Background()
	b, err := queue.Open(ctx, "mem://")
	if err != nil {
		panic(err)
	}
	defer b.Close()
	err = b.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{
		{Name: "dead"},
		{
			Name:          "payments",
			DeadLetter:    &queue.Route{Key: "dead"},
			DeliveryLimit: 2,
			Backoff:       queue.Backoff{Min: 10 * time.Millisecond, Max: time.Second},
		},
	}})
	if err != nil {
		panic(err)
	}
	_, err = b.Publish(ctx, queue.Route{Key: "payments"},
		&queue.Message{Body: []byte("pay 10"), Delay: 20 * time.Millisecond})
	if err != nil {
		panic(err)
	}

	// serve handles messages of a queue until h says that it has enough.
	errEnough := errors.New("enough")
	serve := func(name string, h func(*queue.Delivery) error) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		err := b.Serve(ctx, name, func(_ context.Context, d *queue.Delivery) error {
			err := h(d)
			if errors.Is(err, errEnough) {
				stop()
				return nil
			}
			return err
		}, nil)
		if err != nil {
			panic(err)
		}
	}

	serve("payments", func(d *queue.Delivery) error {
		fmt.Printf("%s: attempt %d fails\n", d.Message.Body, d.Attempt)
		if d.Attempt == 1 {
			return errors.New("bank is closed") // again after the backoff
		}
		// The last attempt that there may be: it goes to the dead letters.
		if err := d.Settle(ctx, queue.NackVerdict(0, "bank is closed")); err != nil {
			return err
		}
		return errEnough
	})

	dead, err := b.Peek(ctx, "dead", 0, 10)
	if err != nil {
		panic(err)
	}
	for _, m := range dead {
		h := m.Message.Headers
		fmt.Println("dead:", h[queue.HeaderDeathReason], "-", h[queue.HeaderDeathDetail], "- from", h[queue.HeaderDeathQueue])
	}

	moved, err := b.Redrive(ctx, &queue.RedriveRequest{Queue: "dead"})
	if err != nil {
		panic(err)
	}
	fmt.Println("driven back:", moved)
	serve("payments", func(d *queue.Delivery) error {
		fmt.Printf("%s: attempt %d succeeds\n", d.Message.Body, d.Attempt)
		return errEnough
	})
	// Output:
	// pay 10: attempt 1 fails
	// pay 10: attempt 2 fails
	// dead: delivery_limit - bank is closed - from payments
	// driven back: 1
	// pay 10: attempt 1 succeeds
}
