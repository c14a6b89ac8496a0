package machine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// queueModel drives a machine at random and checks what a queue promises:
// every message is handled until it is acked or dead-lettered, never by two at
// once, never again after that; the messages of one key one after another and
// in order; tokens only grow.
type queueModel struct {
	t      *testing.T
	rand   *rand.Rand
	now    Time
	store  *fakeStore
	m      *Queues
	limits queueLimits
	ranked bool // the queue has priorities instead of keys
	mortal bool // messages have a TTL
	bound  queuedriver.Overflow
	buried map[uint64]bool // maxlen dead letters that were seen

	maxWall      int64 // the latest time by the wall clock, which is set back at times
	waitsForRoom bool  // something may have come due and found no room

	published int
	last      lease.Token
	msgs      map[string]*modelMessage
	keys      map[string][]*modelMessage // in order of publishing, not done
	held      []modelDelivery
	waiting   []*Receive
	scheduled []*modelMessage // in order of publishing; some may be gone
}

type modelMessage struct {
	id, key  string
	done     bool
	priority uint8
	ttl      time.Duration
	expires  int64         // wall time, if it has a TTL and is in the queue
	restored bool          // its delivery was before a crash
	late     bool          // was scheduled: its place in the order is not known
	again    lease.Instant // failed: not before; 1: it is not known when
	due      int64         // wall time, while it is scheduled; 0: it is not
	dead     bool
	attempts int
	until    lease.Instant // live delivery, if any
	token    lease.Token
	order    int
}

type modelDelivery struct {
	ref queuedriver.Ref
	msg *modelMessage
}

const (
	modelLimit    = 4 // attempts
	modelPriority = 3
	modelLength   = 25
	modelBytes    = 100_000
	modelTTL      = 6 * time.Second
)

func newQueueModel(t *testing.T, seed int64) *queueModel {
	t.Helper()
	m := &queueModel{
		t: t, rand: rand.New(rand.NewPCG(uint64(seed), 0)), store: newFakeStore(),
		now:    Time{Mono: 1, Wall: 1_700_000_000_000_000_000},
		limits: queueLimits{window: 16, low: 4, parked: 12, inFlight: 40, attempts: 1000},
		buried: make(map[uint64]bool),
		msgs:   make(map[string]*modelMessage), keys: make(map[string][]*modelMessage),
	}
	if seed%2 == 1 {
		m.limits.attempts = 6 // past which only what has failed before goes on
	}
	if m.ranked = seed%4 == 2; m.ranked {
		m.limits.inFlight = 1000 // the order is strict
	}
	m.m = m.store.reopen(m.now, m.limits)
	top := &queuedriver.Topology{
		Exchanges: []queuedriver.Exchange{{Name: "dead", Kind: queuedriver.Fanout}},
		Queues: []queuedriver.Queue{
			{Name: "work", DeadLetter: &queuedriver.Route{Exchange: "dead"}, DeliveryLimit: modelLimit, DedupWindow: time.Hour},
			{Name: "graves"},
		},
		Bindings: []queuedriver.Binding{{Exchange: "dead", Queue: "graves"}},
	}
	if m.ranked {
		top.Queues[0].MaxPriority = modelPriority
	}
	if m.mortal = seed/12%2 == 1; m.mortal {
		top.Queues[0].MessageTTL = modelTTL
	}
	if m.bound = [...]queuedriver.Overflow{"", queuedriver.DropHead, queuedriver.RejectPublish}[seed/4%3]; m.bound != "" {
		top.Queues[0].MaxLength, top.Queues[0].MaxBytes, top.Queues[0].Overflow = modelLength, modelBytes, m.bound
	}
	if err := top.Validate(&queuedriver.Caps{MinLease: time.Second, MaxLease: time.Hour, Priorities: true, MaxLength: true, MessageTTL: true}); err != nil {
		t.Fatal(err)
	}
	c := &Declare{Topology: top}
	m.m.Declare(m.store, c)
	if c.Err != nil {
		t.Fatal(c.Err)
	}
	m.endRound()
	return m
}

