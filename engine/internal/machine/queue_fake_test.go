package machine

import (
	"fmt"
	"math"
	"slices"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// fakeStore keeps in maps what the real store keeps on disk. As a Changes it
// collects a round; commit makes the round visible to it as a View.
type fakeStore struct {
	round []func()

	reserved  uint64
	locks     map[string]record.Lock
	exchanges map[string]queuedriver.Exchange
	bindings  map[string]queuedriver.Binding
	queues    map[uint32]*fakeQueue
	schedules map[string]queuedriver.Schedule
	states    map[string]record.ScheduleState
	results   map[fakeResult]record.Result
}

// fakeResult is where a result of a commit lies.
type fakeResult struct {
	class  byte
	bucket int64
	id     string
}

type fakeQueue struct {
	rec      record.Queue
	counters *record.Counters
	lower    []record.Level
	blocks   map[uint64]NewBlock
	bodies   map[uint64]bool // of blocks
	acks     map[uint64]*record.AckSet
	attempts map[uint64]record.Attempt
	fetches  map[uint64]record.Fetch
	delayed  map[[2]int64]record.Delayed
	seen     map[int64]map[string]bool
	offsets  map[string]uint64
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		locks:     make(map[string]record.Lock),
		exchanges: make(map[string]queuedriver.Exchange),
		bindings:  make(map[string]queuedriver.Binding),
		queues:    make(map[uint32]*fakeQueue),
		schedules: make(map[string]queuedriver.Schedule),
		states:    make(map[string]record.ScheduleState),
		results:   make(map[fakeResult]record.Result),
	}
}

func (s *fakeStore) commit() {
	for _, f := range s.round {
		f()
	}
	s.round = nil
}

func (s *fakeStore) add(f func())              { s.round = append(s.round, f) }
func (s *fakeStore) ReserveTokens(upTo uint64) { s.add(func() { s.reserved = upTo }) }
func (s *fakeStore) DeleteLock(name string)    { s.add(func() { delete(s.locks, name) }) }
func (s *fakeStore) PutLock(name string, l *record.Lock) {
	c := *l
	c.Grants = slices.Clone(l.Grants)
	s.add(func() { s.locks[name] = c })
}

func (s *fakeStore) PutExchange(e *queuedriver.Exchange) {
	c := *e
	s.add(func() { s.exchanges[c.Name] = c })
}
func (s *fakeStore) DeleteExchange(name string) { s.add(func() { delete(s.exchanges, name) }) }

func (s *fakeStore) PutQueue(q *record.Queue) {
	c := *q
	s.add(func() {
		s.queues[c.ID] = &fakeQueue{
			rec:      c,
			blocks:   make(map[uint64]NewBlock),
			bodies:   make(map[uint64]bool),
			acks:     make(map[uint64]*record.AckSet),
			attempts: make(map[uint64]record.Attempt),
			fetches:  make(map[uint64]record.Fetch),
			delayed:  make(map[[2]int64]record.Delayed),
			seen:     make(map[int64]map[string]bool),
			offsets:  make(map[string]uint64),
		}
	})
}

func (s *fakeStore) DeleteQueue(q *record.Queue) {
	id := q.ID
	s.add(func() { delete(s.queues, id) })
}

func (s *fakeStore) PutBinding(b *queuedriver.Binding) {
	c := *b
	s.add(func() { s.bindings[fmt.Sprint(c)] = c })
}

func (s *fakeStore) DeleteBinding(b *queuedriver.Binding) {
	key := fmt.Sprint(*b)
	s.add(func() { delete(s.bindings, key) })
}

// of runs f on queue q when the round is committed.
func (s *fakeStore) of(q uint32, f func(*fakeQueue)) { s.add(func() { f(s.queues[q]) }) }

func (s *fakeStore) Append(q uint32, _ uint64, _ int64, blocks []NewBlock) {
	for _, b := range blocks {
		b.Messages = slices.Clone(b.Messages)
		s.of(q, func(f *fakeQueue) {
			if _, ok := f.blocks[b.Index.FirstSeq]; ok {
				panic("block stored twice")
			}
			f.blocks[b.Index.FirstSeq] = b
			f.bodies[b.Index.FirstSeq] = true
		})
	}
}

