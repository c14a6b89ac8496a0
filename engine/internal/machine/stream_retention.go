package machine

import (
	"container/heap"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
)

// tooMany reports that retention by number or by bytes may have something to
// drop.
func (q *queue) tooMany() bool {
	r, c := &q.spec.Retention, &q.counters
	n := q.inOldest()
	if n == 0 {
		return false // the only segment is still being filled
	}
	return r.Messages > 0 && c.Live-n >= r.Messages ||
		r.Bytes > 0 && (!q.stream.oldest.known || c.Bytes-q.stream.oldest.bytes >= r.Bytes) && c.Bytes > r.Bytes
}

// inOldest returns how many messages the first segment has, 0 if it can still
// get more.
func (q *queue) inOldest() int64 {
	end := (segmentOf(q.first()) + 1) * record.SegmentSize
	if end > q.counters.NextSeq {
		return 0
	}
	return int64(end - q.first())
}

// trim applies the retention of a stream to its first segment, and says when
// to look again.
func (m *Queues) trim(now Time, ch Changes, view View, q *queue) {
	s, age := q.stream, q.spec.Retention.Age
	if q.counters.NextSeq == q.first() {
		m.trims.drop(q)
		return
	}
	if q.inOldest() == 0 && (age == 0 || now.Mono.Sub(s.last) <= age) {
		m.trimLater(q, s.last)
		return
	}
	if err := m.lookAtOldest(now, view, q); err != nil {
		_ = m.fault(q, err)
		m.trims.set(q, now.Mono.Add(readAgain))
		return
	}
	if q.tooMany() || age > 0 && now.Mono.Sub(s.oldest.last) > age {
		m.dropOldest(ch, q)
		m.trims.set(q, now.Mono)
		return
	}
	m.trimLater(q, s.oldest.last)
}

// trimLater has retention look again when what was stored last, at that time,
// is too old.
func (m *Queues) trimLater(q *queue, last lease.Instant) {
	if age := q.spec.Retention.Age; age > 0 {
		m.trims.set(q, last.Add(age+1))
	} else {
		m.trims.drop(q)
	}
}

// lookAtOldest reads what retention has to know of the first segment.
func (m *Queues) lookAtOldest(now Time, view View, q *queue) error {
	s := q.stream
	full := q.inOldest() > 0
	if s.oldest.known && full {
		return nil
	}
	m.steps += record.SegmentSize
	o := oldestSegment{known: full, last: s.last}
	end := min((segmentOf(q.first())+1)*record.SegmentSize, q.counters.NextSeq)
	blocks, err := view.LoadIndex(q.id, q.first(), int(end-q.first()))
	if err != nil {
		return err
	}
	for i := range blocks {
		for j, e := range blocks[i].Entries {
			if seq := blocks[i].FirstSeq + uint64(j); seq >= q.first() && seq < end {
				o.bytes += int64(e.Size)
			}
		}
	}
	if q.spec.Retention.Age > 0 && full {
		rec, err := view.Message(q.id, 0, end-1)
		if err != nil {
			return err
		}
		o.last = m.storedAt(now, rec, q.spec.Retention.Age)
	}
	s.oldest = o
	return nil
}

// storedAt is when a message was stored, on the clock that is not stepped. It
// errs so that what may not be older than age yet is kept rather too long than
// too short: a message from the future, which was stored while the wall clock
// was ahead, counts as new.
func (m *Queues) storedAt(now Time, rec *record.Message, age time.Duration) lease.Instant {
	return now.Mono.Add(-max(0, time.Duration(now.Wall-rec.Published)-m.leaps.within(now, age)))
}

// leap is a step forward of the wall clock: what was stored before it looks
// older by so much than it is.
type leap struct {
	at lease.Instant
	by time.Duration
}

// leaps are the steps forward that were seen since the open.
type leaps struct {
	seen Time // at the latest look
	ls   []leap
}

const (
	leapLeast = time.Second // what is less is adjustment, or one clock read after the other
	maxLeaps  = 16          // kept apart; earlier ones are added up
)

// watch compares the clocks, once a round.
func (l *leaps) watch(now Time) {
	by := time.Duration(now.Wall-l.seen.Wall) - now.Mono.Sub(l.seen.Mono)
	first := l.seen == Time{}
	l.seen = now
	if first || by < leapLeast {
		return
	}
	l.ls = append(l.ls, leap{now.Mono, by})
	if len(l.ls) > maxLeaps {
		l.ls[1].by += l.ls[0].by
		l.ls = append(l.ls[:0], l.ls[1:]...)
	}
}

// within is by how much the wall clock was set forward during the last age.
func (l *leaps) within(now Time, age time.Duration) (by time.Duration) {
	for _, x := range l.ls {
		if now.Mono.Sub(x.at) <= age {
			by += x.by
		}
	}
	return by
}

// dropOldest drops the first segment, or all of it that there is.
func (m *Queues) dropOldest(ch Changes, q *queue) {
	n := segmentOf(q.first())
	end := min((n+1)*record.SegmentSize, q.counters.NextSeq)
	ch.DropSegments(q.id, n, n+1)
	q.counters.Live -= int64(end - q.first())
	q.counters.Bytes -= q.stream.oldest.bytes
	q.counters.Head = end
	q.stream.oldest = oldestSegment{}
	m.touch(q)
}

// trimHeap orders streams by when their retention is to be looked at.
type trimHeap struct{ qs []*queue }

func (h *trimHeap) min() *queue {
	if len(h.qs) == 0 {
		return nil
	}
	return h.qs[0]
}

// set gives q its place.
func (h *trimHeap) set(q *queue, at lease.Instant) {
	s := q.stream
	s.at = at
	if s.index >= 0 {
		heap.Fix(h, s.index)
		return
	}
	heap.Push(h, q)
}

// drop takes q out, if it is in.
func (h *trimHeap) drop(q *queue) {
	if q.stream.index >= 0 {
		heap.Remove(h, q.stream.index)
	}
}

// Len, Less, Swap, Push and Pop are for package heap.
func (h *trimHeap) Len() int           { return len(h.qs) }
func (h *trimHeap) Less(i, j int) bool { return h.qs[i].stream.at < h.qs[j].stream.at }

func (h *trimHeap) Swap(i, j int) {
	h.qs[i], h.qs[j] = h.qs[j], h.qs[i]
	h.qs[i].stream.index, h.qs[j].stream.index = i, j
}

// Push implements heap.Interface.
func (h *trimHeap) Push(x any) {
	q := x.(*queue) //nolint:forcetypeassert // set has put it there
	q.stream.index = len(h.qs)
	h.qs = append(h.qs, q)
}

// Pop implements heap.Interface.
func (h *trimHeap) Pop() any {
	last := len(h.qs) - 1
	q := h.qs[last]
	h.qs[last] = nil
	h.qs = h.qs[:last]
	q.stream.index = -1
	return q
}
