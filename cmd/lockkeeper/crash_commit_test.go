package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/queue"
)

// chainQueues are the stages of an order: each worker takes it from one and
// hands it to the next in one commit. Only the first drops duplicates: those
// that a handover made would be seen.
var chainQueues = []string{"orders", "payments", "inventory"}

func chainTopology() []queue.QueueSpec {
	specs := make([]queue.QueueSpec, len(chainQueues))
	for i, name := range chainQueues {
		specs[i] = queue.QueueSpec{Name: name, Lease: 2 * time.Second, Backoff: queue.Backoff{Min: time.Millisecond, Max: time.Millisecond}}
	}
	specs[0].DedupWindow = time.Hour
	return specs
}

// chain knows which orders were placed, and which messages about each of them
// came out at the end.
type chain struct {
	queues *queue.Broker
	locks  *lock.Locker

	mu       sync.Mutex
	placed   []string
	arrived  map[string]map[uint64]bool // sequence numbers, by order
	repeated int
	wrong    []string
}

func (c *chain) found(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// place places orders until ctx ends, each until it is confirmed.
func (c *chain) place(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprint("o", n)
		for {
			_, err := c.queues.Publish(context.WithoutCancel(ctx), queue.Route{Key: chainQueues[0]}, &queue.Message{ID: id, Body: []byte(id)})
			if err == nil {
				break
			}
			if !errors.Is(err, queue.ErrUnknown) && !errors.Is(err, queue.ErrUnavailable) {
				c.found("place: %v", err)
				return
			}
		}
		c.mu.Lock()
		c.placed = append(c.placed, id)
		c.mu.Unlock()
	}
}

// work is a worker of one stage.
func (c *chain) work(ctx context.Context, stage int) {
	err := c.queues.Serve(ctx, chainQueues[stage], func(ctx context.Context, d *queue.Delivery) error {
		return c.handOver(ctx, stage, d)
	}, &queue.ServeOptions{Concurrency: 4, DrainTimeout: time.Second})
	if err != nil {
		c.found("serve %s: %v", chainQueues[stage], err)
	}
}

// handOver handles one delivery. Some of the work is done under a lock.
func (c *chain) handOver(ctx context.Context, stage int, d *queue.Delivery) error {
	id := string(d.Message.Body)
	txn := &queue.Txn{ID: chainQueues[stage] + "/" + id, Settle: queue.Acks(d), Result: []byte(id), ResultFor: time.Hour}
	if stage+1 < len(chainQueues) {
		txn.Publish = queue.To(queue.Route{Key: chainQueues[stage+1]}, &queue.Message{Body: d.Message.Body})
	} else {
		c.mu.Lock()
		if c.arrived[id] == nil {
			c.arrived[id] = make(map[uint64]bool)
		}
		c.arrived[id][d.Seq()] = true
		c.mu.Unlock()
	}
	if stage == 1 && id[len(id)-1] == '7' {
		held, err := c.locks.Acquire(ctx, "row/"+id, &lock.Options{TTL: crashTTL})
		if err != nil {
			return err
		}
		defer func() { _ = held.Release(ctx) }() // nothing to do after a commit
		txn.Release = []queue.Lock{held}
	}
	r, err := c.queues.Commit(ctx, txn)
	switch {
	case errors.Is(err, queue.ErrConflict):
		c.found("commit of %s: %v", txn.ID, err)
	case err == nil && string(r.Result) != id:
		c.found("commit of %s: result %q", txn.ID, r.Result)
	case err == nil && r.Repeated:
		c.mu.Lock()
		c.repeated++
		c.mu.Unlock()
	}
	return err
}

// done reports whether every order that was placed has gone the whole way.
func (c *chain) done(ctx context.Context) bool {
	for _, name := range chainQueues {
		s, err := c.queues.Stats(ctx, name)
		if err != nil || s.Ready+s.Delayed+s.InFlight > 0 {
			return false
		}
	}
	return true
}

// check counts what must not have happened.
func (c *chain) check(t *testing.T) {
	t.Helper()
	t.Logf("%d orders went through %d commits each; %d were repeated", len(c.placed), len(chainQueues), c.repeated)
	for _, id := range c.placed {
		if n := len(c.arrived[id]); n != 1 {
			t.Errorf("order %s arrived as %d messages", id, n)
		}
		r, err := c.queues.Result(t.Context(), "inventory/"+id)
		if err != nil || string(r.Result) != id {
			t.Errorf("the result of order %s: %+v, %v", id, r, err)
		}
	}
	for _, w := range c.wrong {
		t.Error(w)
	}
	if len(c.placed) < crashes/2 {
		t.Error("too few orders to show anything")
	}
}