// endRound dispatches, commits, and takes note of what was delivered.
func (m *queueModel) endRound() {
	m.t.Helper()
	m.maxWall = max(m.maxWall, m.now.Wall)
	held := make(map[*modelMessage]bool)
	for _, msg := range m.msgs {
		held[msg] = msg.until != 0
	}
	m.m.Dispatch(m.now, m.store, m.store)
	m.store.commit()
	m.timedOut(held)
	m.overflown(held)
	if f := m.m.Faults(); len(f) > 0 {
		m.t.Fatalf("faults: %v", f)
	}
	for _, c := range m.m.Finished {
		r := c.(*Receive)
		if r.Err != nil {
			m.t.Fatal(r.Err)
		}
		for i, w := range m.waiting {
			if w == r {
				m.waiting = append(m.waiting[:i], m.waiting[i+1:]...)
				break
			}
		}
		for _, l := range r.Leased {
			m.delivered(r, l)
		}
	}
	m.m.Finished = nil
}

func (m *queueModel) delivered(r *Receive, l Leased) {
	m.t.Helper()
	rec, err := m.store.Message(r.QueueID, l.Block, l.Seq)
	if err != nil {
		m.t.Fatal(err)
	}
	if l.Token <= m.last {
		m.t.Fatalf("token %d after %d", l.Token, m.last)
	}
	m.last = l.Token
	msg := m.msgs[rec.ID]
	if r.Request.Queue == "graves" {
		m.bury(msg, rec.Headers, queuedriver.Ref{Queue: "graves", Seq: l.Seq, Token: l.Token})
		return
	}
	if msg.done {
		m.t.Fatalf("%s delivered after its end", msg.id)
	}
	if msg.expires != 0 && msg.expires <= m.now.Wall && msg.due == 0 {
		m.t.Fatalf("%s delivered %v after its time", msg.id, time.Duration(m.now.Wall-msg.expires))
	}
	if msg.until >= m.now.Mono {
		m.t.Fatalf("%s delivered while its lease lives", msg.id)
	}
	if l.Attempt != msg.attempts+1 {
		m.t.Fatalf("%s: attempt %d, want %d", msg.id, l.Attempt, msg.attempts+1)
	}
	if msg.key != "" && m.keys[msg.key][0] != msg {
		m.t.Fatalf("%s of key %s delivered before %s", msg.id, msg.key, m.keys[msg.key][0].id)
	}
	if m.ranked {
		m.wantFirst(msg)
	}
	msg.until, msg.token, msg.again = m.now.Mono.Add(r.TTL), l.Token, 0
	msg.restored = false
	m.held = append(m.held, modelDelivery{queuedriver.Ref{Queue: "work", Seq: l.Seq, Token: l.Token}, msg})
}

// bury checks a dead letter and acks it.
func (m *queueModel) bury(msg *modelMessage, h queuedriver.Headers, ref queuedriver.Ref) {
	m.t.Helper()
	if !msg.dead {
		if h[queuedriver.HeaderDeathReason] != queuedriver.ReasonDeliveryLimit {
			m.t.Fatalf("%s is dead for no reason: %v", msg.id, h)
		}
		msg.attempts++ // its last lease ran out
		if msg.attempts != modelLimit || msg.until >= m.now.Mono {
			m.t.Fatalf("%s is dead after %d attempts", msg.id, msg.attempts)
		}
		m.end(msg)
	}
	m.m.Settle(m.now, m.store, m.store, &Settle{Settlements: []queuedriver.Settlement{{Ref: ref, Verb: queuedriver.Ack}}})
}

func (m *queueModel) end(msg *modelMessage) {
	msg.done = true
	msg.until = 0
	if msg.key != "" {
		if m.keys[msg.key][0] != msg {
			m.t.Fatalf("%s ended out of order", msg.id)
		}
		m.keys[msg.key] = m.keys[msg.key][1:]
	}
}