func (s *fakeStore) Ack(q uint32, runs []record.Run) {
	runs = slices.Clone(runs)
	s.of(q, func(f *fakeQueue) {
		for _, r := range runs {
			n := r.From / record.SegmentSize
			if f.acks[n] == nil {
				f.acks[n] = &record.AckSet{}
			}
			f.acks[n].Add(r.From, int(r.Len))
		}
	})
}

func (s *fakeStore) DropBody(q uint32, first uint64) {
	s.of(q, func(f *fakeQueue) {
		b := f.blocks[first]
		for i := range b.Messages {
			if a := f.acks[first/record.SegmentSize]; a == nil || !a.Has(first+uint64(i)) {
				panic("body dropped before it was acked")
			}
		}
		delete(f.bodies, first)
	})
}

func (s *fakeStore) DropSegments(q uint32, from, to uint64) {
	s.of(q, func(f *fakeQueue) {
		for first := range f.blocks {
			if n := first / record.SegmentSize; n >= from && n < to {
				delete(f.blocks, first)
				delete(f.bodies, first)
			}
		}
		for n := range f.acks {
			if n >= from && n < to {
				delete(f.acks, n)
			}
		}
	})
}

func (s *fakeStore) PutAttempt(q uint32, seq uint64, a record.Attempt) {
	s.of(q, func(f *fakeQueue) { f.attempts[seq] = a })
}
func (s *fakeStore) DeleteAttempt(q uint32, seq uint64) {
	s.of(q, func(f *fakeQueue) { delete(f.attempts, seq) })
}
func (s *fakeStore) PutFetch(q uint32, id uint64, r *record.Fetch) {
	c := *r
	s.of(q, func(f *fakeQueue) { f.fetches[id] = c })
}
func (s *fakeStore) DeleteFetch(q uint32, id uint64) {
	s.of(q, func(f *fakeQueue) { delete(f.fetches, id) })
}
func (s *fakeStore) PutDelayed(q uint32, d *record.Delayed) {
	c := *d
	s.of(q, func(f *fakeQueue) { f.delayed[[2]int64{c.Due, int64(c.Seq)}] = c })
}
func (s *fakeStore) DeleteDelayed(q uint32, at record.DelayedAt, _ string) {
	s.of(q, func(f *fakeQueue) { delete(f.delayed, [2]int64{at.Due, int64(at.Seq)}) })
}
func (s *fakeStore) DropDelayed(q uint32) { s.of(q, func(f *fakeQueue) { clear(f.delayed) }) }
func (s *fakeStore) PassDelayed(q uint32, due int64) {
	s.of(q, func(f *fakeQueue) {
		for at := range f.delayed {
			if at[0] < due {
				panic("passed a delayed message")
			}
		}
	})
}
func (s *fakeStore) PutSeen(q uint32, bucket int64, id string) {
	s.of(q, func(f *fakeQueue) {
		if f.seen[bucket] == nil {
			f.seen[bucket] = make(map[string]bool)
		}
		f.seen[bucket][id] = true
	})
}
func (s *fakeStore) DropSeen(q uint32, below int64) {
	s.of(q, func(f *fakeQueue) {
		for b := range f.seen {
			if b < below {
				delete(f.seen, b)
			}
		}
	})
}
func (s *fakeStore) PutCounters(q uint32, c *record.Counters) {
	v := *c
	s.of(q, func(f *fakeQueue) { f.counters = &v })
}

func (s *fakeStore) PutResult(class byte, bucket int64, id string, r *record.Result) {
	c := *r
	s.add(func() { s.results[fakeResult{class, bucket, id}] = c })
}
func (s *fakeStore) DropResults(class byte, below int64) {
	s.add(func() {
		for at := range s.results {
			if at.class == class && at.bucket < below {
				delete(s.results, at)
			}
		}
	})
}
func (s *fakeStore) Result(class byte, bucket int64, id string) (*record.Result, error) {
	r, ok := s.results[fakeResult{class, bucket, id}]
	if !ok {
		return nil, nil
	}
	return &r, nil
}

func (s *fakeStore) PutLevels(q uint32, lower []record.Level) {
	v := slices.Clone(lower)
	s.of(q, func(f *fakeQueue) { f.lower = v })
}

