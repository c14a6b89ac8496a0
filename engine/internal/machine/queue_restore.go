package machine

import (
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// QueueState is what the store holds of one queue besides its messages.
type QueueState struct {
	Queue    record.Queue
	Counters *record.Counters // nil: the queue was never touched
	Lower    []record.Level   // nil likewise, or it has no priorities
	Acks     map[uint64]*record.AckSet
	Attempts map[uint64]record.Attempt
	Fetches  map[uint64]*record.Fetch
	NextDue  int64             // of its scheduled messages; 0: none
	Offsets  map[string]uint64 // of a stream, by consumer
}

// RestoreExchange adds an exchange that the store holds.
func (m *Queues) RestoreExchange(e queuedriver.Exchange) { m.exchanges[e.Name] = newExchange(e) }

// RestoreQueueIDs says from which number on none was given to a queue yet:
// that of a deleted one is not given again.
func (m *Queues) RestoreQueueIDs(next uint32) {
	if next > 0 {
		m.lastID = max(m.lastID, next-1)
	}
}

// RestoreBinding adds a binding. Its exchange and where it leads to must have
// been restored.
func (m *Queues) RestoreBinding(b queuedriver.Binding) error {
	e, q, to := m.exchanges[b.Exchange], m.queues[b.Queue], m.exchanges[b.ToExchange]
	if e == nil || q == nil && to == nil {
		return fmt.Errorf("binding %s leads to or from nothing", bindingName(&b))
	}
	e.bind(b, q, to)
	return nil
}

// RestoreQueue adds a queue. Its deliveries have their full lease again: how
// much of it passed nobody knows, and their consumers may still be at work.
func (m *Queues) RestoreQueue(now Time, view View, s *QueueState) error {
	q := m.newQueue(s.Queue.ID, &s.Queue.Spec)
	if s.Counters != nil {
		q.counters, q.written = *s.Counters, *s.Counters
	}
	q.restoreLevels(s.Lower)
	for n, acked := range s.Acks {
		q.segment(n * record.SegmentSize).merge(acked)
	}
	for seq, a := range s.Attempts {
		if !q.restoredAck(seq) {
			q.attempts[seq] = a
		}
	}
	m.add(q)
	m.lastID = max(m.lastID, q.id)
	if s.NextDue > 0 {
		m.due.set(q, s.NextDue)
	}
	if q.counters.Mortal > 0 || q.spec.Overflow == queuedriver.DropHead && q.over(0, 0) {
		m.feed(q) // to know when they time out, and to drop what is too much
	}
	if q.stream != nil {
		m.restoreStream(now, view, q, s.Offsets)
	}
	if q.watched() { // its time begins anew; no connection is left
		q.used, q.orphaned = now.Mono, q.spec.Exclusive
		m.watch(q, now.Mono)
	}
	return m.restoreFetches(now, view, q, s.Fetches)
}

// restoreConsumer brings back the consumer of live deliveries. If only one may
// be active it is that one.
func (m *Queues) restoreConsumer(now Time, q *queue, f *fetch) {
	c, err := m.consumer(q, f.rec.Consumer, now.Mono)
	if err != nil {
		return
	}
	f.consumer = c
	c.fetches++
	if q.spec.SingleActive && q.active == nil {
		q.active = c
	}
}

// restoredAck reports whether seq was acked, before anything is loaded.
func (q *queue) restoredAck(seq uint64) bool {
	if seq < *q.level(seq).head {
		return true
	}
	s := q.segments[segmentOf(seq)]
	return s != nil && s.acked.Has(seq)
}

func (m *Queues) restoreFetches(now Time, view View, q *queue, fetches map[uint64]*record.Fetch) error {
	ids := make([]uint64, 0, len(fetches))
	for id := range fetches {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var at blockCache
	for _, id := range ids {
		rec := fetches[id]
		f := &fetch{id: id, queue: q, rec: *rec, at: now.Mono.Add(rec.TTL), flights: make([]flight, 0, len(rec.Seqs))}
		for i, seq := range rec.Seqs {
			token := rec.FirstToken + lease.Token(i)
			a := q.attempts[seq]
			if q.restoredAck(seq) || a.LastToken >= token {
				continue
			}
			e, expires, ok, err := at.entry(view, q.id, seq)
			if err != nil {
				return err
			}
			if !ok {
				continue // its segment was dropped
			}
			if expires != 0 {
				q.noteExpiry(expires, e)
			}
			f.flights = append(f.flights, flight{entry: e, token: token, deadline: f.at, attempt: a.Count + 1, fetch: f})
		}
		for i := range f.flights {
			q.flights[f.flights[i].seq] = &f.flights[i]
		}
		f.live = len(f.flights)
		if f.live > 0 {
			m.fetches.push(f)
			m.restoreConsumer(now, q, f)
		}
	}
	return nil
}

// blockCache finds entries of messages near each other.
type blockCache struct{ block record.IndexBlock }

func (c *blockCache) entry(view View, q uint32, seq uint64) (e entry, expires int64, ok bool, err error) {
	if b := &c.block; seq < b.FirstSeq || seq >= b.FirstSeq+uint64(len(b.Entries)) {
		blocks, err := view.LoadIndex(q, seq, 1)
		if err != nil {
			return entry{}, 0, false, err
		}
		if len(blocks) == 0 || blocks[0].FirstSeq > seq {
			return entry{}, 0, false, nil
		}
		c.block = blocks[0]
	}
	x := c.block.Entries[seq-c.block.FirstSeq]
	return entry{seq: seq, hash: x.KeyHash, size: x.Size, mortal: x.Expires != 0}, x.Expires, true, nil
}
