package machine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// TestShare compares how messages are split with dealing them out one by one.
func TestShare(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		takers := make([]taker, 1+r.IntN(8))
		dealt := make([]int, len(takers))
		asked := 0
		for i := range takers {
			takers[i].asks = 1 + r.IntN(20)
			asked += takers[i].asks
		}
		n := 1 + r.IntN(asked)
		share(takers, n)
		for left := n; left > 0; {
			for i := range dealt {
				if left > 0 && dealt[i] < takers[i].asks {
					dealt[i]++
					left--
				}
			}
		}
		for i := range takers {
			if takers[i].gets != dealt[i] {
				t.Fatalf("%d messages are split as %+v, want %v", n, takers, dealt)
			}
		}
	}
}

// wait begins a receive that waits.
func (h *harness) wait(queue, consumer string, most int) *Receive {
	r := &Receive{Received: h.now.Mono, Request: &queuedriver.ReceiveRequest{
		Queue: queue, Consumer: consumer, Max: most, MaxBytes: 1 << 20, Wait: time.Minute,
	}}
	h.m.Receive(h.now, r)
	return r
}

// wakes lets the time pass until the machine has something to do.
func (h *harness) wakes() {
	h.t.Helper()
	at, ok := h.m.NextWake(h.now)
	if !ok {
		h.t.Fatal("the machine waits for nothing")
	}
	h.pass(at.Sub(h.now.Mono))
	h.round(func() {})
}

// TestHandOut checks that what a round brings is split among all who wait,
// messages of one size in order, whatever they ask for.
func TestHandOut(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q"}}})
		var rs []*Receive
		asks := make(map[string]int)
		h.round(func() {
			for range 1 + r.IntN(12) {
				c := fmt.Sprint("c", r.IntN(5))
				rs = append(rs, h.wait("q", c, 1+r.IntN(10)))
				asks[c] += rs[len(rs)-1].Request.Max
			}
		})
		n := 1 + r.IntN(40)
		h.publish("q", n)
		gets := make(map[string]int)
		total, want := 0, 0
		for _, r := range rs {
			for i, l := range r.Leased {
				if i > 0 && l.Seq <= r.Leased[i-1].Seq {
					t.Fatalf("seed %d: a receive got %d after %d", seed, l.Seq, r.Leased[i-1].Seq)
				}
			}
			gets[r.Request.Consumer] += len(r.Leased)
			total += len(r.Leased)
			want += r.Request.Max
		}
		if total != min(n, want) {
			t.Fatalf("seed %d: %d of %d messages were handed out, %d were asked for", seed, total, n, want)
		}
		for a := range asks {
			for b := range asks {
				if gets[a] < asks[a] && gets[b] > gets[a]+1 {
					t.Fatalf("seed %d: asked for %v, got %v", seed, asks, gets)
				}
			}
		}
	}
}

// TestHandOutTurns checks that whoever got something is the last of the line.
func TestHandOutTurns(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q"}}})
	var a, b []*Receive
	h.round(func() {
		for range 4 {
			a = append(a, h.wait("q", "a", 1))
		}
		for range 2 {
			b = append(b, h.wait("q", "b", 1))
		}
	})
	for i, want := range [][2]int{{1, 0}, {1, 1}, {2, 1}, {2, 2}, {3, 2}, {4, 2}} {
		h.publish("q", 1)
		got := [2]int{}
		for k, rs := range [][]*Receive{a, b} {
			for _, r := range rs {
				got[k] += len(r.Leased)
			}
		}
		if got != want {
			t.Fatalf("after %d messages a and b have %v, want %v", i+1, got, want)
		}
	}
}

// TestHandOutBytes checks that what does not fit into MaxBytes is not lost.
func TestHandOutBytes(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q"}}})
	var rs []*Receive
	h.round(func() {
		for _, c := range []string{"a", "b"} {
			r := h.wait("q", c, 10)
			r.Request.MaxBytes = 9 // two bodies of 4
			rs = append(rs, r)
		}
	})
	h.publish("q", 10)
	for i, r := range rs {
		if len(r.Leased) != 2 || r.Leased[0].Seq != uint64(1+2*i) {
			t.Errorf("receive %d got %+v", i, r.Leased)
		}
	}
	h.round(func() { rs[0] = h.wait("q", "a", 10) })
	if l := rs[0].Leased; len(l) != 6 || l[0].Seq != 5 {
		t.Errorf("the rest is %+v", l)
	}
}

