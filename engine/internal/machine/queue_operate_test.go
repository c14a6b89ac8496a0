package machine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// harness is a machine on a fake store with a few helpers.
type harness struct {
	t     *testing.T
	now   Time
	store *fakeStore
	m     *Queues
}

func newHarness(t *testing.T, top *queuedriver.Topology) *harness {
	t.Helper()
	h := &harness{t: t, now: Time{Mono: 1, Wall: 1_700_000_000_000_000_000}, store: newFakeStore()}
	h.m = h.store.reopen(h.now, defaultLimits)
	if err := top.Validate(&queuedriver.Caps{MinLease: time.Second, MaxLease: time.Hour, Priorities: true, MaxLength: true, MessageTTL: true, SingleActive: true, AutoDelete: true, QueueTTL: true, Exclusive: true}); err != nil {
		t.Fatal(err)
	}
	c := &Declare{Topology: top}
	h.round(func() { h.m.Declare(h.store, c) })
	if c.Err != nil {
		t.Fatal(c.Err)
	}
	return h
}

func (h *harness) round(f func()) {
	h.m.Tick(h.now, h.store, h.store)
	f()
	h.m.Dispatch(h.now, h.store, h.store)
	h.store.commit()
	for _, err := range h.m.Faults() {
		h.t.Errorf("fault: %v", err)
	}
}

func (h *harness) publish(queue string, n int) {
	c := &Publish{}
	for i := range n {
		c.Publishings = append(c.Publishings, queuedriver.Publishing{
			Route: queuedriver.Route{Key: queue}, Message: &queuedriver.Message{ID: fmt.Sprint(i), Body: []byte("body")},
		})
	}
	h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
}

func (h *harness) receive(queue string, max int) []Leased {
	h.t.Helper()
	var got []Leased
	for range 3 { // a window may have to be loaded first
		r := &Receive{Received: h.now.Mono, Request: &queuedriver.ReceiveRequest{Queue: queue, Consumer: "c", Max: max, MaxBytes: 1 << 20}}
		h.round(func() { h.m.Receive(h.now, r) })
		if r.consumer != nil {
			h.round(func() {})
		}
		if r.Err != nil {
			h.t.Fatal(r.Err)
		}
		if got = r.Leased; len(got) > 0 {
			break
		}
	}
	return got
}

func (h *harness) settle(queue string, l Leased, v queuedriver.Verb) queuedriver.Outcome {
	c := &Settle{Settlements: []queuedriver.Settlement{{Ref: queuedriver.Ref{Queue: queue, Seq: l.Seq, Token: l.Token}, Verb: v}}}
	h.round(func() { h.m.Settle(h.now, h.store, h.store, c) })
	return c.Outcomes[0]
}

func (h *harness) stats(queue string) queuedriver.QueueStats {
	c := &ReadStats{Request: &queuedriver.StatsRequest{Queue: queue}}
	h.m.Stats(h.now, h.store, c)
	if c.Err != nil {
		h.t.Fatal(c.Err)
	}
	return c.Stats[0]
}

func workAndDead() *queuedriver.Topology {
	return &queuedriver.Topology{Queues: []queuedriver.Queue{
		{Name: "work", DeadLetter: &queuedriver.Route{Key: "dead"}, DeliveryLimit: 1},
		{Name: "dead"},
		{Name: "other"},
	}}
}