func (m *queueModel) publish(n int) {
	c := &Publish{}
	for range n {
		msg := &modelMessage{id: fmt.Sprint("m", m.published), order: m.published}
		if m.ranked {
			msg.priority = uint8(m.rand.IntN(modelPriority + 3))
		} else if m.rand.IntN(3) > 0 {
			msg.key = fmt.Sprint("k", m.rand.IntN(12))
		}
		m.published++
		qm := &queuedriver.Message{ID: msg.id, OrderKey: msg.key, Priority: msg.priority, Body: make([]byte, m.rand.IntN(9000))}
		if msg.key == "" && m.rand.IntN(4) == 0 {
			qm.Delay = time.Duration(m.rand.IntN(3000)) * time.Millisecond
			if qm.Delay > 0 {
				msg.due, msg.late = m.now.Wall+int64(qm.Delay), true
				m.scheduled = append(m.scheduled, msg)
			}
		} else if msg.key != "" {
			m.keys[msg.key] = append(m.keys[msg.key], msg)
		}
		m.msgs[msg.id] = msg
		if m.mortal && m.rand.IntN(2) == 0 {
			qm.TTL = time.Duration(1+m.rand.IntN(8)) * time.Second
		}
		if m.mortal {
			msg.ttl = modelTTL
			if qm.TTL > 0 {
				msg.ttl = min(modelTTL, qm.TTL)
			}
			msg.expires = m.now.Wall + int64(msg.ttl)
		}
		p := queuedriver.Publishing{Route: queuedriver.Route{Key: "work"}, Message: qm, Mandatory: true}
		c.Publishings = append(c.Publishings, p)
		if m.rand.IntN(10) == 0 {
			c.Publishings = append(c.Publishings, p) // a repeat
		}
	}
	work := m.m.queues["work"]
	live, bytes := work.counters.Live, work.counters.Bytes
	m.m.Publish(m.now, m.store, m.store, c)
	seen := make(map[string]bool)
	for i, r := range c.Receipts {
		id := c.Publishings[i].Message.ID
		if m.bound == queuedriver.RejectPublish && m.msgs[id].due == 0 && !seen[id] {
			size := int64(len(c.Publishings[i].Message.Body))
			full := live >= modelLength || bytes+size > modelBytes
			if full || errors.Is(r.Err, queuedriver.ErrQueueFull) && m.waitsForRoom {
				if !errors.Is(r.Err, queuedriver.ErrQueueFull) {
					m.t.Fatalf("%s is let into the full queue: %+v", id, r)
				}
				m.forget(m.msgs[id])
				continue
			}
			live, bytes = live+1, bytes+size
		}
		if r.Err != nil || r.Queues != 1 || r.Duplicate != seen[id] {
			m.t.Fatalf("receipt of %s: %+v", id, r)
		}
		seen[id] = true
	}
}

func (m *queueModel) receive(queue string, max int) {
	r := &Receive{Received: m.now.Mono, Request: &queuedriver.ReceiveRequest{
		Queue: queue, Consumer: "c", Max: max, MaxBytes: 1 << 20, Wait: time.Second,
		Lease: time.Duration(1+m.rand.IntN(3)) * time.Second,
	}}
	m.waiting = append(m.waiting, r)
	m.m.Receive(m.now, r)
}

func (m *queueModel) settle() {
	if len(m.held) == 0 {
		return
	}
	i := m.rand.IntN(len(m.held))
	d := m.held[i]
	live := d.msg.token == d.ref.Token && d.msg.until >= m.now.Mono
	s := queuedriver.Settlement{Ref: d.ref, Verb: queuedriver.Verb(1 + m.rand.IntN(5))}
	if m.rand.IntN(3) > 0 {
		s.Verb = queuedriver.Ack
	}
	if s.Verb == queuedriver.Nack {
		s.Delay = time.Duration(m.rand.IntN(2)*m.rand.IntN(2000)) * time.Millisecond
	}
	c := &Settle{Settlements: []queuedriver.Settlement{s}}
	m.m.Settle(m.now, m.store, m.store, c)
	o := c.Outcomes[0]
	if (o.Err == nil) != live {
		m.t.Fatalf("settle %v of %s (live %v): %v", s.Verb, d.msg.id, live, o.Err)
	}
	if s.Verb != queuedriver.Extend {
		m.held = append(m.held[:i], m.held[i+1:]...)
	}
	if !live {
		return
	}
	switch s.Verb {
	case queuedriver.Reject: // dead-lettered, below
	case queuedriver.Ack:
		m.end(d.msg)
	case queuedriver.Nack:
		d.msg.until, d.msg.again = 0, m.now.Mono.Add(s.Delay)
		if d.msg.attempts++; d.msg.restored {
			d.msg.again = 1
		}
		if o.DeadLettered != (d.msg.attempts == modelLimit) {
			m.t.Fatalf("%s: dead-lettered %v after %d attempts", d.msg.id, o.DeadLettered, d.msg.attempts)
		}
	case queuedriver.Release:
		d.msg.until = 0
	case queuedriver.Extend:
		d.msg.until = m.now.Mono.Add(o.TTL)
	}
	if o.DeadLettered {
		d.msg.dead = true
		m.end(d.msg)
	}
}

