package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/queue"
)

// shopOf returns queues and locks of one store, with an order in it.
func shopOf(ctx context.Context) (*queue.Broker, *lock.Locker, *queue.Consumer) {
	const url = "mem://example-commit"
	b, err := queue.Open(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	locks, err := lock.Open(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	err = b.Declare(ctx, &queue.Topology{Queues: []queue.QueueSpec{{Name: "orders"}, {Name: "payments"}}})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := b.Publish(ctx, queue.Route{Key: "orders"}, &queue.Message{Body: []byte("order 42")}); err != nil {
		log.Fatal(err)
	}
	c, err := b.Consumer(ctx, "orders", nil)
	if err != nil {
		log.Fatal(err)
	}
	return b, locks, c
}

// A message is consumed, what follows from it is published, and the lock of
// the customer is released: in one step that cannot be done by half.
func ExampleBroker_Commit() {
	ctx := context.Background()
	b, locks, c := shopOf(ctx)
	defer b.Close()
	defer locks.Close()

	ds, err := c.Receive(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	customer, err := locks.Acquire(ctx, "customer/7", nil)
	if err != nil {
		log.Fatal(err)
	}
	txn := &queue.Txn{
		ID:      "order/42/pay",
		Settle:  queue.Acks(ds[0]),
		Publish: queue.To(queue.Route{Key: "payments"}, &queue.Message{Body: []byte("pay order 42")}),
		Release: []queue.Lock{customer},
		Result:  []byte("accepted"),
	}
	if _, err := b.Commit(ctx, txn); err != nil {
		log.Fatal(err)
	}
	fmt.Println("lock:", context.Cause(customer.Context()))

	// A repeat, after a crash or a lost answer, does nothing a second time.
	again, err := b.Commit(ctx, txn)
	if err != nil {
		log.Fatal(err)
	}
	payments, err := b.Stats(ctx, "payments")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("repeated: %v, result: %s, payments: %d\n", again.Repeated, again.Result, payments.Ready)
	// Output:
	// lock: lease released
	// repeated: true, result: accepted, payments: 1
}

// Whoever did the work last may have died before it said so: ask first.
func ExampleBroker_Result() {
	ctx := context.Background()
	b, err := queue.Open(ctx, "mem://")
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()

	work := func() string {
		done, err := b.Result(ctx, "report/2026-11")
		if err == nil {
			return "known: " + string(done.Result)
		}
		if !errors.Is(err, queue.ErrNotFound) {
			log.Fatal(err)
		}
		report := []byte("17 orders") // the work itself
		if _, err := b.Commit(ctx, &queue.Txn{ID: "report/2026-11", Result: report}); err != nil {
			log.Fatal(err)
		}
		return "made: " + string(report)
	}
	fmt.Println(work())
	fmt.Println(work())
	// Output:
	// made: 17 orders
	// known: 17 orders
}

// A commit can ask for a lock to be held without releasing it: whoever was
// overtaken changes nothing.
func ExampleTxn_require() {
	ctx := context.Background()
	b, locks, c := shopOf(ctx)
	defer b.Close()
	defer locks.Close()
	defer c.Close()

	leader, err := locks.Acquire(ctx, "leader", nil)
	if err != nil {
		log.Fatal(err)
	}
	tick := func() error {
		_, err := b.Commit(ctx, &queue.Txn{
			Require: []queue.Lock{leader},
			Publish: queue.To(queue.Route{Key: "payments"}, &queue.Message{Body: []byte("tick")}),
		})
		return err
	}
	fmt.Println("leading:", tick())
	if err := locks.Revoke(ctx, "leader", leader.Token(), &lock.RevokeOptions{Break: true}); err != nil {
		log.Fatal(err)
	}
	err = tick()
	var failed *queue.CommitError
	if errors.As(err, &failed) {
		fmt.Println("overtaken:", failed.Part, errors.Is(err, lock.ErrBroken))
	}
	// Output:
	// leading: <nil>
	// overtaken: require true
}