func (s *fakeStore) PutOffset(q uint32, consumer string, offset uint64) {
	s.of(q, func(f *fakeQueue) { f.offsets[consumer] = offset })
}
func (s *fakeStore) DeleteOffset(q uint32, consumer string) {
	s.of(q, func(f *fakeQueue) { delete(f.offsets, consumer) })
}

func (s *fakeStore) PutSchedule(spec *queuedriver.Schedule) {
	c := *spec
	s.add(func() { s.schedules[c.Name] = c })
}
func (s *fakeStore) PutScheduleState(name string, state *record.ScheduleState) {
	c := *state
	s.add(func() { s.states[name] = c })
}
func (s *fakeStore) DeleteSchedule(name string) {
	s.add(func() {
		delete(s.schedules, name)
		delete(s.states, name)
	})
}

func (s *fakeStore) LoadIndex(q uint32, from uint64, most int) ([]record.IndexBlock, error) {
	var bs []record.IndexBlock
	for _, b := range s.queues[q].blocks {
		if b.Index.FirstSeq+uint64(len(b.Messages)) > from {
			bs = append(bs, b.Index)
		}
	}
	slices.SortFunc(bs, func(a, b record.IndexBlock) int { return int(int64(a.FirstSeq) - int64(b.FirstSeq)) })
	n, i := 0, 0
	for ; i < len(bs) && n < most; i++ {
		n += len(bs[i].Entries)
	}
	return bs[:i], nil
}

func (s *fakeStore) Message(q uint32, first, seq uint64) (*record.Message, error) {
	f := s.queues[q]
	if first == 0 {
		bs, _ := s.LoadIndex(q, seq, 1)
		first = bs[0].FirstSeq
	}
	b, ok := f.blocks[first]
	if !ok || !f.bodies[first] || seq-first >= uint64(len(b.Messages)) {
		return nil, fmt.Errorf("no message %d in block %d", seq, first)
	}
	return &b.Messages[seq-first], nil
}

func (s *fakeStore) LoadDue(q uint32, from record.DelayedAt, wall int64, most, _ int) (due []record.Delayed, next int64, err error) {
	for _, d := range s.queues[q].delayed {
		if at := (record.DelayedAt{Due: d.Due, Seq: d.Seq}); !at.Before(from) {
			due = append(due, d)
		}
	}
	slices.SortFunc(due, func(a, b record.Delayed) int {
		if a.Due != b.Due {
			return int(a.Due - b.Due)
		}
		return int(a.Seq) - int(b.Seq)
	})
	n := 0
	for n < len(due) && n < most && due[n].Due <= wall {
		n++
	}
	if n < len(due) {
		next = due[n].Due
	}
	return due[:n], next, nil
}

func (s *fakeStore) FindDelayed(q uint32, id string) (at []record.DelayedAt, err error) {
	for _, d := range s.queues[q].delayed {
		if d.ID == id {
			at = append(at, record.DelayedAt{Due: d.Due, Seq: d.Seq})
		}
	}
	return at, nil
}

func (s *fakeStore) Seen(q uint32, from, to int64, id string) (bool, error) {
	for b := from; b <= to; b++ {
		if s.queues[q].seen[b][id] {
			return true, nil
		}
	}
	return false, nil
}

// reopen makes a machine from what is committed, as after a crash.
func (s *fakeStore) reopen(now Time, limits queueLimits) *Queues {
	s.round = nil
	m := NewQueues(NewTokens(s.reserved, now.Wall))
	m.limits = limits
	for _, e := range s.exchanges {
		m.RestoreExchange(e)
	}
	for _, f := range s.queues {
		st := &QueueState{Queue: f.rec, Counters: f.counters, Lower: f.lower, Acks: f.acks, Attempts: f.attempts, Fetches: make(map[uint64]*record.Fetch), Offsets: f.offsets}
		for id, r := range f.fetches {
			st.Fetches[id] = &r
		}
		if _, next, _ := s.LoadDue(f.rec.ID, record.DelayedAt{Due: math.MinInt64}, math.MinInt64, 0, 0); next != 0 {
			st.NextDue = next
		}
		if err := m.RestoreQueue(now, s, st); err != nil {
			panic(err)
		}
	}
	for _, b := range s.bindings {
		if err := m.RestoreBinding(b); err != nil {
			panic(err)
		}
	}
	return m
}