// TestConsumerLimit checks the bound on consumers at its edge.
func TestConsumerLimit(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q"}, {Name: "single", SingleActive: true}}})
	var last, plain *Receive
	h.round(func() {
		for i := range MaxConsumers {
			last, plain = h.wait("single", fmt.Sprint(i), 1), h.wait("q", fmt.Sprint(i), 1)
		}
	})
	if last.Err != nil {
		t.Fatalf("the last consumer: %v", last.Err)
	}
	h.round(func() { last, plain = h.wait("single", "more", 1), h.wait("q", "more", 1) })
	if !errors.Is(last.Err, lease.ErrLimit) || plain.Err != nil {
		t.Errorf("one consumer more: %v of a queue that hangs on them, %v of another", last.Err, plain.Err)
	}
	h.publish("q", MaxConsumers+1)
	if len(plain.Leased) != 1 {
		t.Error("the one past the limit got nothing")
	}
	if n := h.stats("q").Consumers; n != MaxConsumers {
		t.Errorf("%d consumers are counted", n)
	}
}

// TestQueueLife walks through the ends of queues by time and by who leaves,
// each at the time that NextWake says, durable.
func TestQueueLife(t *testing.T) {
	top := &queuedriver.Topology{
		Exchanges: []queuedriver.Exchange{{Name: "e", Kind: queuedriver.Fanout}},
		Queues: []queuedriver.Queue{
			{Name: "kept"},
			{Name: "auto", AutoDelete: true, Lease: 5 * time.Second},
			{Name: "old", Expires: time.Minute, Lease: 5 * time.Second},
		},
		Bindings: []queuedriver.Binding{{Exchange: "e", Queue: "auto"}, {Exchange: "e", Queue: "old"}},
	}
	h := newHarness(t, top)
	left := func() (names []string) {
		for _, q := range h.store.queues {
			names = append(names, q.rec.Spec.Name)
		}
		slices.Sort(names)
		return names
	}
	var r *Receive
	h.round(func() { r = h.wait("auto", "c", 1) })
	h.round(func() { h.m.GiveUp(&GiveUp{Receive: r}) })
	h.pass(5*time.Second - 1)
	h.round(func() {})
	if got := left(); !slices.Equal(got, []string{"auto", "kept", "old"}) {
		t.Fatalf("a moment before the silence is too long there are %v", got)
	}
	h.wakes()
	if got := left(); !slices.Equal(got, []string{"kept", "old"}) || len(h.store.bindings) != 1 {
		t.Fatalf("after a silence there are %v and %d bindings", got, len(h.store.bindings))
	}
	// A receive begins the time of the other anew, from when it is gone.
	h.round(func() { r = h.wait("old", "c", 1) })
	h.pass(2 * time.Minute)
	h.round(func() { h.m.GiveUp(&GiveUp{Receive: r}) })
	h.pass(time.Minute)
	h.round(func() {})
	h.m = h.store.reopen(h.now, defaultLimits) // and so does an open
	h.round(func() {})
	h.pass(time.Minute - 1)
	h.round(func() {})
	if got := left(); len(got) != 2 {
		t.Fatalf("before its time there are %v", got)
	}
	h.wakes()
	if got := left(); !slices.Equal(got, []string{"kept"}) || len(h.store.bindings) != 0 {
		t.Fatalf("after its time there are %v and %d bindings", got, len(h.store.bindings))
	}
	if at, ok := h.m.NextWake(h.now); ok {
		t.Errorf("the machine wants to wake at %v for nothing", at)
	}
}

