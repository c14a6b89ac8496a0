package lock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	_ "github.com/lockkeeper/lockkeeper/engine" // mem:// and file://
	"github.com/lockkeeper/lockkeeper/lock"
)

func Example() {
	ctx := context.Background()
	locks, err := lock.Open(ctx, "mem://")
	if err != nil {
		log.Fatal(err)
	}
	defer locks.Close()

	err = locks.Do(ctx, "orders/4711", nil, func(ctx context.Context, l *lock.Lease) error {
		// Pass l.Token() on to the store, so that it refuses a holder that
		// was overtaken; stop when ctx ends.
		fmt.Println("holding", l.Name())
		return ctx.Err()
	})
	fmt.Println(err)
	// Output:
	// holding orders/4711
	// <nil>
}

func ExampleLocker_TryAcquire() {
	ctx := context.Background()
	locks, err := lock.Open(ctx, "mem://")
	if err != nil {
		log.Fatal(err)
	}
	defer locks.Close()

	held, err := locks.TryAcquire(ctx, "nightly-report", nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = locks.TryAcquire(ctx, "nightly-report", nil)
	fmt.Println("another runs it:", errors.Is(err, lock.ErrHeld))
	fmt.Println(held.Release(ctx))
	// Output:
	// another runs it: true
	// <nil>
}

func ExampleLocker_Acquire() {
	ctx := context.Background()
	locks, err := lock.Open(ctx, "mem://")
	if err != nil {
		log.Fatal(err)
	}
	defer locks.Close()

	// ctx bounds the wait for one of three permits, not the lease.
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	permit, err := locks.Acquire(wait, "printers", &lock.Options{
		Permits: 3,
		TTL:     30 * time.Second,
		Meta:    map[string]string{"job": "invoices"},
	})
	if err != nil {
		log.Fatal(err)
	}
	info, err := locks.Info(ctx, "printers")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(info.Grants), "of", info.Permits, "for", info.Grants[0].Meta["job"])
	fmt.Println(permit.Release(ctx))
	fmt.Println(context.Cause(permit.Context()))
	// Output:
	// 1 of 3 for invoices
	// <nil>
	// lease released
}
