package drivertest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Line has so many wait for one name, over all of conns, and checks that they
// are granted in order. It returns how long it took.
func Line(ctx context.Context, t *testing.T, conns []driver.Conn, waiters int) time.Duration {
	t.Helper()
	name := Fresh(t)
	first := &driver.Request{Name: name, Holder: "first", TTL: time.Minute}
	g, _, err := conns[0].Acquire(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	order := make(chan int, waiters)
	var wg sync.WaitGroup
	for i := range waiters {
		c := conns[i%len(conns)]
		r := &driver.Request{Name: name, Holder: fmt.Sprint("w", i), TTL: time.Minute, Queue: true}
		_, ticket, err := c.Acquire(ctx, r)
		if err != nil || ticket == nil || ticket.Position != i+1 {
			t.Fatalf("waiter %d: ticket %+v, %v", i, ticket, err)
		}
		r.Ticket = ticket
		wg.Go(func() {
			if err := pass(ctx, c, r, func() { order <- i }); err != nil {
				t.Errorf("waiter %d: %v", i, err)
			}
		})
	}
	if _, err := conns[0].Release(ctx, []driver.Ref{{Name: first.Name, Holder: first.Holder, Token: g.Token}}); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	took := time.Since(start)
	close(order)
	want := 0
	for i := range order {
		if i != want {
			t.Fatalf("grant %d went to waiter %d", want, i)
		}
		want++
	}
	if want != waiters {
		t.Fatalf("%d of %d were granted", want, waiters)
	}
	return took
}

// pass waits for a grant and releases it.
func pass(ctx context.Context, c driver.Conn, r *driver.Request, granted func()) error {
	var g *driver.Grant
	for g == nil {
		var err error
		if g, err = c.Wait(ctx, r, r.Ticket); err != nil {
			return err
		}
		if g == nil {
			if g, r.Ticket, err = c.Acquire(ctx, r); err != nil {
				return err
			}
		}
	}
	granted()
	out, err := c.Release(ctx, []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token}})
	if err == nil {
		err = out[0].Err
	}
	return err
}

// cancelled is which part of the names of UseNames are cancelled.
const cancelled = 100

// UseNames acquires and releases so many names; one in a hundred is cancelled
// instead. It returns how many were.
func UseNames(ctx context.Context, t *testing.T, c driver.Conn, names, clients int) int {
	t.Helper()
	work := make(chan int)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := range work {
				r := &driver.Request{Name: fmt.Sprint("left/", i), Holder: "h", TTL: time.Minute, Queue: true}
				if err := use(ctx, c, r, i%cancelled == 0); err != nil {
					t.Errorf("%s: %v", r.Name, err)
				}
			}
		})
	}
	start := time.Now()
	for i := range names {
		work <- i
	}
	close(work)
	wg.Wait()
	t.Logf("%d names took %v", names, time.Since(start).Round(time.Millisecond))
	return (names + cancelled - 1) / cancelled
}

func use(ctx context.Context, c driver.Conn, r *driver.Request, cancel bool) error {
	g, _, err := c.Acquire(ctx, r)
	switch {
	case err != nil:
		return err
	case cancel:
		return c.Cancel(ctx, r)
	}
	out, err := c.Release(ctx, []driver.Ref{{Name: r.Name, Holder: r.Holder, Token: g.Token}})
	if err == nil {
		err = out[0].Err
	}
	return err
}