// TestConnections checks what goes with a connection.
func TestConnections(t *testing.T) {
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q", SingleActive: true}}})
	c := &Declare{Conn: 7, Topology: &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "mine", Exclusive: true, Lease: time.Second}}}}
	h.round(func() { h.m.Declare(h.store, c) })
	if c.Err != nil {
		t.Fatal(c.Err)
	}
	none := &Declare{Topology: &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "x", Exclusive: true}}}}
	h.round(func() { h.m.Declare(h.store, none) })
	if !errors.Is(none.Err, lease.ErrUnsupported) {
		t.Errorf("an exclusive queue of no connection: %v", none.Err)
	}
	receive := func(conn uint64, queue, consumer string) *Receive {
		r := &Receive{Conn: conn, Request: &queuedriver.ReceiveRequest{Queue: queue, Consumer: consumer, Max: 1, MaxBytes: 1, Wait: time.Minute}}
		h.round(func() { h.m.Receive(h.now, r) })
		return r
	}
	mine, other := receive(7, "mine", "c"), receive(8, "mine", "c")
	if mine.Err != nil || !errors.Is(other.Err, queuedriver.ErrExclusive) {
		t.Fatalf("its own connection: %v, another: %v", mine.Err, other.Err)
	}
	first, second := receive(7, "q", "first"), receive(8, "q", "second")
	h.round(func() { h.m.CloseConn(h.now, &CloseConn{Conn: 7}) })
	h.round(func() {})
	if h.m.queues["mine"] != nil || h.store.queues[2] != nil {
		t.Error("the exclusive queue outlives its connection")
	}
	if !slices.Contains(h.m.Finished, Command(first)) || !slices.Contains(h.m.Finished, Command(mine)) {
		t.Error("receives over the closed connection wait on")
	}
	h.publish("q", 1)
	if len(second.Leased) != 1 {
		t.Error("the next consumer is not active")
	}
	h.round(func() { h.m.CloseConn(h.now, &CloseConn{Conn: 7}) }) // again
	if len(h.m.conns) != 1 {
		t.Errorf("%d connections are remembered", len(h.m.conns))
	}
	// None survives an open.
	again := &Declare{Conn: 8, Topology: &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "mine", Exclusive: true, Lease: time.Second}}}}
	h.round(func() { h.m.Declare(h.store, again) })
	h.m = h.store.reopen(h.now, defaultLimits)
	h.round(func() {})
	if again.Err != nil || len(h.store.queues) != 1 {
		t.Errorf("after an open there are %d queues (%v)", len(h.store.queues), again.Err)
	}
}

// singleModel drives a queue with a single active consumer at random. Whatever
// its consumers do, messages are handled by one of them at a time, and in
// order.
type singleModel struct {
	*harness
	rand    *rand.Rand
	waiting []*Receive
	held    map[uint64]singleHeld // by number
	acked   map[uint64]bool
	last    uint64
}

type singleHeld struct {
	consumer string
	token    lease.Token
	until    lease.Instant
}

func (m *singleModel) end() {
	m.t.Helper()
	for _, c := range m.m.Finished {
		r := c.(*Receive)
		if r.Err != nil {
			m.t.Fatal(r.Err)
		}
		m.waiting = slices.DeleteFunc(m.waiting, func(w *Receive) bool { return w == r })
		for _, l := range r.Leased {
			for seq, h := range m.held {
				if h.consumer != r.Request.Consumer {
					m.t.Fatalf("%s got message %d while %s holds %d", r.Request.Consumer, l.Seq, h.consumer, seq)
				}
			}
			for seq := uint64(1); seq < l.Seq; seq++ {
				if _, held := m.held[seq]; !held && !m.acked[seq] {
					m.t.Fatalf("message %d was delivered before %d", l.Seq, seq)
				}
			}
			m.held[l.Seq] = singleHeld{r.Request.Consumer, l.Token, m.now.Mono.Add(r.TTL)}
		}
	}
	m.m.Finished = nil
}

