package machine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// streamModel drives streams at random and checks what they promise: offsets
// without gaps from the first on, what retention says is kept, waiting readers
// get all that comes, saved offsets stay, and nothing of the messages is in
// memory.
type streamModel struct {
	t     *testing.T
	r     *rand.Rand
	now   Time
	store *fakeStore
	m     *Queues
	spec  queuedriver.Queue

	next    uint64          // offset of the next message
	stored  []lease.Instant // of each message; [0] is offset 1
	reached uint64          // First has been here
	purged  uint64          // all before this are gone by a purge
	offsets map[string]uint64
	waiting map[*ReadStream]uint64 // by the offset that each waits for
}

func newStreamModel(t *testing.T, seed uint64) *streamModel {
	t.Helper()
	m := &streamModel{
		t: t, r: rand.New(rand.NewPCG(seed, 9)), now: Time{Mono: 1, Wall: benchWall}, store: newFakeStore(), next: 1,
		offsets: make(map[string]uint64), waiting: make(map[*ReadStream]uint64),
		spec: queuedriver.Queue{Name: "s", Type: queuedriver.Stream},
	}
	if seed&1 != 0 {
		m.spec.Retention.Messages = 3000
	}
	if seed&2 != 0 {
		m.spec.Retention.Bytes = 20_000
	}
	if seed&4 != 0 {
		m.spec.Retention.Age = 30 * time.Second
	}
	m.m = m.store.reopen(m.now, defaultLimits)
	m.m.Declare(m.store, &Declare{Topology: &queuedriver.Topology{Queues: []queuedriver.Queue{m.spec}}})
	m.end()
	return m
}

func (m *streamModel) end() {
	m.t.Helper()
	m.m.Dispatch(m.now, m.store, m.store)
	m.store.commit()
	if f := m.m.Faults(); len(f) > 0 {
		m.t.Fatalf("faults: %v", f)
	}
	q := m.m.queues["s"]
	for ; m.next < q.counters.NextSeq; m.next++ {
		m.stored = append(m.stored, m.now.Mono)
	}
	for _, c := range m.m.Finished {
		r := c.(*ReadStream)
		want, waited := m.waiting[r]
		delete(m.waiting, r)
		if r.Err != nil || waited && r.Fresh != nil && (r.From != want || r.From+uint64(len(r.Fresh)) > r.End) {
			m.t.Fatalf("a reader of %d got %d from %d to %d: %v", want, len(r.Fresh), r.From, r.End, r.Err)
		}
	}
	m.m.Finished = nil
	m.check(q)
}

func (m *streamModel) check(q *queue) {
	m.t.Helper()
	first := q.first()
	if first < m.reached {
		m.t.Fatalf("the first offset went back from %d to %d", m.reached, first)
	}
	for n := m.reached; n < first; n++ {
		if n >= m.purged && n > 0 && !m.mayDrop(n, q) {
			m.t.Fatalf("offset %d of %d was dropped before its time", n, m.next)
		}
	}
	m.reached = first
	if c := q.counters; c.Live != int64(c.NextSeq-first) || c.Bytes < 0 || c.Live == 0 && c.Bytes != 0 {
		m.t.Fatalf("from %d to %d there are %+v", first, c.NextSeq, c)
	}
	if q.levels[0].ready.len() != 0 || len(q.segments) != 0 {
		m.t.Fatal("messages of a stream are in memory")
	}
	if !maps.Equal(q.stream.offsets, m.offsets) {
		m.t.Fatalf("offsets are %v, want %v", q.stream.offsets, m.offsets)
	}
}

// mayDrop reports whether any bound of the retention lets message n go.
func (m *streamModel) mayDrop(n uint64, q *queue) bool {
	keep := m.spec.Retention
	left := int64(m.next - n - 1)
	return keep.Messages > 0 && left >= keep.Messages ||
		keep.Bytes > 0 && 10*left >= keep.Bytes ||
		keep.Age > 0 && m.now.Mono.Sub(m.stored[n-1]) > keep.Age
}

