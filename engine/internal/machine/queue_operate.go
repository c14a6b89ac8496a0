package machine

import (
	"math"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// operateBytes bounds the bodies that one Peek or Redrive reads in a round.
const operateBytes = 4 << 20

// operateEntries bounds how much index one of them walks.
const operateEntries = 100_000

// walk calls visit for the messages of a queue that are not acked, from seq
// on, in order, until it returns false. It reads the store: messages of this
// round are not seen. next is where to go on, 0 at the end.
func (m *Queues) walk(view View, q *queue, from uint64, visit func(e entry, b *record.IndexBlock) bool) (next uint64, err error) {
	walked := 0
	for i := range q.levels {
		l := &q.levels[i]
		if next, err = m.walkLevel(view, q, l, max(from, *l.head, l.base+1), &walked, visit); next != 0 || err != nil {
			return next, err
		}
	}
	return 0, nil
}

func (m *Queues) walkLevel(view View, q *queue, l *level, from uint64, walked *int, visit func(e entry, b *record.IndexBlock) bool) (next uint64, err error) {
	for *walked < operateEntries && from < *l.next {
		blocks, err := view.LoadIndex(q.id, from, queuedriver.MaxPeek)
		if err != nil {
			return 0, m.fault(q, err)
		}
		if len(blocks) == 0 {
			return 0, nil
		}
		for i := range blocks {
			b := &blocks[i]
			if b.FirstSeq >= *l.next {
				return 0, nil // of the next level
			}
			for j, ie := range b.Entries {
				e := entry{seq: b.FirstSeq + uint64(j), hash: ie.KeyHash, size: ie.Size, mortal: ie.Expires != 0}
				if e.seq < from || q.gone(e.seq) {
					continue
				}
				if !visit(e, b) {
					return e.seq, nil
				}
			}
			*walked += len(b.Entries)
			from = b.FirstSeq + uint64(len(b.Entries))
		}
	}
	if from < *l.next {
		return from, nil
	}
	return 0, nil
}

// gone reports whether a message that the store may still show is acked.
func (q *queue) gone(seq uint64) bool {
	if q.segments[segmentOf(seq)] == nil && seq < q.level(seq).cursor {
		return true
	}
	return q.isAcked(seq)
}

// Peek reads messages without leasing them: those of the queue in order, then
// the scheduled ones.
func (m *Queues) Peek(now Time, view View, c *PeekMessages) {
	q, err := m.find(c.Request.Queue)
	if err != nil {
		c.Err = err
		return
	}
	most := c.Request.Max
	if most == 0 {
		most = queuedriver.DefaultList
	}
	if c.Request.After == math.MaxUint64 {
		return
	}
	size := 0
	next, err := m.walk(view, q, c.Request.After+1, func(e entry, b *record.IndexBlock) bool {
		if len(c.Peeked) == most || size > operateBytes {
			return false
		}
		rec, err := view.Message(q.id, b.FirstSeq, e.seq)
		if err != nil {
			c.Err = m.fault(q, err)
			return false
		}
		size += len(rec.Body)
		c.Peeked = append(c.Peeked, q.peeked(now, e.seq, rec))
		return true
	})
	if c.Err == nil {
		c.Err = err
	}
	if c.Err != nil || next != 0 || len(c.Peeked) == most || size > operateBytes || q.counters.Delayed == 0 {
		return
	}
	due, _, err := view.LoadDue(q.id, record.DelayedAt{Due: math.MinInt64}, math.MaxInt64, most-len(c.Peeked), operateBytes-size+1)
	if err != nil {
		c.Err = m.fault(q, err)
		return
	}
	for i := range due {
		p := q.peeked(now, 0, &due[i].Message)
		p.State = queuedriver.Delayed
		c.Peeked = append(c.Peeked, p)
	}
}

func (q *queue) peeked(now Time, seq uint64, rec *record.Message) queuedriver.Peeked {
	p := queuedriver.Peeked{
		Seq:      seq,
		State:    queuedriver.Ready,
		Attempts: int(q.attempts[seq].Count),
		Age:      time.Duration(max(0, now.Wall-rec.Published)),
		Route:    rec.Route,
		Message:  rec.Message,
	}
	if f := q.flights[seq]; f != nil {
		p.State, p.Attempts = queuedriver.InFlight, int(f.attempt)
	} else if _, waits := q.waiting[seq]; waits || q.late[seq] != 0 || q.attempts[seq].NotBefore > now.Wall {
		p.State = queuedriver.Delayed
	}
	return p
}

// Redrive moves messages that are not in flight to their original route, or
// to the one that is asked for.
func (m *Queues) Redrive(now Time, ch Changes, view View, c *Redrive) {
	q, err := m.findFor(c.Conn, c.Request.Queue)
	if err == nil {
		err = q.notStream()
	}
	if err != nil {
		c.Err = err
		return
	}
	if to := c.Request.To; to != nil {
		if to.Exchange == queuedriver.DefaultExchange {
			_, err = m.find(to.Key)
		} else {
			_, err = m.route(*to, nil, nil)
		}
		if err != nil {
			c.Err = err
			return
		}
	}
	most := c.Request.Max
	if most == 0 {
		most = queuedriver.MaxRedrive
	}
	size := 0
	m.touch(q)
	c.Next, c.Err = m.walk(view, q, c.From, func(e entry, b *record.IndexBlock) bool {
		if c.Moved == int64(most) || size > operateBytes || c.Moved > 0 && m.roundFull() {
			return false
		}
		if q.flights[e.seq] != nil {
			return true
		}
		rec, err := view.Message(q.id, b.FirstSeq, e.seq)
		if err != nil {
			_ = m.fault(q, err)
			return true // stays, and is reported
		}
		size += len(rec.Body)
		if m.redrive(now, ch, q, e, rec, c.Request.To) {
			c.Moved++
		}
		return true
	})
}

func (m *Queues) redrive(now Time, ch Changes, q *queue, e entry, rec *record.Message, route *queuedriver.Route) bool {
	msg, origin, known := revive(rec)
	if route == nil {
		if !known {
			return false
		}
		route = &origin
	}
	to, err := m.route(*route, msg.Headers, nil)
	moved := record.Message{Route: *route, Published: now.Wall, Message: msg}
	if err != nil || len(to) == 0 || slices.Contains(to, q) || checkFanOut(&moved, to) != nil || admitAll(&moved, to, published) != nil {
		return false
	}
	for _, d := range to {
		m.enqueue(d, moved)
		d.counters.Published++
	}
	m.erase(ch, q, e)
	return true
}

// Purge drops every message that is not in flight, scheduled ones too.
func (m *Queues) Purge(ch Changes, c *Purge) {
	q, err := m.findFor(c.Conn, c.Queue)
	if err != nil {
		c.Err = err
		return
	}
	c.Dropped = q.counters.Live - int64(len(q.flights)) + q.counters.Delayed
	m.touch(q)
	if q.counters.Delayed > 0 {
		ch.DropDelayed(q.id)
		q.delays.dropAll()
		q.counters.Delayed, q.blockedDue = 0, 0
		m.due.set(q, 0)
	}
	q.flushAcks(ch) // of this round, before their segments go
	q.pending = nil
	if q.stream != nil {
		q.counters.Dropped += c.Dropped
		m.purgeStream(ch, q)
		return
	}
	waited := len(q.waiting)
	q.dropMessages(ch)
	m.retries.drop(waited)
	q.counters.Dropped += c.Dropped
	q.counters.Live = int64(len(q.flights))
	q.counters.Bytes, q.counters.Mortal = 0, 0
	for _, f := range q.flights {
		if f.mortal {
			q.counters.Mortal++
		}
		q.counters.Bytes += int64(f.size)
	}
}

// dropMessages forgets all messages but those in flight. The numbers go on
// with a new segment, so that all before it can be dropped whole, but for the
// segments that have something in flight: there the others are acked.
func (q *queue) dropMessages(ch Changes) {
	keep := make(map[uint64]bool)
	for seq := range q.flights {
		keep[segmentOf(seq)] = true
	}
	for i := range q.levels {
		q.dropLevel(ch, &q.levels[i], keep)
	}
	for seq := range q.attempts {
		if q.flights[seq] == nil {
			delete(q.attempts, seq)
			ch.DeleteAttempt(q.id, seq)
		}
	}
	q.returned.clear()
	q.heads, q.lazy, q.late = headHeap{}, 0, nil
	q.expiries.keep(func(x expiry) bool { return q.flights[x.seq] != nil })
	clear(q.waiting)
	clear(q.lanes)
	q.parked = 0
	for _, f := range q.flights {
		f.loaded = true
		q.take(f.entry)
	}
}

func (q *queue) dropLevel(ch Changes, l *level, keep map[uint64]bool) {
	next := (*l.next + record.SegmentSize - 1) / record.SegmentSize
	if *l.next == l.base+1 {
		next = segmentOf(l.base) // nothing was ever published
	}
	from := max(segmentOf(*l.head), segmentOf(l.base))
	for n := from; n <= next; n++ {
		if n < next && !keep[n] {
			delete(q.segments, n)
			continue
		}
		if n > from {
			ch.DropSegments(q.id, from, n)
		}
		from = n + 1
		if n < next {
			q.ackAround(ch, n)
		}
	}
	*l.next = max(*l.next, next*record.SegmentSize)
	l.cursor = *l.next
	l.ready.clear()
	q.advanceHead(l)
}

// ackAround acks everything in a segment but what is in flight.
func (q *queue) ackAround(ch Changes, n uint64) {
	first := n * record.SegmentSize
	s := q.segment(first)
	var runs []record.Run
	for seq := first; seq < first+record.SegmentSize; seq++ {
		if q.flights[seq] != nil || !s.set(seq) {
			continue
		}
		if k := len(runs) - 1; k >= 0 && runs[k].From+uint64(runs[k].Len) == seq {
			runs[k].Len++
		} else {
			runs = append(runs, record.Run{From: seq, Len: 1})
		}
	}
	for i := range s.blocks {
		b := &s.blocks[i]
		b.left = 0
		for seq := b.first; seq < b.first+uint64(b.count); seq++ {
			if !s.acked.Has(seq) {
				b.left++
			}
		}
	}
	if len(runs) > 0 {
		ch.Ack(q.id, runs)
	}
}
