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

func ExampleLocker_AcquireAll() {
	ctx := context.Background()
	locks, err := lock.Open(ctx, "mem://")
	if err != nil {
		log.Fatal(err)
	}
	defer locks.Close()

	// The order does not matter: a transfer the other way cannot get stuck.
	set, err := locks.AcquireAll(ctx, []string{"accounts/7", "accounts/3"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, le := range set.Leases() {
		fmt.Println(le.Name(), le.Token() > 0)
	}
	fmt.Println(set.Release(ctx))
	// Output:
	// accounts/3 true
	// accounts/7 true
	// <nil>
}

func ExampleLocker_Do_nested() {
	ctx := context.Background()
	locks, err := lock.Open(ctx, "mem://")
	if err != nil {
		log.Fatal(err)
	}
	defer locks.Close()

	// ctx of the function says that "outer" is held while "inner" is waited
	// for: if others wait the other way round, one gets ErrDeadlock.
	err = locks.Do(ctx, "outer", nil, func(ctx context.Context, _ *lock.Lease) error {
		return locks.Do(ctx, "inner", nil, func(context.Context, *lock.Lease) error {
			return nil
		})
	})
	var d *lock.DeadlockError
	if errors.As(err, &d) {
		for _, w := range d.Cycle {
			fmt.Printf("%s waits for %s\n", w.Owner, w.Name)
		}
	}
	fmt.Println(err)
	// Output: <nil>
}

func ExampleLocker_Campaign() {
	ctx := context.Background()
	locks, err := lock.Open(ctx, "mem://")
	if err != nil {
		log.Fatal(err)
	}
	defer locks.Close()

	leader, err := locks.Campaign(ctx, "scheduler", []byte("10.0.0.7:8080"), nil)
	if err != nil {
		log.Fatal(err)
	}
	for l, err := range locks.Observe(ctx, "scheduler") {
		if err != nil {
			log.Fatal(err)
		}
		if l.Vacant() {
			fmt.Println("nobody leads")
			break
		}
		fmt.Printf("the leader is at %s\n", l.Value)
		if err := leader.Release(ctx); err != nil { // it resigns
			log.Fatal(err)
		}
	}
	// Output:
	// the leader is at 10.0.0.7:8080
	// nobody leads
}

func ExampleLocker_Watch() {
	ctx := context.Background()
	locks, err := lock.Open(ctx, "mem://")
	if err != nil {
		log.Fatal(err)
	}
	defer locks.Close()

	held, err := locks.Acquire(ctx, "jobs/a", nil)
	if err != nil {
		log.Fatal(err)
	}
	for e, err := range locks.Watch(ctx, "jobs/") {
		if err != nil {
			log.Fatal(err)
		}
		switch e.Kind {
		case lock.EventReset: // forget what you know: all of it follows
		case lock.EventState:
			fmt.Println(e.Info.Name, "is held by", len(e.Info.Grants))
		case lock.EventSynced:
			fmt.Println("that is all for now")
			if err := held.Release(ctx); err != nil {
				log.Fatal(err)
			}
		case lock.EventGone:
			fmt.Println(e.Info.Name, "is free")
			return
		}
	}
	// Output:
	// jobs/a is held by 1
	// that is all for now
	// jobs/a is free
}
