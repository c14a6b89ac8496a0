// Package allocs counts what a driver allocates for a lock and for a message,
// so that a test fails when it becomes more.
//
// All allocations of the process count while a call is under way: those of the
// goroutines behind it too, and of a server in the same process. So no other
// test may run at the same time, and a store should be in memory.
package allocs

import (
	"fmt"
	"testing"
	"time"

	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

const (
	runs  = 100
	batch = 100 // messages in one call
	body  = 256 // bytes
	ttl   = time.Hour
)

// Bounds are how many allocations there may be at most. Those of a call are
// for a lone caller, whole numbers; those of a batch are for one message of it.
type Bounds struct {
	Acquire, Release, Publish               float64
	PublishBatch, ReceiveBatch, SettleBatch float64
}

// Check fails the test if more is allocated; the log says how much is.
func Check(t *testing.T, locks lockdriver.Conn, queues queuedriver.Conn, b Bounds) {
	t.Helper()
	checkLocks(t, locks, b)
	checkQueues(t, queues, b)
}

// count has op made again and again, each time for so many things.
func count(t *testing.T, what string, per int, bound float64, op func(i int) error) {
	t.Helper()
	i := -1
	var failed error
	got := testing.AllocsPerRun(runs, func() {
		if i++; failed == nil {
			failed = op(i)
		}
	}) / float64(per)
	if failed != nil {
		t.Fatalf("%s: %v", what, failed)
	}
	bound *= raceFactor
	t.Logf("%s: %.2f allocations, at most %.2f", what, got, bound)
	if got > bound {
		t.Errorf("%s: %.2f allocations, at most %.2f", what, got, bound)
	}
}

func checkLocks(t *testing.T, c lockdriver.Conn, b Bounds) {
	t.Helper()
	requests := make([]*lockdriver.Request, runs+1) // AllocsPerRun warms up with one more
	refs := make([][]lockdriver.Ref, len(requests))
	for i := range requests {
		requests[i] = &lockdriver.Request{Name: fmt.Sprint("n", i), Holder: "h", TTL: ttl}
		refs[i] = []lockdriver.Ref{{Name: requests[i].Name, Holder: "h"}}
	}
	count(t, "acquire", 1, b.Acquire, func(i int) error {
		g, _, err := c.Acquire(t.Context(), requests[i])
		if err == nil {
			refs[i][0].Token = g.Token
		}
		return err
	})
	count(t, "release", 1, b.Release, func(i int) error {
		outs, err := c.Release(t.Context(), refs[i])
		if err == nil {
			err = outs[0].Err
		}
		return err
	})
}

func checkQueues(t *testing.T, c queuedriver.Conn, b Bounds) {
	t.Helper()
	topology := &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "many"}, {Name: "one"}}}
	if _, err := c.Declare(t.Context(), topology, false); err != nil {
		t.Fatal(err)
	}
	publish := func(key string, n int) func(int) error {
		ps := make([]queuedriver.Publishing, n)
		for i := range ps {
			ps[i] = queuedriver.Publishing{
				Route: queuedriver.Route{Key: key}, Mandatory: true,
				Message: &queuedriver.Message{ID: fmt.Sprint("id", i), Body: make([]byte, body)},
			}
		}
		return func(int) error {
			rs, err := c.Publish(t.Context(), ps)
			if err == nil {
				err = rs[0].Err
			}
			return err
		}
	}
	count(t, "publish", 1, b.Publish, publish("one", 1))
	count(t, "publish in a batch", batch, b.PublishBatch, publish("many", batch))
	acks := make([][]queuedriver.Settlement, runs+1)
	for i := range acks {
		acks[i] = make([]queuedriver.Settlement, batch)
	}
	receive := &queuedriver.ReceiveRequest{Queue: "many", Consumer: "c", Max: batch, Wait: queuedriver.MaxWait, Lease: ttl}
	count(t, "receive in a batch", batch, b.ReceiveBatch, func(i int) error {
		ds, err := c.Receive(t.Context(), receive)
		if err == nil && len(ds) != batch {
			err = fmt.Errorf("%d deliveries instead of %d", len(ds), batch)
		}
		for j := range ds {
			acks[i][j] = queuedriver.Settlement{Ref: ds[j].Ref, Verb: queuedriver.Ack}
		}
		return err
	})
	count(t, "ack in a batch", batch, b.SettleBatch, func(i int) error {
		outs, err := c.Settle(t.Context(), acks[i])
		if err == nil {
			err = outs[0].Err
		}
		return err
	})
}
