package machine

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// commitModel makes random commits over queues and locks, good ones and ones
// of which some part cannot be done, and holds them against a naive model:
// a commit does everything or leaves no trace.
type commitModel struct {
	t     *testing.T
	rand  *rand.Rand
	now   Time
	store *fakeStore
	m     *Queues
	l     *Locks
	c     *Commits

	published int
	msgs      map[string]*commitMessage
	locks     map[string]*commitLock
	results   map[string]*commitResult
	streamed  int64 // messages in the stream
	oldRefs   []queuedriver.Ref
	oldLocks  []queuedriver.LockRef
	committed int
	refused   map[string]int
}

type commitMessage struct {
	id, queue string
	attempts  int
	ref       queuedriver.Ref // Token 0: not held
	until     lease.Instant
	ttl       time.Duration
}

type commitLock struct {
	ref   queuedriver.LockRef
	ttl   time.Duration
	until lease.Instant
}

type commitResult struct {
	txn    *queuedriver.Txn
	digest [32]byte
	until  int64
	result *queuedriver.TxnResult
}

const commitLimit = 2 // attempts

func newCommitModel(t *testing.T, seed int64) *commitModel {
	t.Helper()
	m := &commitModel{
		t: t, rand: rand.New(rand.NewPCG(uint64(seed), 1)), store: newFakeStore(),
		now:  Time{Mono: 1, Wall: 1_700_000_000_000_000_000},
		msgs: make(map[string]*commitMessage), locks: make(map[string]*commitLock), results: make(map[string]*commitResult),
		refused: make(map[string]int),
	}
	m.reopen()
	top := &queuedriver.Topology{
		Exchanges: []queuedriver.Exchange{{Name: "all", Kind: queuedriver.Fanout}},
		Queues: []queuedriver.Queue{
			{Name: "a", DeadLetter: &queuedriver.Route{Key: "graves"}, DeliveryLimit: commitLimit, DedupWindow: time.Hour},
			{Name: "b", DedupWindow: time.Hour},
			{Name: "c", MaxPriority: 4},
			{Name: "graves"},
			{Name: "s", Type: queuedriver.Stream},
		},
		Bindings: []queuedriver.Binding{{Exchange: "all", Queue: "b"}, {Exchange: "all", Queue: "c"}, {Exchange: "all", Queue: "s"}},
	}
	if err := top.Validate(&queuedriver.Caps{MinLease: time.Second, MaxLease: time.Hour, Priorities: true, Streams: true}); err != nil {
		t.Fatal(err)
	}
	d := &Declare{Topology: top}
	m.m.Declare(m.store, d)
	if d.Err != nil {
		t.Fatal(d.Err)
	}
	m.endRound()
	return m
}

func (m *commitModel) reopen() {
	m.m = m.store.reopen(m.now, defaultLimits)
	m.l = NewLocks(m.m.tokens, [16]byte{})
	for _, name := range slices.Sorted(maps.Keys(m.store.locks)) {
		r := m.store.locks[name]
		m.l.Restore(m.now, name, &r)
	}
	m.c = NewCommits(m.m, m.l)
	for at := range m.store.results {
		m.c.RestoreBucket(at.class, at.bucket)
	}
}

// crash forgets what is not committed. Leases live on in full.
func (m *commitModel) crash() {
	m.reopen()
	for _, msg := range m.msgs {
		if msg.ref.Token != 0 {
			msg.until = m.now.Mono.Add(msg.ttl)
		}
	}
	for _, l := range m.locks {
		l.until = m.now.Mono.Add(l.ttl)
	}
	m.endRound()
}

func (m *commitModel) tick() {
	m.l.Tick(m.now, m.store)
	m.m.Tick(m.now, m.store, m.store)
	m.c.Tick(m.now, m.store)
}

