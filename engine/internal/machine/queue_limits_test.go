package machine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// pass lets time go by on both clocks.
func (h *harness) pass(d time.Duration) {
	h.now.Mono = h.now.Mono.Add(d)
	h.now.Wall += int64(d)
}

// extend gives a delivery a lease of ttl.
func (h *harness) extend(queue string, l Leased, ttl time.Duration) {
	c := &Settle{Settlements: []queuedriver.Settlement{{Ref: queuedriver.Ref{Queue: queue, Seq: l.Seq, Token: l.Token}, Verb: queuedriver.Extend, TTL: ttl}}}
	h.round(func() { h.m.Settle(h.now, h.store, h.store, c) })
}

// nack fails a delivery; its message comes back after delay.
func (h *harness) nack(queue string, l Leased, delay time.Duration) {
	h.t.Helper()
	c := &Settle{Settlements: []queuedriver.Settlement{{
		Ref: queuedriver.Ref{Queue: queue, Seq: l.Seq, Token: l.Token}, Verb: queuedriver.Nack, Delay: delay,
	}}}
	h.round(func() { h.m.Settle(h.now, h.store, h.store, c) })
	if err := c.Outcomes[0].Err; err != nil {
		h.t.Fatal(err)
	}
}

// TestAttemptsFullGoOn fails as many messages as a queue remembers attempts
// of: those come back and can be acked, which makes room for the others; also
// after an open, and with keys whose next message is a new one.
func TestAttemptsFullGoOn(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		for _, keys := range []int{0, 3, 20} {
			t.Run(fmt.Sprintf("reopen=%v,keys=%d", reopen, keys), func(t *testing.T) {
				h := newHarness(t, workAndDead())
				limits := defaultLimits
				limits.attempts = 5
				h.m.limits = limits
				c := &Publish{}
				for i := range 20 {
					msg := &queuedriver.Message{ID: fmt.Sprint(i)}
					if keys > 0 {
						msg.OrderKey = fmt.Sprint(i % keys)
					}
					c.Publishings = append(c.Publishings, queuedriver.Publishing{Route: queuedriver.Route{Key: "other"}, Message: msg})
				}
				h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
				for range 5 {
					for _, l := range h.receive("other", 1) {
						h.nack("other", l, time.Second)
					}
				}
				if got := h.receive("other", 20); len(got) != 0 && keys != 3 {
					t.Fatalf("%d deliveries past the bound", len(got))
				}
				if reopen {
					h.m = h.store.reopen(h.now, limits)
				}
				done := 0
				for range 100 {
					h.pass(time.Minute)
					for _, l := range h.receive("other", 20) {
						if o := h.settle("other", l, queuedriver.Ack); o.Err == nil {
							done++
						}
					}
				}
				if done != 20 {
					t.Fatalf("%d of 20 messages were delivered; %+v", done, h.stats("other"))
				}
			})
		}
	}
}

// TestBackoffSurvivesClockSteps has a failed message come back after its
// delay although the wall clock was set back meanwhile, and not before
// although it was set forward.
func TestBackoffSurvivesClockSteps(t *testing.T) {
	for _, step := range []time.Duration{-1000 * time.Hour, 1000 * time.Hour} {
		h := newHarness(t, workAndDead())
		h.publish("other", 1)
		h.nack("other", h.receive("other", 1)[0], time.Minute)
		h.now.Wall += int64(step)
		h.pass(59 * time.Second)
		if got := h.receive("other", 1); len(got) != 0 {
			t.Errorf("step %v: delivered before its time", step)
		}
		h.pass(2 * time.Second)
		if got := h.receive("other", 1); len(got) != 1 {
			t.Errorf("step %v: not delivered after its time", step)
		}
	}
}

// TestRetriesOfGoneMessages keeps no memory of retries whose messages were
// purged, redriven or deleted with their queue.
func TestRetriesOfGoneMessages(t *testing.T) {
	h := newHarness(t, workAndDead())
	for i := range 30 {
		h.publish("other", 200)
		c := &Settle{}
		for _, l := range h.receive("other", 200) {
			c.Settlements = append(c.Settlements, queuedriver.Settlement{
				Ref: queuedriver.Ref{Queue: "other", Seq: l.Seq, Token: l.Token}, Verb: queuedriver.Nack, Delay: queuedriver.MaxDelay,
			})
		}
		h.round(func() { h.m.Settle(h.now, h.store, h.store, c) })
		if i%2 == 0 {
			h.round(func() { h.m.Purge(h.store, &Purge{Queue: "other"}) })
			continue
		}
		h.round(func() {
			h.m.DeleteTopology(h.store, &DeleteTopology{Request: &queuedriver.DeleteRequest{Queue: "other"}})
			h.m.Declare(h.store, &Declare{Topology: &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "other", Lease: time.Minute}}}})
		})
	}
	if n := len(h.m.retries.rs); n > 2*minStale {
		t.Errorf("%d retries of messages that are gone", n)
	}
}