func TestRedrive(t *testing.T) {
	h := newHarness(t, workAndDead())
	h.publish("work", 5)
	h.publish("dead", 2) // were never alive: they have no origin
	for _, l := range h.receive("work", 5) {
		if o := h.settle("work", l, queuedriver.Reject); o.Err != nil || !o.DeadLettered {
			t.Fatalf("%+v", o)
		}
	}
	if s := h.stats("dead"); s.Ready != 7 {
		t.Fatalf("%+v", s)
	}
	c := &Redrive{Request: &queuedriver.RedriveRequest{Queue: "dead", Max: 3}}
	h.round(func() { h.m.Redrive(h.now, h.store, h.store, c) })
	if c.Err != nil || c.Moved != 3 {
		t.Fatalf("moved %d: %v", c.Moved, c.Err)
	}
	c = &Redrive{Request: &queuedriver.RedriveRequest{Queue: "dead"}}
	h.round(func() { h.m.Redrive(h.now, h.store, h.store, c) })
	if c.Moved != 2 || h.stats("work").Ready != 5 || h.stats("dead").Ready != 2 {
		t.Fatalf("moved %d; %+v; %+v", c.Moved, h.stats("work"), h.stats("dead"))
	}
	c = &Redrive{Request: &queuedriver.RedriveRequest{Queue: "dead", To: &queuedriver.Route{Key: "other"}}}
	h.round(func() { h.m.Redrive(h.now, h.store, h.store, c) })
	if c.Moved != 2 || h.stats("other").Ready != 2 || h.stats("dead").Ready != 0 {
		t.Fatalf("moved %d; %+v; %+v", c.Moved, h.stats("other"), h.stats("dead"))
	}
	for i, l := range h.receive("work", 5) {
		rec, err := h.store.Message(h.m.queues["work"].id, l.Block, l.Seq)
		if err != nil || rec.ID != fmt.Sprint(i) || l.Attempt != 1 {
			t.Fatalf("%d: %+v, attempt %d: %v", i, rec, l.Attempt, err)
		}
		if len(rec.Headers) != 1 || rec.Headers[queuedriver.HeaderDeathCount] != int64(1) {
			t.Fatalf("headers of a revived message: %v", rec.Headers)
		}
	}
}

func TestPeekPages(t *testing.T) {
	h := newHarness(t, workAndDead())
	h.publish("work", 10)
	leased := h.receive("work", 2)
	h.settle("work", leased[0], queuedriver.Ack)
	var seen []uint64
	for after := uint64(0); ; {
		c := &PeekMessages{Request: &queuedriver.PeekRequest{Queue: "work", After: after, Max: 4}}
		h.m.Peek(h.now, h.store, c)
		if c.Err != nil {
			t.Fatal(c.Err)
		}
		if len(c.Peeked) == 0 {
			break
		}
		for _, p := range c.Peeked {
			seen = append(seen, p.Seq)
			if want := p.Seq == leased[1].Seq; (p.State == queuedriver.InFlight) != want {
				t.Errorf("message %d is %s", p.Seq, p.State)
			}
		}
		after = seen[len(seen)-1]
	}
	if len(seen) != 9 {
		t.Fatalf("saw %v", seen)
	}
}

// TestPurgeGoesOn has the numbers go on behind a purge, with what was in
// flight still there, also after an open.
func TestPurgeGoesOn(t *testing.T) {
	h := newHarness(t, workAndDead())
	h.publish("work", 6000)
	leased := h.receive("work", 3)
	c := &Purge{Queue: "work"}
	h.round(func() { h.m.Purge(h.store, c) })
	if c.Err != nil || c.Dropped != 5997 {
		t.Fatalf("dropped %d: %v", c.Dropped, c.Err)
	}
	h.publish("work", 2)
	h.m = h.store.reopen(h.now, defaultLimits)
	if s := h.stats("work"); s.InFlight != 3 || s.Ready != 2 || s.Dropped != 5997 {
		t.Fatalf("%+v", s)
	}
	if got := h.receive("work", 10); len(got) != 2 || got[0].Seq <= leased[2].Seq {
		t.Fatalf("received %v", got)
	}
	for _, l := range leased {
		if o := h.settle("work", l, queuedriver.Ack); o.Err != nil {
			t.Fatal(o.Err)
		}
	}
	if got := len(h.store.queues[h.m.queues["work"].id].blocks); got != 1 {
		t.Fatalf("%d blocks are left", got)
	}
}