// endRound dispatches, commits, and takes note of what was delivered.
func (m *commitModel) endRound() {
	m.t.Helper()
	m.m.Dispatch(m.now, m.store, m.store)
	m.l.Write(m.now, m.store)
	m.store.commit()
	if f := m.m.Faults(); len(f) > 0 {
		m.t.Fatalf("faults: %v", f)
	}
	for _, c := range m.m.Finished {
		r := c.(*Receive)
		for _, l := range r.Leased {
			rec, err := m.store.Message(r.QueueID, l.Block, l.Seq)
			if err != nil {
				m.t.Fatal(err)
			}
			msg := m.msgs[r.Request.Queue+"/"+rec.ID]
			if msg == nil || msg.ref.Token != 0 || l.Attempt != msg.attempts+1 {
				m.t.Fatalf("%s of %s delivered as attempt %d, the model has %+v", rec.ID, r.Request.Queue, l.Attempt, msg)
			}
			msg.ref = queuedriver.Ref{Queue: r.Request.Queue, Seq: l.Seq, Token: l.Token}
			msg.ttl, msg.until = r.TTL, m.now.Mono.Add(r.TTL)
		}
	}
	m.m.Finished = nil
}

// pass lets time go by, and leases run out.
func (m *commitModel) pass(d time.Duration) {
	m.now.Mono = m.now.Mono.Add(d)
	m.now.Wall += int64(d)
	for _, msg := range m.sorted() {
		if msg.ref.Token != 0 && msg.until < m.now.Mono {
			m.oldRefs = append(m.oldRefs, msg.ref)
			m.failed(msg)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.locks)) { // a seed replays
		if l := m.locks[name]; l.until < m.now.Mono {
			m.oldLocks = append(m.oldLocks, l.ref)
			delete(m.locks, name)
		}
	}
	m.tick()
	m.endRound()
}

func (m *commitModel) sorted() []*commitMessage {
	var out []*commitMessage
	for _, key := range slices.Sorted(maps.Keys(m.msgs)) {
		out = append(out, m.msgs[key])
	}
	return out
}

// failed ends an attempt, and reports whether the message is dead.
func (m *commitModel) failed(msg *commitMessage) bool {
	msg.ref.Token = 0
	if msg.attempts++; msg.queue != "a" || msg.attempts < commitLimit {
		return false
	}
	m.bury(msg)
	return true
}

func (m *commitModel) bury(msg *commitMessage) {
	m.remove(msg)
	m.add("graves", msg.id)
}

func (m *commitModel) remove(msg *commitMessage) { delete(m.msgs, msg.queue+"/"+msg.id) }

func (m *commitModel) add(queue, id string) {
	m.msgs[queue+"/"+id] = &commitMessage{id: id, queue: queue}
}

// known reports whether a queue has seen an id: all that were ever published
// are within the window.
func (m *commitModel) known(queue, id string) bool {
	for _, f := range m.store.queues {
		if f.rec.Spec.Name != queue {
			continue
		}
		for _, ids := range f.seen {
			if ids[id] {
				return true
			}
		}
	}
	return false
}

func (m *commitModel) receive(queue string) {
	m.tick()
	m.m.Receive(m.now, &Receive{Received: m.now.Mono, Request: &queuedriver.ReceiveRequest{
		Queue: queue, Consumer: "c", Max: 1 + m.rand.IntN(4), MaxBytes: 1 << 20,
		Lease: []time.Duration{5 * time.Second, time.Hour}[m.rand.IntN(2)],
	}})
	m.endRound()
}

func (m *commitModel) acquire() {
	m.tick()
	name := fmt.Sprint("n", m.rand.IntN(4))
	c := &Acquire{Received: m.now.Mono, Request: &lockdriver.Request{
		Name: name, Holder: fmt.Sprint("h", m.rand.IntN(3)), TTL: []time.Duration{5 * time.Second, time.Hour}[m.rand.IntN(2)],
	}}
	m.l.Acquire(m.now, m.store, c)
	if c.Grant != nil && m.locks[name] == nil {
		m.locks[name] = &commitLock{
			ref: queuedriver.LockRef{Name: name, Holder: c.Request.Holder, Token: c.Grant.Token},
			ttl: c.Request.TTL, until: m.now.Mono.Add(c.Request.TTL),
		}
	} else if c.Grant != nil { // a repeat, which renews: what was given is never taken back
		l := m.locks[name]
		l.until, l.ttl = max(l.until, m.now.Mono.Add(c.Request.TTL)), max(l.ttl, c.Request.TTL)
	}
	m.endRound()
}

