package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/lockkeeper/lockkeeper/engine"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// A lock held when the engine is closed is held when it is opened again: by
// its holder, who takes it up with its token.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "lockkeeper")
	if err != nil {
		panic(err)
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			panic(err)
		}
	}()

	open := func() (*engine.Engine, *lock.Locker) {
		e, err := engine.Open(ctx, "file://"+dir, nil)
		if err != nil {
			panic(err)
		}
		return e, lock.New(e.Locks(), nil)
	}

	e, _ := open()
	// A process that dies releases nothing. Here it holds by the driver.
	grant, _, err := e.Locks().Acquire(ctx, &driver.Request{Name: "migration", Holder: "node-1", TTL: lock.DefaultTTL})
	if err != nil {
		panic(err)
	}
	e.Close()

	e, locks := open()
	defer e.Close()
	defer locks.Close()
	_, err = locks.TryAcquire(ctx, "migration", nil)
	fmt.Println("held by another:", errors.Is(err, lock.ErrHeld))
	le, err := locks.Acquire(ctx, "migration", &lock.Options{Holder: "node-1", Resume: true})
	if err != nil {
		panic(err)
	}
	fmt.Println("resumed with the same token:", le.Resumed(), le.Token() == grant.Token)
	// Output:
	// held by another: true
	// resumed with the same token: true true
}
