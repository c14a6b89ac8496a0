package machine

import (
	"testing"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// wake lets time go by until the machine asks for a Tick, at most d.
func (h *harness) wake(d time.Duration) {
	at, ok := h.m.NextWake(h.now)
	if ok && at.Sub(h.now.Mono) < d {
		d = max(0, at.Sub(h.now.Mono))
	}
	h.pass(d)
	h.round(func() {})
}

// Messages that are far behind the window time out though nobody receives,
// also after an open.
func TestTimeOutOfALongQueue(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q", MessageTTL: time.Second}}})
	limits := queueLimits{window: 16, low: 4, parked: 12, inFlight: 40, attempts: 1000}
	h.m = h.store.reopen(h.now, limits)
	h.publish("q", 500)
	h.m = h.store.reopen(h.now, limits)
	h.pass(999 * time.Millisecond)
	h.round(func() {})
	if n := h.live("q"); n != 500 {
		t.Errorf("%d of 500 are left before their time", n)
	}
	for i := 0; i < 500 && h.live("q") > 0; i++ {
		h.wake(time.Second)
	}
	c := h.m.queues["q"].counters
	if c.Live != 0 || c.Bytes != 0 || c.Mortal != 0 || c.TimedOut != 500 || c.Dropped != 500 {
		t.Errorf("counters %+v", c)
	}
	if _, ok := h.m.NextWake(h.now); ok {
		t.Error("an empty queue wants to be looked at")
	}
}

// What has timed out and cannot be dead-lettered is never delivered, blocks
// nobody, and goes when there is a way.
func TestTimeOutNowhere(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{
		Exchanges: []queuedriver.Exchange{{Name: "void", Kind: queuedriver.Fanout}},
		Queues: []queuedriver.Queue{
			{Name: "q", MessageTTL: time.Second, DeadLetter: &queuedriver.Route{Exchange: "void"}, Backoff: queuedriver.Backoff{Min: 1, Max: time.Minute}},
			{Name: "dead"},
		},
	})
	for _, reopen := range []bool{false, true} {
		h.publish("q", 3)
		if reopen {
			h.m = h.store.reopen(h.now, defaultLimits)
		}
		h.pass(time.Second)
		for range 20 {
			h.wake(time.Second)
			if got := h.receive("q", 10); len(got) > 0 {
				t.Fatalf("%d messages are delivered after their time", len(got))
			}
		}
	}
	s := &ReadStats{Request: &queuedriver.StatsRequest{Queue: "q"}}
	h.m.Stats(h.now, h.store, s)
	if st := s.Stats[0]; st.Ready != 0 || st.Delayed != 6 || st.TimedOut != 0 {
		t.Errorf("statistics %+v", st)
	}
	h.round(func() {
		h.m.Declare(h.store, &Declare{Topology: &queuedriver.Topology{Bindings: []queuedriver.Binding{{Exchange: "void", Queue: "dead"}}}})
	})
	for i := 0; i < 100 && h.live("q") > 0; i++ {
		h.wake(time.Minute)
	}
	if got := h.receive("dead", 10); len(got) != 6 || h.live("q") != 0 || len(h.m.queues["q"].late) != 0 {
		t.Errorf("%d dead letters, %d left", len(got), h.live("q"))
	}
}

// A delivery keeps its message's time over a purge and an open.
func TestTimeOutAfterPurge(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q", MessageTTL: time.Second}}})
	h.publish("q", 3)
	held := h.receive("q", 1)
	h.m = h.store.reopen(h.now, defaultLimits)
	h.round(func() { h.m.Purge(h.store, &Purge{Queue: "q"}) })
	if n := h.m.queues["q"].counters.Mortal; n != 1 {
		t.Errorf("%d have a TTL, want 1", n)
	}
	h.pass(2 * time.Second)
	h.round(func() {})
	h.nack("q", held[0], 0)
	if got := h.receive("q", 1); len(got) != 0 || h.live("q") != 0 {
		t.Errorf("%d delivered, %d left", len(got), h.live("q"))
	}
}

// What is consumed in time leaves nothing behind.
func TestTimeOutKeepsNothing(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q", MessageTTL: time.Hour}}})
	for range 100 {
		h.publish("q", 100)
		c := &Settle{}
		for _, l := range h.receive("q", 100) {
			c.Settlements = append(c.Settlements, queuedriver.Settlement{Ref: queuedriver.Ref{Queue: "q", Seq: l.Seq, Token: l.Token}, Verb: queuedriver.Ack})
		}
		h.round(func() { h.m.Settle(h.now, h.store, h.store, c) })
	}
	if n := len(h.m.queues["q"].expiries.xs); n > minStaleExpiries+200 {
		t.Errorf("%d entries are kept of an empty queue", n)
	}
}

// However many messages time out at once, a round stays short.
func TestTimeOutIsBounded(t *testing.T) {
	const n = 4000
	for what, dead := range map[string]*queuedriver.Route{"dead-lettered": {Key: "dead"}, "with nowhere to go": {Exchange: "void"}} {
		h := newHarness(t, &queuedriver.Topology{
			Exchanges: []queuedriver.Exchange{{Name: "void", Kind: queuedriver.Fanout}},
			Queues:    []queuedriver.Queue{{Name: "q", MessageTTL: time.Second, DeadLetter: dead}, {Name: "dead"}},
		})
		for range n / 100 {
			h.publish("q", 100)
		}
		h.pass(time.Second)
		h.m.Tick(h.now, h.store, h.store)
		if steps := h.m.steps; steps < roundSteps/tickPart || steps > roundSteps/tickPart+n {
			t.Errorf("%s: %d steps", what, steps)
		}
		h.m.Dispatch(h.now, h.store, h.store)
		h.store.commit()
	}
}