func TestDeclareAllOrNothing(t *testing.T) {
	h := newHarness(t, workAndDead())
	queue := func(name string) queuedriver.Queue { return queuedriver.Queue{Name: name, Lease: time.Second} }
	for name, c := range map[string]struct {
		top  queuedriver.Topology
		want error
	}{
		"unknown exchange": {queuedriver.Topology{Queues: []queuedriver.Queue{queue("new")}, Bindings: []queuedriver.Binding{{Exchange: "no", Queue: "new"}}}, lease.ErrNotFound},
		"unknown queue":    {queuedriver.Topology{Exchanges: []queuedriver.Exchange{{Name: "new", Kind: queuedriver.Direct}}, Bindings: []queuedriver.Binding{{Exchange: "new", Queue: "no"}}}, lease.ErrNotFound},
		"unknown dead":     {queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "new", DeadLetter: &queuedriver.Route{Exchange: "no"}}}}, lease.ErrNotFound},
		"other queue":      {queuedriver.Topology{Queues: []queuedriver.Queue{queue("new"), queue("other")}}, lease.ErrConflict},
		"twice":            {queuedriver.Topology{Exchanges: []queuedriver.Exchange{{Name: "new", Kind: queuedriver.Direct}, {Name: "new", Kind: queuedriver.Topic}}}, lease.ErrConflict},
	} {
		cmd := &Declare{Topology: &c.top}
		h.round(func() { h.m.Declare(h.store, cmd) })
		if !errors.Is(cmd.Err, c.want) || len(cmd.Changes) != 0 {
			t.Errorf("%s: %v, %v", name, cmd.Changes, cmd.Err)
		}
	}
	if len(h.m.queues) != 3 || len(h.m.exchanges) != 0 || len(h.store.queues) != 3 {
		t.Fatalf("%d queues, %d exchanges, %d queues stored", len(h.m.queues), len(h.m.exchanges), len(h.store.queues))
	}
}

func TestDeleteQueueTellsReceivers(t *testing.T) {
	h := newHarness(t, workAndDead())
	h.publish("other", 1)
	leased := h.receive("other", 1)
	r := &Receive{Request: &queuedriver.ReceiveRequest{Queue: "other", Consumer: "c", Max: 1, MaxBytes: 1, Wait: time.Second}}
	h.round(func() { h.m.Receive(h.now, r) })
	c := &DeleteTopology{Request: &queuedriver.DeleteRequest{Queue: "other"}}
	h.round(func() { h.m.DeleteTopology(h.store, c) })
	if c.Err != nil || !errors.Is(r.Err, lease.ErrNotFound) {
		t.Fatalf("deleted: %v; receiver: %v", c.Err, r.Err)
	}
	if o := h.settle("other", leased[0], queuedriver.Ack); !errors.Is(o.Err, lease.ErrNotFound) {
		t.Fatalf("settled: %v", o.Err)
	}
	h.now.Mono = h.now.Mono.Add(time.Hour)
	h.round(func() {})
}

// TestStalledDeadLetter keeps a message whose dead letter leads nowhere.
func TestStalledDeadLetter(t *testing.T) {
	top := workAndDead()
	top.Exchanges = []queuedriver.Exchange{{Name: "void", Kind: queuedriver.Direct}}
	top.Queues[0].DeadLetter = &queuedriver.Route{Exchange: "void"}
	h := newHarness(t, top)
	h.publish("work", 1)
	l := h.receive("work", 1)[0]
	if o := h.settle("work", l, queuedriver.Nack); o.Err != nil || o.DeadLettered {
		t.Fatalf("%+v", o)
	}
	if s := h.stats("work"); s.Delayed != 1 || s.DeadLettered != 0 {
		t.Fatalf("%+v", s)
	}
	c := &Declare{Topology: &queuedriver.Topology{Bindings: []queuedriver.Binding{{Exchange: "void", Queue: "dead", Key: "work"}}}}
	h.round(func() { h.m.Declare(h.store, c) })
	h.pass(time.Hour)
	if got := h.receive("work", 1); len(got) != 0 {
		t.Fatalf("received %v past its limit", got)
	}
	if s := h.stats("dead"); s.Ready != 1 {
		t.Fatalf("%+v", s)
	}
}
