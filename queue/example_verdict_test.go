package queue_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/queue"
)

var (
	errBusy       = errors.New("mailbox is busy")
	errNoSuchUser = errors.New("no such user")
)

// What a handler returns decides what becomes of the message.
func ExampleHandler() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	b, err := queue.Open(ctx, "mem://")
	if err != nil {
		panic(err)
	}
	defer b.Close()
	err = b.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{
		{Name: "mails", DeadLetter: &queue.Route{Key: "mails.dead"}},
		{Name: "mails.dead"},
	}})
	if err != nil {
		panic(err)
	}
	// One key for both: the second waits until the first is done.
	_, err = b.Publish(ctx, queue.Route{Key: "mails"},
		&queue.Message{OrderKey: "all", Body: []byte("to nobody")},
		&queue.Message{OrderKey: "all", Body: []byte("to ann")},
	)
	if err != nil {
		panic(err)
	}

	sends := 0
	send := func(_ context.Context, m *queue.Message) error {
		sends++
		switch {
		case string(m.Body) == "to nobody":
			return errNoSuchUser
		case sends == 2:
			return errBusy
		}
		fmt.Printf("%s: sent\n", m.Body)
		stop() // enough for an example
		return nil
	}
	err = b.Serve(ctx, "mails", func(ctx context.Context, d *queue.Delivery) error {
		err := send(ctx, d.Message) // ctx ends if the lease is lost
		switch {
		case errors.Is(err, errBusy):
			return queue.RetryAfter(20*time.Millisecond, err) // instead of the backoff
		case errors.Is(err, errNoSuchUser):
			return queue.Reject(err) // to the dead letters at once
		}
		return err // nil acks; an error, or a panic, is a failed attempt
	}, &queue.ServeOptions{Concurrency: 4})
	if err != nil {
		panic(err)
	}
	dead, err := b.Peek(context.Background(), "mails.dead", 0, 10)
	if err != nil {
		panic(err)
	}
	for _, m := range dead {
		fmt.Printf("%s: %v\n", m.Message.Body, m.Message.Headers[queue.HeaderDeathDetail])
	}
	// Output:
	// to ann: sent
	// to nobody: no such user
}
