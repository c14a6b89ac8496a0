package machine

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// stream is what a queue of type stream has besides what every queue has: its
// messages lie in the same blocks, and nothing of them is in memory but how
// many there are. Counters.Head is the offset of the oldest that is kept, and
// there is no gap between it and Counters.NextSeq. What retention drops goes
// by segments.
type stream struct {
	// newest is the time that the last block is stamped with. It never goes
	// back, so that a time can be searched for: if the wall clock was set
	// back, blocks keep the latest time that it had shown.
	newest  int64
	last    lease.Instant // when the last message was stored
	readers readerList
	offsets map[string]uint64 // by consumer; as the store has them
	oldest  oldestSegment
	at      lease.Instant // when retention is to be looked at
	index   int           // in the heap; -1: not in it
}

// oldestSegment is what is known of the first segment of a stream, once
// retention has looked at it.
type oldestSegment struct {
	known bool
	bytes int64         // of its bodies
	last  lease.Instant // when its last message was stored
}

func newStream() *stream {
	return &stream{offsets: make(map[string]uint64), index: -1}
}

// notStream refuses what leases or moves messages.
func (q *queue) notStream() error {
	if q.stream == nil {
		return nil
	}
	return fmt.Errorf("queue %q is a stream: read it, nothing of it is leased: %w", q.spec.Name, lease.ErrUnsupported)
}

func (m *Queues) findStream(name string) (*queue, error) {
	q, err := m.find(name)
	if err == nil && q.stream == nil {
		err = fmt.Errorf("queue %q is not a stream: receive from it: %w", name, lease.ErrUnsupported)
	}
	return q, err
}

// first is the offset of the oldest message that is kept, or that the next
// one will get.
func (q *queue) first() uint64 { return max(q.counters.Head, 1) }

// sealStream stores the messages of the round, and gives them to the readers
// that wait for them.
func (m *Queues) sealStream(now Time, ch Changes, q *queue) {
	s := q.stream
	s.newest, s.last = max(s.newest, now.Wall), now.Mono
	for i := range q.pending {
		q.pending[i].Published = now.Wall // one that was delayed is stored now
	}
	first := q.counters.NextSeq
	blocks := record.SplitBlocks(first, s.newest, q.pending)
	q.counters.NextSeq += uint64(len(q.pending))
	ch.Append(q.id, first, s.newest, blocks)
	m.wakeReaders(q, first)
	if q.spec.Retention.Age > 0 && s.index < 0 {
		m.trims.set(q, now.Mono.Add(q.spec.Retention.Age+1))
	}
	if q.tooMany() {
		m.trims.set(q, now.Mono) // by the next Tick, which can read this round
	}
}

// purgeStream drops all messages. The numbers go on.
func (m *Queues) purgeStream(ch Changes, q *queue) {
	ch.DropSegments(q.id, segmentOf(q.first()), segmentOf(q.counters.NextSeq)+1)
	q.counters.Head = q.counters.NextSeq
	q.counters.Live, q.counters.Bytes = 0, 0
	q.stream.oldest = oldestSegment{}
	m.trims.drop(q)
}

// restoreStream completes a stream with what the store says about its end. If
// that cannot be read, its messages count as new.
func (m *Queues) restoreStream(now Time, view View, q *queue, offsets map[string]uint64) {
	s := q.stream
	for consumer, offset := range offsets {
		s.offsets[consumer] = offset
	}
	s.last = now.Mono
	if q.counters.NextSeq == q.first() {
		return
	}
	end := q.counters.NextSeq - 1
	if blocks, err := view.LoadIndex(q.id, end, 1); err != nil {
		_ = m.fault(q, err)
	} else if len(blocks) > 0 {
		s.newest = blocks[len(blocks)-1].Published
	}
	if rec, err := view.Message(q.id, 0, end); err != nil {
		_ = m.fault(q, err)
	} else {
		s.last = m.storedAt(now, rec, 0)
	}
	if q.spec.Retention != (queuedriver.Retention{}) {
		m.trims.set(q, now.Mono)
	}
}
