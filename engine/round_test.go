package engine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/store/storetest"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestLargeCommandTakesRounds has commands that are too much for one round
// decided over several, as if they were one to their caller.
func TestLargeCommandTakesRounds(t *testing.T) {
	const n, size = 24, 1 << 20
	c, conn := startOn(t, storetest.NewDisk())
	top := &queuedriver.Topology{Queues: []queuedriver.Queue{
		{Name: "work", DeadLetter: &queuedriver.Route{Key: "dead"}}, {Name: "dead"},
	}}
	if _, err := conn.Declare(t.Context(), top, false); err != nil {
		t.Fatal(err)
	}
	var ps []queuedriver.Publishing
	for i := range n {
		ps = append(ps, queuedriver.Publishing{
			Route: queuedriver.Route{Key: "work"}, Message: &queuedriver.Message{ID: fmt.Sprint(i), Body: make([]byte, size)},
		})
	}
	before := c.store.Stats().Rounds
	rs, err := conn.Publish(t.Context(), ps)
	if err != nil || len(rs) != n {
		t.Fatalf("%d receipts: %v", len(rs), err)
	}
	for i, r := range rs {
		if r.Err != nil || r.Queues != 1 {
			t.Errorf("receipt %d: %+v", i, r)
		}
	}
	if rounds := c.store.Stats().Rounds - before; rounds < 5 {
		t.Errorf("published in %d rounds", rounds)
	}
	var ss []queuedriver.Settlement
	for len(ss) < n {
		ds, err := conn.Receive(t.Context(), &queuedriver.ReceiveRequest{Queue: "work", Consumer: "c", Max: n, Wait: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			if d.Message.ID != fmt.Sprint(len(ss)) {
				t.Errorf("%s is number %d", d.Message.ID, len(ss))
			}
			ss = append(ss, queuedriver.Settlement{Ref: d.Ref, Verb: queuedriver.Reject})
		}
	}
	before = c.store.Stats().Rounds
	os, err := conn.Settle(t.Context(), ss)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range os {
		if o.Err != nil || !o.DeadLettered {
			t.Errorf("outcome %d: %+v", i, o)
		}
	}
	if rounds := c.store.Stats().Rounds - before; rounds < 5 {
		t.Errorf("settled in %d rounds", rounds)
	}

	// A close comes before one or waits for all of it.
	published := make(chan error, 1)
	go func() {
		_, err := conn.Publish(t.Context(), ps)
		published <- err
	}()
	if err := c.close(); err != nil {
		t.Error(err)
	}
	if err := <-published; err != nil && !errors.Is(err, lease.ErrClosed) {
		t.Error(err)
	}
}
