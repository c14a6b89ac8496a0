package machine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// pass lets time go by on both clocks.
func (h *harness) pass(d time.Duration) {
	h.now.Mono = h.now.Mono.Add(d)
	h.now.Wall += int64(d)
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

// faulty is a View some of whose reads fail.
type faulty struct {
	View
	index, message, due, seen func(q uint32, at uint64) error
}

var errFaulty = errors.New("the disk is on fire")

func (v *faulty) LoadIndex(q uint32, from uint64, most int) ([]record.IndexBlock, error) {
	if v.index != nil {
		if err := v.index(q, from); err != nil {
			return nil, err
		}
	}
	return v.View.LoadIndex(q, from, most)
}

func (v *faulty) Message(q uint32, first, seq uint64) (*record.Message, error) {
	if v.message != nil {
		if err := v.message(q, seq); err != nil {
			return nil, err
		}
	}
	return v.View.Message(q, first, seq)
}

func (v *faulty) LoadDue(q uint32, wall int64, most, mostBytes int) ([]record.Delayed, int64, error) {
	if v.due != nil {
		if err := v.due(q, 0); err != nil {
			return nil, 0, err
		}
	}
	return v.View.LoadDue(q, wall, most, mostBytes)
}

func (v *faulty) Seen(q uint32, from, to int64, id string) (bool, error) {
	if v.seen != nil {
		if err := v.seen(q, 0); err != nil {
			return false, err
		}
	}
	return v.View.Seen(q, from, to, id)
}

// TestRedriveReadError fails half way: what has been moved is in one place,
// also after a crash.
func TestRedriveReadError(t *testing.T) {
	h := newHarness(t, workAndDead())
	h.publish("dead", 2000)
	loads := 0
	v := &faulty{View: h.store, index: func(uint32, uint64) error {
		if loads++; loads == 2 {
			return errFaulty
		}
		return nil
	}}
	for range 2 { // two blocks' worth of index
		h.publish("dead", 2000)
	}
	c := &Redrive{Request: &queuedriver.RedriveRequest{Queue: "dead", To: &queuedriver.Route{Key: "other"}}}
	h.m.Tick(h.now, h.store, v)
	h.m.Redrive(h.now, h.store, v, c)
	h.m.Dispatch(h.now, h.store, v)
	h.m.Faults()
	h.store.commit()
	if c.Moved == 0 || c.Moved == 6000 {
		t.Fatalf("moved %d", c.Moved)
	}
	h.m = h.store.reopen(h.now, defaultLimits)
	if d, o := h.stats("dead"), h.stats("other"); d.Ready+o.Ready != 6000 || o.Ready != c.Moved {
		t.Fatalf("moved %d; %d are in the one queue, %d in the other", c.Moved, d.Ready, o.Ready)
	}
	got := 0
	for ls := h.receive("dead", 1000); len(ls) > 0; ls = h.receive("dead", 1000) {
		got += len(ls)
	}
	if got != 6000-int(c.Moved) {
		t.Fatalf("%d were delivered from where %d were moved away", got, c.Moved)
	}
}

// TestRedrivePastOthers moves what can be moved however much is before it
// that cannot.
func TestRedrivePastOthers(t *testing.T) {
	h := newHarness(t, workAndDead())
	c := &Publish{}
	for i := range 5 {
		c.Publishings = append(c.Publishings, queuedriver.Publishing{
			Route: queuedriver.Route{Key: "dead"}, Message: &queuedriver.Message{ID: fmt.Sprint(i), Body: make([]byte, operateBytes/2)},
		})
	}
	h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
	h.publish("work", 3)
	for _, l := range h.receive("work", 3) {
		h.settle("work", l, queuedriver.Reject)
	}
	moved, from := int64(0), uint64(0)
	for range 10 {
		c := &Redrive{Request: &queuedriver.RedriveRequest{Queue: "dead"}, From: from}
		h.round(func() { h.m.Redrive(h.now, h.store, h.store, c) })
		if c.Err != nil {
			t.Fatal(c.Err)
		}
		moved += c.Moved
		if from = c.Next; from == 0 {
			break
		}
	}
	if moved != 3 || from != 0 {
		t.Fatalf("moved %d, next %d", moved, from)
	}
	miss := &Redrive{Request: &queuedriver.RedriveRequest{Queue: "dead", To: &queuedriver.Route{Key: "nowhere"}}}
	h.round(func() { h.m.Redrive(h.now, h.store, h.store, miss) })
	if !errors.Is(miss.Err, lease.ErrNotFound) {
		t.Fatalf("redriven to a queue that is not there: %v", miss.Err)
	}
}

// TestFanOutReadError stores a message in all its queues or in none: an id
// that was noted without its message would make the repeat a duplicate.
func TestFanOutReadError(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{
		Exchanges: []queuedriver.Exchange{{Name: "x", Kind: queuedriver.Fanout}},
		Queues:    []queuedriver.Queue{{Name: "a", DedupWindow: time.Hour}, {Name: "b", DedupWindow: time.Hour}, {Name: "c"}},
		Bindings:  []queuedriver.Binding{{Exchange: "x", Queue: "c"}, {Exchange: "x", Queue: "a"}, {Exchange: "x", Queue: "b"}},
	})
	bad := h.m.queues["b"].id
	v := &faulty{View: h.store, seen: func(q uint32, _ uint64) error {
		if q == bad {
			return errFaulty
		}
		return nil
	}}
	publish := func(v View) queuedriver.Receipt {
		c := &Publish{Publishings: []queuedriver.Publishing{{Route: queuedriver.Route{Exchange: "x"}, Message: &queuedriver.Message{ID: "1"}}}}
		h.m.Tick(h.now, h.store, v)
		h.m.Publish(h.now, h.store, v, c)
		h.m.Dispatch(h.now, h.store, v)
		h.m.Faults()
		h.store.commit()
		return c.Receipts[0]
	}
	if r := publish(v); !errors.Is(r.Err, errFaulty) {
		t.Fatalf("%+v", r)
	}
	for _, q := range []string{"a", "b", "c"} {
		if s := h.stats(q); s.Ready != 0 {
			t.Errorf("queue %s has %d", q, s.Ready)
		}
	}
	if r := publish(h.store); r.Err != nil || r.Duplicate {
		t.Fatalf("%+v", r)
	}
	for _, q := range []string{"a", "b", "c"} {
		if s := h.stats(q); s.Ready != 1 {
			t.Errorf("queue %s has %d", q, s.Ready)
		}
	}
}

