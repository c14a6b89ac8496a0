package machine

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

func TestTrail(t *testing.T) {
	var tr trail
	for _, id := range []uint32{7, 1 << 31, 3, 7, 300} {
		tr = tr.with(id)
	}
	if len(tr) != 4*idBytes || !tr.has(7) || !tr.has(3) || !tr.has(300) || !tr.has(1<<31) || tr.has(4) || tr.has(0) || tr.has(1<<32-1) {
		t.Errorf("trail %x", tr)
	}
	tr = ""
	for id := range uint32(maxTrail) {
		tr = tr.with(2 * id)
	}
	if len(tr) != maxTrail*idBytes || tr.has(1) || tr.with(0) != tr {
		t.Errorf("a full trail has %d bytes", len(tr))
	}
	if tr = tr.with(1); tr != everywhere || !tr.has(5) || tr.with(5) != everywhere {
		t.Errorf("past its limit a trail is %x", tr)
	}
}

// total is how many messages are in all queues.
func (h *harness) total() (n int64) {
	for _, q := range h.m.queues {
		n += q.counters.Live
	}
	return n
}

// circle is queues that time out into one exchange, which leads to all.
func circle(ttl time.Duration, names ...string) *queuedriver.Topology {
	top := &queuedriver.Topology{Exchanges: []queuedriver.Exchange{{Name: "all", Kind: queuedriver.Fanout}}}
	for _, n := range names {
		top.Queues = append(top.Queues, queuedriver.Queue{Name: n, MessageTTL: ttl, DeadLetter: &queuedriver.Route{Exchange: "all"}})
		top.Bindings = append(top.Bindings, queuedriver.Binding{Exchange: "all", Queue: n})
	}
	return top
}

// What times out is put into each queue of its route once, and then goes
// round as one, over restarts too.
func TestCircleTurns(t *testing.T) {
	h := newHarness(t, circle(time.Second, "a", "b", "c"))
	h.publish("a", 1)
	want := func(a, b, c int64) {
		t.Helper()
		if h.live("a") != a || h.live("b") != b || h.live("c") != c {
			t.Fatalf("%d, %d and %d messages, want %d, %d and %d", h.live("a"), h.live("b"), h.live("c"), a, b, c)
		}
	}
	want(1, 0, 0)
	h.wake(time.Second)
	want(0, 1, 1)
	h.m = h.store.reopen(h.now, defaultLimits)
	h.round(func() {})
	for range 6 { // from b to c, from c to a, and so on
		h.wake(time.Second)
		if h.total() != 2 {
			want(-1, -1, -1)
		}
	}
	// Somebody takes one, and fails at it: it begins anew.
	for _, q := range []string{"a", "b", "c"} {
		if got := h.receive(q, 1); len(got) > 0 {
			if out := h.settle(q, got[0], queuedriver.Reject); !out.DeadLettered {
				t.Fatalf("outcome %+v", out)
			}
			break
		}
	}
	if n := h.total(); n != 1+3 {
		t.Errorf("%d messages after one was rejected", n)
	}
}

// One queue after the other is a circle too, and one alone.
func TestCircleOfSingleWays(t *testing.T) {
	queue := func(name, dead string) queuedriver.Queue {
		return queuedriver.Queue{Name: name, MessageTTL: time.Second, DeadLetter: &queuedriver.Route{Key: dead}}
	}
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{queue("a", "b"), queue("b", "a")}})
	h.publish("a", 3)
	for i := range 10 {
		h.wake(time.Second)
		at := []string{"b", "a"}[i%2]
		if h.live(at) != 3 || h.total() != 3 {
			t.Fatalf("round %d: %d of %d messages are in %s", i, h.live(at), h.total(), at)
		}
	}
	if got := h.receive("a", 3); len(got) != 3 {
		t.Errorf("%d messages are delivered", len(got))
	}
}

// More queues than a trail names: each message goes round as one.
func TestCircleOfManyQueues(t *testing.T) {
	var names []string
	for i := range maxTrail + 20 {
		names = append(names, fmt.Sprintf("q%03d", i))
	}
	h := newHarness(t, circle(time.Second, names...))
	h.publish("q000", 1)
	for range 30 {
		h.wake(time.Second)
		if n := h.total(); n > int64(len(names)) {
			t.Fatalf("%d messages of one", n)
		}
	}
	if n := h.total(); n != int64(len(names)-1) {
		t.Errorf("%d messages, want %d", n, len(names)-1)
	}
}

// TestCirclesModel has random queues that time out and overflow into each
// other: a message never becomes more than there are queues, and none is lost.
func TestCirclesModel(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 0))
		queues := 2 + r.IntN(4)
		top := &queuedriver.Topology{}
		bound := false
		for i := range queues {
			q := queuedriver.Queue{Name: fmt.Sprint("q", i), DeadLetter: &queuedriver.Route{Exchange: fmt.Sprint("x", r.IntN(queues))}}
			if r.IntN(4) > 0 {
				q.MessageTTL = time.Duration(1+r.IntN(3)) * time.Second
			}
			if r.IntN(4) == 0 {
				q.MaxLength, q.Overflow, bound = 1, queuedriver.DropHead, true
			}
			top.Queues = append(top.Queues, q)
			top.Exchanges = append(top.Exchanges, queuedriver.Exchange{Name: fmt.Sprint("x", i), Kind: queuedriver.Fanout})
			for j := range queues {
				if r.IntN(2) == 0 {
					top.Bindings = append(top.Bindings, queuedriver.Binding{Exchange: fmt.Sprint("x", i), Queue: fmt.Sprint("q", j)})
				}
			}
		}
		h := newHarness(t, top)
		messages := int64(1 + r.IntN(3))
		taken := int64(0)
		for range messages {
			taken += 1 - int64(h.try(fmt.Sprint("q", r.IntN(queues)), 1))
		}
		least := h.total()
		for range 200 {
			h.wake(time.Second)
			n := h.total()
			if n < least || n > taken*int64(queues) {
				t.Fatalf("seed %d: %d messages of %d, at least %d (bounds %v): %+v", seed, n, taken, least, bound, top)
			}
			least = n
			if r.IntN(20) == 0 {
				h.m = h.store.reopen(h.now, defaultLimits)
				h.round(func() {})
			}
		}
	}
}