// TestDedupAfterClockStep: a wall clock that was far ahead for a moment makes
// no id be refused for much longer than the window.
func TestDedupAfterClockStep(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q", DedupWindow: time.Hour}}})
	publish := func(id string) bool {
		c := &Publish{Publishings: []queuedriver.Publishing{{Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{ID: id}}}}
		h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
		if c.Receipts[0].Err != nil {
			t.Fatal(c.Receipts[0].Err)
		}
		return c.Receipts[0].Duplicate
	}
	const step = 365 * 24 * time.Hour
	h.now.Wall += int64(step)
	publish("ahead")
	h.now.Wall -= int64(step)
	publish("back")
	for range 11 {
		h.pass(5 * time.Minute)
		publish("tick")
		if !publish("back") {
			t.Fatal("an id was forgotten within the window")
		}
	}
	for range 6 {
		h.pass(10 * time.Minute)
		publish("tick")
	}
	if publish("back") {
		t.Fatal("an id is refused long after the window")
	}
}

// TestOldestAfterOpen looks behind what is acked, also when nothing is loaded.
func TestOldestAfterOpen(t *testing.T) {
	h := newHarness(t, workAndDead())
	h.publish("other", 10)
	for _, l := range h.receive("other", 10) {
		h.settle("other", l, queuedriver.Ack)
	}
	h.pass(time.Hour)
	h.publish("other", 1)
	h.pass(time.Second)
	for range 2 {
		if s := h.stats("other"); s.OldestAge != time.Second {
			t.Errorf("oldest is %v", s.OldestAge)
		}
		h.m = h.store.reopen(h.now, defaultLimits)
	}
}

// TestRoundsAreBounded: what a round copies of bodies is bounded, whatever
// fails at once; the rest follows in the next rounds, and nothing is lost.
func TestRoundsAreBounded(t *testing.T) {
	const n, size = 60, 1 << 20
	top := workAndDead()
	h := newHarness(t, top)
	fill := func() []Leased {
		c := &Publish{}
		for i := range n {
			c.Publishings = append(c.Publishings, queuedriver.Publishing{
				Route: queuedriver.Route{Key: "work"}, Message: &queuedriver.Message{ID: fmt.Sprint(i), Body: make([]byte, size)},
			})
		}
		for more := true; more; {
			h.round(func() { more = !h.m.Publish(h.now, h.store, h.store, c) })
		}
		var got []Leased
		for ls := h.receive("work", n); len(ls) > 0; ls = h.receive("work", n) {
			got = append(got, ls...)
		}
		if len(got) != n {
			t.Fatalf("received %d", len(got))
		}
		return got
	}
	bounded := func(what string) {
		t.Helper()
		if got := h.m.Unwritten(); got > 2*roundBytes {
			t.Errorf("%s: %d MiB in one round", what, got>>20)
		}
	}

	// Rejected in one command.
	c := &Settle{}
	for _, l := range fill() {
		c.Settlements = append(c.Settlements, queuedriver.Settlement{Ref: queuedriver.Ref{Queue: "work", Seq: l.Seq, Token: l.Token}, Verb: queuedriver.Reject})
	}
	rounds := 0
	for more := true; more; rounds++ {
		h.round(func() {
			more = !h.m.Settle(h.now, h.store, h.store, c)
			bounded("settle")
		})
	}
	for i, o := range c.Outcomes {
		if o.Err != nil || !o.DeadLettered {
			t.Fatalf("%d: %+v", i, o)
		}
	}
	if rounds < 5 || h.stats("dead").Ready != n {
		t.Fatalf("%d rounds, %+v", rounds, h.stats("dead"))
	}

	// Left to their leases.
	fill()
	h.pass(time.Hour)
	for rounds = 0; h.stats("work").InFlight > 0 && rounds < 100; rounds++ {
		if at, ok := h.m.NextWake(h.now); !ok || at > h.now.Mono {
			t.Fatal("there is nothing to do, and deliveries past their time")
		}
		h.round(func() { bounded("expiry") })
	}
	if rounds < 5 || h.stats("dead").Ready != 2*n {
		t.Fatalf("%d rounds, %+v", rounds, h.stats("dead"))
	}
}