// step does one thing; mostly it commits.
func (m *commitModel) step() {
	switch m.rand.IntN(10) {
	case 0:
		m.receive("a")
	case 1:
		m.receive("b")
	case 2:
		m.receive([]string{"c", "graves"}[m.rand.IntN(2)])
	case 3:
		m.acquire()
	case 4:
		if m.rand.IntN(3) == 0 {
			m.pass(time.Duration(m.rand.IntN(3000)) * time.Millisecond)
		}
		if m.rand.IntN(20) == 0 {
			m.crash()
		}
	default:
		m.commit(m.txn())
	}
	m.compare()
}

// compare holds the queues and the locks against the model.
func (m *commitModel) compare() {
	m.t.Helper()
	have := make(map[string]bool)
	for _, queue := range []string{"a", "b", "c", "graves"} {
		c := &PeekMessages{Request: &queuedriver.PeekRequest{Queue: queue, Max: queuedriver.MaxPeek}}
		m.m.Peek(m.now, m.store, c)
		if c.Err != nil {
			m.t.Fatal(c.Err)
		}
		for _, p := range c.Peeked {
			key := queue + "/" + p.Message.ID
			msg := m.msgs[key]
			if have[key] || msg == nil || (p.State == queuedriver.InFlight) != (msg.ref.Token != 0) {
				m.t.Fatalf("%s is there as %s, the model has %+v", key, p.State, msg)
			}
			have[key] = true
		}
	}
	if n := m.m.queues["s"].counters.Live; n != m.streamed {
		m.t.Fatalf("%d messages are in the stream, the model has %d", n, m.streamed)
	}
	if len(have) != len(m.msgs) {
		m.t.Fatalf("%d messages are there, the model has %d", len(have), len(m.msgs))
	}
	for name, l := range m.locks {
		if err := m.c.checkLock(&l.ref); err != nil {
			m.t.Fatalf("%s: %v", name, err)
		}
	}
	for id, want := range m.results {
		c := &ReadResult{ID: id}
		m.c.Read(m.now, m.store, c)
		if want.until <= m.now.Wall {
			if !errors.Is(c.Err, lease.ErrNotFound) {
				m.t.Fatalf("result %s after its time: %+v, %v", id, c.Result, c.Err)
			}
			continue
		}
		if c.Err != nil || !sameResult(c.Result, want.result) {
			m.t.Fatalf("result %s: %+v, %v, want %+v", id, c.Result, c.Err, want.result)
		}
	}
}

func sameResult(a, b *queuedriver.TxnResult) bool {
	return bytes.Equal(a.Result, b.Result) && slices.Equal(a.Settled, b.Settled) && slices.Equal(a.Receipts, b.Receipts)
}

// dump is all that is stored and decides, but for what goes by itself.
func (m *commitModel) dump() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(m.store.queues)) {
		f := m.store.queues[id]
		q := m.m.queues[f.rec.Spec.Name]
		counters := q.counters
		counters.SeenBucket = 0
		fmt.Fprintln(&b, f.rec.Spec.Name, counters, len(f.blocks), f.attempts, f.fetches, f.delayed, f.seen,
			q.loaded(), len(q.returned.es), len(q.flights), len(q.attempts), len(q.seen), len(q.pending))
		for _, n := range slices.Sorted(maps.Keys(f.acks)) {
			fmt.Fprintln(&b, n, *f.acks[n])
		}
	}
	fmt.Fprintln(&b, m.store.locks, m.store.results, m.store.reserved, m.m.tokens.last)
	return b.String()
}

func TestCommitModel(t *testing.T) {
	refused := make(map[string]int)
	committed := 0
	for seed := range int64(60) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			m := newCommitModel(t, seed)
			for range 400 {
				m.step()
			}
			committed += m.committed
			for why, n := range m.refused {
				refused[why] += n
			}
		})
	}
	t.Logf("%d commits, refused %v", committed, refused)
	if committed < 4000 {
		t.Errorf("only %d commits", committed)
	}
	for _, why := range []string{"id", "settle", "publish", "release", "require", "full", "unread", "repeated"} {
		if refused[why] < 50 {
			t.Errorf("only %d commits refused for %s", refused[why], why)
		}
	}
}