func (m *streamModel) step() {
	m.m.Tick(m.now, m.store, m.store)
	switch m.r.IntN(9) {
	case 0, 1, 2:
		m.publish(1 + m.r.IntN(1500))
	case 3, 4:
		r := &ReadStream{Request: &queuedriver.StreamRequest{Queue: "s", From: queuedriver.FromNext, Max: 10, Wait: time.Minute}}
		m.waiting[r] = m.m.queues["s"].counters.NextSeq
		m.m.ReadStream(r)
	case 5:
		for r := range m.waiting {
			m.m.LeaveStream(&LeaveStream{Read: r})
			break
		}
	case 6:
		name, offset := fmt.Sprint("c", m.r.IntN(5)), 1+m.r.Uint64N(m.next)
		c := &SaveOffset{Stream: "s", Consumer: name, Offset: offset}
		if m.m.SaveOffset(m.store, c); c.Err != nil {
			m.t.Fatal(c.Err)
		}
		m.offsets[name] = offset
	case 7:
		m.m.DeleteOffset(m.store, &DeleteOffset{Stream: "s", Consumer: "c0"})
		delete(m.offsets, "c0")
	case 8:
		if m.r.IntN(20) == 0 {
			c := &Purge{Queue: "s"}
			if m.m.Purge(m.store, c); c.Err != nil {
				m.t.Fatal(c.Err)
			}
			m.purged = m.next
		}
	}
	m.end()
	if m.r.IntN(30) == 0 {
		m.crash()
	}
	d := time.Duration(m.r.IntN(4000)) * time.Millisecond
	m.now.Mono, m.now.Wall = m.now.Mono.Add(d), m.now.Wall+int64(d)
	if m.r.IntN(40) == 0 { // the clock is set; over a crash that could not be told
		m.now.Wall += int64(m.r.IntN(7200)-3600) * int64(time.Second)
		m.m.Tick(m.now, m.store, m.store)
		m.end()
	}
}

func (m *streamModel) publish(n int) {
	c := &Publish{}
	for range n {
		msg := &queuedriver.Message{Body: make([]byte, 10)}
		if m.r.IntN(50) == 0 {
			msg.Delay = time.Duration(1+m.r.IntN(3000)) * time.Millisecond
		}
		c.Publishings = append(c.Publishings, queuedriver.Publishing{Route: queuedriver.Route{Key: "s"}, Message: msg, Mandatory: true})
	}
	m.m.Publish(m.now, m.store, m.store, c)
}

// crash forgets what is not committed. Ages are then known by the wall clock
// only: what was stored while it was ahead or behind may be off by that.
func (m *streamModel) crash() {
	m.waiting = make(map[*ReadStream]uint64)
	m.m = m.store.reopen(m.now, defaultLimits)
	if m.spec.Retention.Age == 0 {
		return
	}
	for i := range m.stored {
		if n := uint64(i + 1); n >= m.reached {
			rec, err := m.store.Message(1, 0, n)
			if err != nil {
				m.t.Fatal(err)
			}
			m.stored[i] = min(m.stored[i], m.now.Mono.Add(-time.Duration(max(0, m.now.Wall-rec.Published))))
		}
	}
}

// wantKept: when all is quiet no more is kept than the retention and a segment.
func (m *streamModel) wantKept() {
	m.t.Helper()
	for range 100 {
		m.m.Tick(m.now, m.store, m.store)
		m.end()
	}
	const segment = 4096
	left := m.m.queues["s"].counters.Live
	keep := m.spec.Retention
	if keep.Messages > 0 && left > keep.Messages+segment || keep.Bytes > 0 && 10*left > keep.Bytes+10*segment {
		m.t.Fatalf("%d messages are kept", left)
	}
	if keep.Age > 0 {
		for range 100 { // first come the delayed ones
			m.now.Mono, m.now.Wall = m.now.Mono.Add(10*time.Minute), m.now.Wall+int64(10*time.Minute)
			m.m.Tick(m.now, m.store, m.store)
			m.end()
		}
		if left := m.m.queues["s"].counters.Live; left > 0 {
			m.t.Fatalf("%d messages are kept for ever", left)
		}
	}
	if n := len(m.store.queues[1].blocks); m.m.queues["s"].counters.Live == 0 && n != 0 {
		m.t.Fatalf("%d blocks are left of nothing", n)
	}
}

func TestStreamModel(t *testing.T) {
	for seed := range uint64(48) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			m := newStreamModel(t, seed)
			for range 150 {
				m.step()
			}
			m.wantKept()
		})
	}
}
