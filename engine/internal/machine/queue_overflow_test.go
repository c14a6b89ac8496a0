package machine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// try publishes n messages and returns how many were refused as too many.
func (h *harness) try(queue string, n int) (refused int) {
	h.t.Helper()
	c := &Publish{}
	for range n {
		c.Publishings = append(c.Publishings, queuedriver.Publishing{Route: queuedriver.Route{Key: queue}, Message: &queuedriver.Message{Body: []byte("b")}})
	}
	h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
	for _, r := range c.Receipts {
		if errors.Is(r.Err, queuedriver.ErrQueueFull) {
			refused++
		} else if r.Err != nil {
			h.t.Fatal(r.Err)
		}
	}
	return refused
}

func (h *harness) live(queue string) int64 { return h.m.queues[queue].counters.Live }

func dropHead(name, dead string) queuedriver.Queue {
	return queuedriver.Queue{Name: name, MaxLength: 3, Overflow: queuedriver.DropHead, DeadLetter: &queuedriver.Route{Key: dead}}
}

// Queues that dead-letter to each other, or to themselves, when they are full
// go round for ever nowhere, and lose nothing.
func TestOverflowInACircle(t *testing.T) {
	self := dropHead("self", "self")
	self.DeadLetter.Exchange = "back"
	h := newHarness(t, &queuedriver.Topology{
		Exchanges: []queuedriver.Exchange{{Name: "back", Kind: queuedriver.Direct}},
		Queues:    []queuedriver.Queue{dropHead("a", "b"), dropHead("b", "a"), self},
		Bindings:  []queuedriver.Binding{{Exchange: "back", Queue: "self", Key: "self"}},
	})
	taken := 0
	for range 10 {
		taken += 2 - h.try("a", 2)
	}
	if a, b := h.live("a"), h.live("b"); a+b != int64(taken) || b != 3 || a < 3 || a > 5 {
		t.Errorf("%d and %d messages of %d taken", a, b, taken)
	}
	if n := h.try("a", 1); n != 1 {
		t.Error("a queue that cannot drop takes more")
	}
	for range 3 {
		h.try("self", 2)
	}
	if n := h.live("self"); n != 4 {
		t.Errorf("%d messages in the queue that is its own dead letter", n)
	}
	for _, l := range h.receive("b", 3) {
		c := &Settle{Settlements: []queuedriver.Settlement{{Ref: queuedriver.Ref{Queue: "b", Seq: l.Seq, Token: l.Token}, Verb: queuedriver.Ack}}}
		h.round(func() { h.m.Settle(h.now, h.store, h.store, c) })
	}
	h.try("a", 1) // refused, but the queue is looked at
	if n := h.try("a", 1); n != 0 || h.live("a") != 3 {
		t.Errorf("after room was made %d refused, %d in the queue", n, h.live("a"))
	}
}

// A dead letter that leads nowhere lets a queue that drops its head refuse.
func TestOverflowNowhere(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{
		Exchanges: []queuedriver.Exchange{{Name: "void", Kind: queuedriver.Fanout}},
		Queues:    []queuedriver.Queue{{Name: "q", MaxLength: 2, Overflow: queuedriver.DropHead, DeadLetter: &queuedriver.Route{Exchange: "void"}}},
	})
	h.try("q", 3)
	if n := h.try("q", 5); n != 5 || h.live("q") != 3 {
		t.Errorf("%d of 5 refused, %d in the queue", n, h.live("q"))
	}
	if len(h.receive("q", 3)) != 3 {
		t.Error("what could not be dropped is not delivered")
	}
}