func (m *singleModel) step() {
	for seq, h := range m.held {
		if h.until < m.now.Mono {
			delete(m.held, seq)
		}
	}
	m.round(func() {
		switch m.rand.IntN(8) {
		case 0:
			m.publishOne()
		case 1, 2:
			m.waiting = append(m.waiting, m.wait("q", fmt.Sprint("c", m.rand.IntN(3)), 1+m.rand.IntN(3)))
		case 3:
			if len(m.waiting) > 0 {
				m.m.GiveUp(&GiveUp{Receive: m.waiting[m.rand.IntN(len(m.waiting))]})
			}
		case 4:
			m.m.Detach(m.now, m.store, &Detach{Queue: "q", Consumer: fmt.Sprint("c", m.rand.IntN(3))})
		default:
			m.settleOne()
		}
	})
	m.end()
	switch m.rand.IntN(60) {
	case 0:
		m.m = m.store.reopen(m.now, defaultLimits)
		m.waiting = nil
		for seq, h := range m.held { // with its whole lease anew
			h.until = m.now.Mono.Add(5 * time.Second)
			m.held[seq] = h
		}
	case 1, 2, 3, 4, 5, 6, 7, 8:
		m.pass(time.Duration(m.rand.IntN(3000)) * time.Millisecond)
	}
}

func (m *singleModel) publishOne() {
	m.last++
	m.m.Publish(m.now, m.store, m.store, &Publish{Publishings: []queuedriver.Publishing{
		{Route: queuedriver.Route{Key: "q"}, Message: &queuedriver.Message{ID: fmt.Sprint(m.last)}},
	}})
}

func (m *singleModel) settleOne() {
	for seq, h := range m.held {
		s := queuedriver.Settlement{Ref: queuedriver.Ref{Queue: "q", Seq: seq, Token: h.token}, Verb: queuedriver.Ack}
		if m.rand.IntN(3) == 0 {
			s.Verb = queuedriver.Release
		}
		c := &Settle{Settlements: []queuedriver.Settlement{s}}
		m.m.Settle(m.now, m.store, m.store, c)
		if err := c.Outcomes[0].Err; err != nil {
			m.t.Fatalf("settling %d: %v", seq, err)
		}
		delete(m.held, seq)
		if s.Verb == queuedriver.Ack {
			m.acked[seq] = true
		}
		return
	}
}

func TestSingleActiveModel(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			top := &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q", SingleActive: true, Lease: 5 * time.Second}}}
			m := &singleModel{
				harness: newHarness(t, top), rand: rand.New(rand.NewPCG(seed, 5)),
				held: make(map[uint64]singleHeld), acked: make(map[uint64]bool),
			}
			for range 600 {
				m.step()
			}
			// Whoever is silent is relieved: one who asks gets everything.
			for range 10_000 {
				if len(m.acked) == int(m.last) {
					break
				}
				m.pass(time.Second)
				for seq, h := range m.held {
					if h.until < m.now.Mono {
						delete(m.held, seq)
					}
				}
				m.round(func() {
					for _, r := range m.waiting {
						m.m.GiveUp(&GiveUp{Receive: r})
					}
					m.waiting = append(m.waiting, m.wait("q", "last", 10))
				})
				m.end()
				m.round(m.settleOne)
				m.end()
			}
			if len(m.acked) != int(m.last) {
				t.Fatalf("%d of %d messages were handled", len(m.acked), m.last)
			}
		})
	}
}

// Consumers that all leave at once cost no look at all others each.
func TestDetachOfMany(t *testing.T) {
	const n = 2000
	h := newHarness(t, &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q", AutoDelete: true}}})
	h.round(func() {
		for i := range n {
			h.wait("q", fmt.Sprint(i), 1)
		}
	})
	h.round(func() {
		for i := range n {
			if h.m.queues["q"] == nil {
				t.Fatalf("the queue is gone with %d consumers", n-i)
			}
			h.m.Detach(h.now, h.store, &Detach{Queue: "q", Consumer: fmt.Sprint(i)})
		}
		if h.m.queues["q"] != nil {
			t.Error("the queue outlives its last consumer")
		}
		if h.m.steps > n+dropSteps {
			t.Errorf("%d steps", h.m.steps)
		}
	})
}