// pass lets time go by; what runs out counts as an attempt.
func (m *queueModel) pass(d time.Duration) {
	m.now.Mono = m.now.Mono.Add(d)
	m.now.Wall += int64(d)
	for _, msg := range m.msgs {
		if msg.until != 0 && msg.until < m.now.Mono {
			msg.until = 0
			msg.attempts++
			if msg.attempts == modelLimit {
				msg.dead = true
				m.end(msg)
			}
		}
	}
}

// crash forgets all that is not committed. Leases live on in full.
func (m *queueModel) crash() {
	m.m = m.store.reopen(m.now, m.limits)
	m.waiting = nil
	for _, msg := range m.msgs {
		if msg.again != 0 {
			msg.again = 1 // from now on by the wall clock
		}
	}
	for _, f := range m.m.queues["work"].flights {
		for _, msg := range m.msgs {
			if msg.token == f.token {
				msg.until, msg.restored = f.deadline, true
			}
		}
	}
}

func (m *queueModel) step() {
	m.m.Tick(m.now, m.store, m.store)
	m.comeDue()
	for range m.rand.IntN(3) {
		m.cancel()
	}
	switch m.rand.IntN(10) {
	case 0, 1:
		m.publish(1 + m.rand.IntN(8))
	case 2, 3, 4:
		m.receive("work", 1+m.rand.IntN(4))
	case 5:
		m.receive("graves", 5)
	case 6:
		if len(m.waiting) > 0 {
			r := m.waiting[m.rand.IntN(len(m.waiting))]
			m.m.GiveUp(&GiveUp{Receive: r})
		}
	default:
		for range 1 + m.rand.IntN(4) {
			m.settle()
		}
	}
	for range m.rand.IntN(2) {
		m.cancel()
	}
	if m.rand.IntN(100) == 0 {
		m.purge()
	}
	m.endRound()
	m.checkStats()
	if m.rand.IntN(60) == 0 {
		m.crash()
	}
	if m.rand.IntN(50) == 0 { // the wall clock is set, back or forth
		m.now.Wall += int64(m.rand.IntN(120)-60) * int64(time.Second)
	}
	if m.rand.IntN(4) == 0 {
		m.pass(time.Duration(m.rand.IntN(800)) * time.Millisecond)
	}
}

func (m *queueModel) checkStats() {
	m.t.Helper()
	c := &ReadStats{Request: &queuedriver.StatsRequest{Queue: "work"}}
	m.m.Stats(m.now, m.store, c)
	live := 0
	for _, msg := range m.msgs {
		if msg.until != 0 && msg.until >= m.now.Mono {
			live++
		}
	}
	if s := c.Stats[0]; s.InFlight != int64(live) || s.Ready+s.Delayed+s.InFlight != int64(m.left()) {
		m.t.Fatalf("%d are held and %d left, the statistics say %+v", live, m.left(), s)
	}
}

// drain acks everything that is left and checks that nothing is missing.
func (m *queueModel) drain() {
	for range 20_000 {
		if m.left() == 0 {
			break
		}
		m.pass(100 * time.Millisecond)
		m.m.Tick(m.now, m.store, m.store)
		m.comeDue()
		m.receive("work", 10)
		for range 20 {
			m.settle()
		}
		m.endRound()
	}
	if n := m.left(); n > 0 {
		m.t.Fatalf("%d of %d messages were never delivered", n, len(m.msgs))
	}
	work := m.m.queues["work"]
	if c := work.counters; c.Live != 0 || c.Bytes != 0 || c.Delayed != 0 {
		m.t.Fatalf("an empty queue counts %+v", c)
	}
	if len(work.lanes)+len(work.flights)+len(work.attempts)+len(work.waiting)+work.parked != 0 {
		m.t.Fatalf("an empty queue remembers %d lanes, %d flights, %d attempts, %d waiting, %d parked",
			len(work.lanes), len(work.flights), len(work.attempts), len(work.waiting), work.parked)
	}
	if f := m.store.queues[work.id]; len(f.attempts)+len(f.fetches)+len(f.delayed) != 0 {
		m.t.Fatalf("an empty queue has %d attempts, %d fetches, %d delayed stored", len(f.attempts), len(f.fetches), len(f.delayed))
	}
}

func (m *queueModel) left() int {
	n := 0
	for _, msg := range m.msgs {
		if !msg.done {
			n++
		}
	}
	return n
}

func TestQueueModel(t *testing.T) {
	for seed := range int64(200) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			m := newQueueModel(t, seed)
			for range 600 {
				m.step()
			}
			m.drain()
		})
	}
}