// Many windows of messages are dropped without being received.
func TestOverflowOfALongQueue(t *testing.T) {
	for _, priority := range []uint8{0, 2} {
		t.Run(fmt.Sprint("priority", priority), func(t *testing.T) {
			h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q", MaxLength: 500, Overflow: queuedriver.DropHead, MaxPriority: priority}}})
			limits := queueLimits{window: 16, low: 4, parked: 12, inFlight: 40, attempts: 1000}
			h.m.limits = limits
			for i := range 60 {
				h.try("q", 101)
				if n := h.live("q"); n != int64(min(500, 101*(i+1))) {
					t.Fatalf("%d messages after batch %d", n, i)
				}
				if i%7 == 0 {
					h.m = h.store.reopen(h.now, limits)
				}
			}
			h.pass(time.Second)
			if n := len(h.m.queues["q"].heads.es); n > minStaleHeads+600 {
				t.Errorf("%d entries are kept", n)
			}
		})
	}
}

// Publishers that fill every round do not keep a queue from dropping: its
// dead letters are as many as what comes.
func TestOverflowKeepsUp(t *testing.T) {
	const rounds, batch = 20, 5
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{dropHead("q", "dead"), {Name: "dead"}}})
	body := make([]byte, roundBytes/batch+1)
	for range rounds {
		c := &Publish{}
		for range batch {
			c.Publishings = append(c.Publishings, queuedriver.Publishing{Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{Body: body}})
		}
		h.round(func() {
			if h.m.Publish(h.now, h.store, h.store, c); !h.m.roundFull() {
				t.Fatal("the round is not full")
			}
		})
		if n := h.live("q"); n > 3+batch {
			t.Fatalf("%d messages in a queue of 3", n)
		}
	}
	h.wake(0)
	if q, dead := h.live("q"), h.live("dead"); q != 3 || dead != rounds*batch-3 {
		t.Errorf("%d and %d messages", q, dead)
	}
}

// One large message that has many small ones dropped does not make a round
// long.
func TestOverflowIsBounded(t *testing.T) {
	const n = roundSteps + 20_000
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q", MaxBytes: n, Overflow: queuedriver.DropHead}}})
	for range n / 10_000 {
		h.try("q", 10_000)
	}
	c := &Publish{Publishings: []queuedriver.Publishing{{Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{Body: make([]byte, n)}}}}
	h.round(func() { h.m.Publish(h.now, h.store, h.store, c) })
	if left := h.live("q"); c.Receipts[0].Err != nil || left < 10_000 || left > 20_000+1 {
		t.Errorf("%d of %d are left after a round: %v", left, n, c.Receipts[0].Err)
	}
	h.wake(0)
	if left := h.live("q"); left != 1 {
		t.Errorf("%d are left", left)
	}
}

// What has timed out while it was in flight, and is kept for want of a way,
// is the first to be dropped.
func TestOverflowDropsWhatIsLate(t *testing.T) {
	late := dropHead("q", "dead")
	late.MessageTTL = time.Hour
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{late, {Name: "dead", MaxLength: 1}}})
	h.try("dead", 1)
	h.try("q", 1)
	ls := h.receive("q", 1)
	h.extend("q", ls[0], 2*time.Hour)
	h.pass(90 * time.Minute)
	h.try("q", 3) // too many, and nothing can be dropped
	h.nack("q", ls[0], 0)
	h.settle("dead", h.receive("dead", 1)[0], queuedriver.Ack)
	h.try("q", 1) // refused, but the queue is looked at
	got := h.receive("dead", 2)
	if q := h.m.queues["q"]; len(got) != 1 || len(q.late) != 0 || q.counters.Live != 3 {
		t.Errorf("%d dead letters, %d late of %d", len(got), len(q.late), q.counters.Live)
	}
}

// A queue that is past its bounds at an open drops though nothing comes.
func TestOverflowAfterOpen(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{dropHead("q", "dead"), {Name: "dead", MaxLength: 1}}})
	h.try("dead", 1)
	h.try("q", 5) // nothing can be dropped
	h.settle("dead", h.receive("dead", 1)[0], queuedriver.Ack)
	h.m = h.store.reopen(h.now, defaultLimits)
	h.round(func() {})
	if q, dead := h.live("q"), h.live("dead"); q != 4 || dead != 1 {
		t.Errorf("%d and %d messages", q, dead)
	}
}