// TestIndexErrorPasses: who receives while the index cannot be read gets the
// error; who comes when it can be gets the messages.
func TestIndexErrorPasses(t *testing.T) {
	h := newHarness(t, workAndDead())
	h.publish("other", 3)
	h.m = h.store.reopen(h.now, defaultLimits)
	v := &faulty{View: h.store, index: func(uint32, uint64) error { return errFaulty }}
	r := &Receive{Request: &queuedriver.ReceiveRequest{Queue: "other", Consumer: "c", Max: 1, MaxBytes: 1, Wait: time.Second}}
	h.m.Tick(h.now, h.store, v)
	h.m.Receive(h.now, r)
	for range 2 {
		h.m.Dispatch(h.now, h.store, v)
		h.store.commit()
		h.m.Tick(h.now, h.store, v)
	}
	h.m.Dispatch(h.now, h.store, v)
	if !errors.Is(r.Err, errFaulty) || len(h.m.Faults()) == 0 {
		t.Fatalf("received %v, %v", r.Leased, r.Err)
	}
	h.store.commit()
	if got := h.receive("other", 3); len(got) != 3 {
		t.Fatalf("received %v", got)
	}
}

// TestDueErrorPasses tries again, later, what could not be read.
func TestDueErrorPasses(t *testing.T) {
	h := newHarness(t, workAndDead())
	c := &Publish{Publishings: []queuedriver.Publishing{{Route: queuedriver.Route{Key: "other"}, Message: &queuedriver.Message{ID: "1", Delay: time.Second}}}}
	h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
	h.pass(2 * time.Second)
	v := &faulty{View: h.store, due: func(uint32, uint64) error { return errFaulty }}
	for range 3 {
		h.m.Tick(h.now, h.store, v)
		h.m.Dispatch(h.now, h.store, v)
		h.store.commit()
	}
	if f := h.m.Faults(); len(f) != 1 {
		t.Fatalf("%d faults", len(f))
	}
	if at, ok := h.m.NextWake(h.now); !ok || at <= h.now.Mono {
		t.Fatalf("wakes at %v, %v", at, ok)
	}
	h.pass(10 * time.Minute)
	if got := h.receive("other", 1); len(got) != 1 {
		t.Fatal("a scheduled message is lost until an open")
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