// TestFanOutIsBounded refuses a message that would take too much room in one
// round, by name, and keeps one whose dead letter would.
func TestFanOutIsBounded(t *testing.T) {
	const queues = 40
	top := &queuedriver.Topology{
		Exchanges: []queuedriver.Exchange{{Name: "x", Kind: queuedriver.Fanout}},
		Queues:    []queuedriver.Queue{{Name: "work", DeadLetter: &queuedriver.Route{Exchange: "x"}, DeliveryLimit: 1}},
	}
	for i := range queues {
		name := fmt.Sprint("q", i)
		top.Queues = append(top.Queues, queuedriver.Queue{Name: name})
		top.Bindings = append(top.Bindings, queuedriver.Binding{Exchange: "x", Queue: name})
	}
	h := newHarness(t, top)
	body := make([]byte, MaxFanOutBytes/queues+1)
	c := &Publish{Publishings: []queuedriver.Publishing{{Route: queuedriver.Route{Exchange: "x"}, Message: &queuedriver.Message{ID: "1", Body: body}}}}
	h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
	if err := c.Receipts[0].Err; !errors.Is(err, lease.ErrLimit) || h.stats("q0").Ready != 0 {
		t.Fatalf("published: %v", err)
	}
	c = &Publish{Publishings: []queuedriver.Publishing{{Route: queuedriver.Route{Key: "work"}, Message: &queuedriver.Message{ID: "1", Body: body}}}}
	h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
	s := &Settle{Settlements: []queuedriver.Settlement{{Verb: queuedriver.Reject}}}
	l := h.receive("work", 1)[0]
	s.Settlements[0].Ref = queuedriver.Ref{Queue: "work", Seq: l.Seq, Token: l.Token}
	h.m.Tick(h.now, h.store, h.store)
	h.m.Settle(h.now, h.store, h.store, s)
	h.m.Dispatch(h.now, h.store, h.store)
	h.store.commit()
	if f := h.m.Faults(); len(f) != 1 || !errors.Is(f[0], lease.ErrLimit) {
		t.Errorf("faults: %v", f)
	}
	if o := s.Outcomes[0]; o.DeadLettered || h.stats("work").Delayed != 1 || h.stats("q0").Ready != 0 {
		t.Fatalf("%+v, %+v", o, h.stats("work"))
	}
}

// TestFullDiskHoldsBack: while the disk is full nothing moves that copies
// bodies, and everything does when there is room.
func TestFullDiskHoldsBack(t *testing.T) {
	h := newHarness(t, workAndDead())
	h.publish("work", 3)
	later := &Publish{Publishings: []queuedriver.Publishing{{Route: queuedriver.Route{Key: "other"}, Message: &queuedriver.Message{ID: "d", Delay: time.Second}}}}
	h.round(func() { h.m.Publish(h.now, h.store, h.store, later) })
	ls := h.receive("work", 2)
	full := fmt.Errorf("%w: for the test", lease.ErrNoSpace)
	h.m.SetRoom(full)
	if o := h.settle("work", ls[0], queuedriver.Reject); !errors.Is(o.Err, lease.ErrNoSpace) {
		t.Fatalf("reject: %+v", o)
	}
	h.pass(10 * time.Second)
	h.round(func() {})
	if s := h.stats("work"); s.InFlight != 2 || h.stats("other").Delayed != 1 || h.stats("dead").Ready != 0 {
		t.Fatalf("%+v", s)
	}
	h.pass(time.Hour) // the leases run out: past the limit, and no room for a dead letter
	h.round(func() {})
	if s := h.stats("work"); s.InFlight != 0 || s.Delayed != 2 || s.Expired != 2 || h.stats("dead").Ready != 0 {
		t.Fatalf("%+v", s)
	}
	if at, ok := h.m.NextWake(h.now); ok && at <= h.now.Mono {
		t.Fatal("spins while the disk is full")
	}
	h.m.SetRoom(nil)
	h.pass(time.Hour)
	h.receive("work", 1)
	if s := h.stats("dead"); s.Ready != 2 || h.stats("other").Ready != 1 {
		t.Fatalf("%+v, %+v", s, h.stats("other"))
	}
}
