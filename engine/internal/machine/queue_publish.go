package machine

import (
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Dedup ids are kept in buckets of a third of the window. An id of bucket b
// is looked for until bucket b+dedupBuckets is over: for at least the window
// and at most a third longer.
const dedupBuckets = 3

// Publish decides a batch; each message for itself. It reports false if the
// rest is to be passed again in the next round: a round must not become too
// large.
func (m *Queues) Publish(now Time, ch Changes, view View, c *Publish) bool {
	if c.Receipts == nil {
		c.Receipts = make([]queuedriver.Receipt, len(c.Publishings))
	}
	var to []*queue
	for ; c.next < len(c.Publishings); c.next++ {
		if c.next > 0 && m.roundFull() {
			return false
		}
		if r := &c.Receipts[c.next]; m.room != nil {
			r.Err = m.room
		} else {
			to = m.publish(now, ch, view, &c.Publishings[c.next], r, to[:0])
		}
	}
	return true
}

func (m *Queues) publish(now Time, ch Changes, view View, p *queuedriver.Publishing, r *queuedriver.Receipt, to []*queue) []*queue {
	to, err := m.look(now, ch, view, p, to)
	if err == nil {
		err = m.admitNew(now, p, to)
	}
	if err != nil {
		r.Err = err
		return to
	}
	m.take(now, ch, p, r, to)
	return to
}

// take stores a message in the queues that look has found and that admit it.
func (m *Queues) take(now Time, ch Changes, p *queuedriver.Publishing, r *queuedriver.Receipt, to []*queue) {
	r.Queues = len(to)
	rec := record.Message{Route: p.Route, Published: now.Wall, Message: p.Message}
	duplicates := 0
	due := dueAt(now, p.Message)
	for _, q := range to {
		m.touch(q)
		if q.known {
			duplicates++
			q.counters.Duplicates++
			continue
		}
		m.remember(ch, q, p.Message.ID)
		q.counters.Published++
		if due > now.Wall {
			m.schedule(ch, q, due, rec)
			continue
		}
		m.enqueue(q, rec)
	}
	r.Duplicate = duplicates > 0 && duplicates == len(to)
}

// look returns the queues that a message goes to, with queue.known set in
// each, or why it cannot be published. No queue gets anything by that: one
// that cannot be read leaves the message in none.
func (m *Queues) look(now Time, ch Changes, view View, p *queuedriver.Publishing, to []*queue) ([]*queue, error) {
	to, err := m.route(p.Route, p.Message.Headers, to)
	if err == nil && len(to) == 0 && p.Mandatory {
		err = fmt.Errorf("exchange %q, key %q: %w", p.Route.Exchange, p.Route.Key, queuedriver.ErrUnroutable)
	}
	if err == nil {
		err = checkFanOut(&record.Message{Route: p.Route, Message: p.Message}, to)
	}
	for i := 0; i < len(to) && err == nil; i++ {
		to[i].known, err = m.duplicate(now, ch, view, to[i], p.Message.ID)
	}
	return to, err
}

// size is about how much room a copy of a message takes.
func size(rec *record.Message) int {
	if len(rec.Headers) == 0 {
		return len(rec.Body)
	}
	return record.MessageSize(rec)
}

func checkFanOut(rec *record.Message, to []*queue) error {
	if n := size(rec); n*len(to) > MaxFanOutBytes {
		return fmt.Errorf("a message of %d bytes to %d queues: copies of %d bytes at most: %w", n, len(to), MaxFanOutBytes, lease.ErrLimit)
	}
	return nil
}

func dueAt(now Time, msg *queuedriver.Message) int64 {
	if !msg.NotBefore.IsZero() {
		return msg.NotBefore.UnixNano()
	}
	return now.Wall + int64(msg.Delay)
}

// duplicateSteps is what it costs to look for an id.
const duplicateSteps = 10

// duplicate reports whether the id was published to the queue within its
// window.
func (m *Queues) duplicate(now Time, ch Changes, view View, q *queue, id string) (bool, error) {
	if q.spec.DedupWindow == 0 || id == "" {
		return false, nil
	}
	m.steps += duplicateSteps
	width := max(q.spec.DedupWindow/dedupBuckets, time.Second)
	bucket := max(q.counters.SeenBucket, now.Wall/int64(width))
	switch {
	case q.seenSince == 0:
		q.seenSince = now.Mono
	case bucket == q.counters.SeenBucket && now.Mono.Sub(q.seenSince) >= width:
		bucket++ // the wall clock was ahead once: do not wait for it
	}
	if bucket > q.counters.SeenBucket {
		if q.counters.SeenBucket == 0 {
			q.seenFrom = bucket // the first id of all
		}
		q.counters.SeenBucket, q.seenSince = bucket, now.Mono
		ch.DropSeen(q.id, bucket-dedupBuckets)
		m.touch(q)
	}
	if _, ok := q.seen[id]; ok {
		return true, nil
	}
	seen, err := view.Seen(q.id, max(bucket-dedupBuckets, q.seenFrom), bucket, id)
	if err != nil {
		return false, m.fault(q, err)
	}
	return seen, nil
}

// remember notes an id that was no duplicate.
func (m *Queues) remember(ch Changes, q *queue, id string) {
	if q.spec.DedupWindow > 0 && id != "" {
		q.seen[id] = struct{}{}
		ch.PutSeen(q.id, q.counters.SeenBucket, id)
	}
}

// schedule stores a message outside the queue until its time.
func (m *Queues) schedule(ch Changes, q *queue, due int64, rec record.Message) {
	d := &record.Delayed{Due: due, Seq: q.counters.NextDelayed, Message: rec}
	if at := (record.DelayedAt{Due: due, Seq: d.Seq}); at.Before(q.dueFrom) {
		q.dueFrom = at // the wall clock was set back
	}
	ch.PutDelayed(q.id, d)
	if rec.ID != "" {
		q.delays.added = append(q.delays.added, d)
	}
	q.counters.NextDelayed++
	q.counters.Delayed++
	m.unwritten += size(&rec)
	if at := q.timers[dueTimer].at; at == 0 || due < at {
		m.due.set(q, due)
	}
	m.touch(q)
}

// enqueue puts a message at the tail of a queue.
func (m *Queues) enqueue(q *queue, rec record.Message) {
	q.pending = append(q.pending, rec)
	q.counters.Live++
	q.counters.Bytes += int64(len(rec.Body))
	if q.lifetime(&rec) > 0 {
		q.counters.Mortal++
	}
	m.unwritten += size(&rec)
	m.touch(q)
}

// seal gives the messages of the round their numbers and stores them in
// blocks.
func (m *Queues) seal(now Time, ch Changes, q *queue) {
	if len(q.pending) == 0 {
		return
	}
	if q.stream != nil {
		m.sealStream(now, ch, q)
		clear(q.pending)
		q.pending = q.pending[:0]
		return
	}
	if len(q.levels) == 1 {
		q.sealLevel(now, ch, &q.levels[0], q.pending)
	} else {
		of := make([][]record.Message, len(q.levels))
		for _, rec := range q.pending {
			n := q.levelOf(rec.Priority)
			of[n] = append(of[n], rec)
		}
		for n, pending := range of {
			if len(pending) > 0 {
				q.sealLevel(now, ch, &q.levels[n], pending)
			}
		}
	}
	clear(q.pending)
	q.pending = q.pending[:0]
}

func (q *queue) sealLevel(now Time, ch Changes, l *level, pending []record.Message) {
	first := *l.next
	blocks := record.SplitBlocks(first, now.Wall, pending)
	if q.counters.Mortal > 0 {
		q.stamp(now, blocks)
	}
	for i := range blocks {
		b := &blocks[i].Index
		if l.cursor == b.FirstSeq && q.windowHasRoom(l) {
			q.addBlock(b)
		}
	}
	*l.next += uint64(len(pending))
	if l.sealed == 0 {
		l.sealed = first
	}
	ch.Append(q.id, first, now.Wall, blocks)
}
