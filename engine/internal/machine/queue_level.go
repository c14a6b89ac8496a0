package machine

import (
	"math"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
)

// levelShift is where the level begins in the number of a message. A queue
// with priorities has a level for each, level 0 for the highest, and each has
// numbers of its own: the level is the top byte, so that numbers compare as
// messages are delivered, wherever they are compared. A queue without
// priorities has level 0 only.
const levelShift = 56

func levelOf(seq uint64) int { return int(seq >> levelShift) }

// level is the messages of one priority of a queue.
type level struct {
	base   uint64  // the number before the first that a message can have
	next   *uint64 // the number of the next message
	head   *uint64 // no message before it is left; may lag
	cursor uint64  // messages before it are loaded or gone
	sealed uint64  // the first that was stored in this round; 0: none
	ready  ring
}

// makeLevels makes the levels of a queue that has no messages yet. The
// numbers of level 0 are the queue's counters, for it alone is everywhere.
func (q *queue) makeLevels() {
	n := int(q.spec.MaxPriority) + 1
	q.levels = make([]level, n)
	q.lower = make([]record.Level, n-1)
	q.levels[0].next, q.levels[0].head = &q.counters.NextSeq, &q.counters.Head
	for i := range q.lower {
		q.levels[i+1].next, q.levels[i+1].head = &q.lower[i].NextSeq, &q.lower[i].Head
	}
	for i := range q.levels {
		l := &q.levels[i]
		l.base = uint64(i) << levelShift
		*l.next = l.base + 1
		l.cursor = *l.next
	}
}

// restoreLevels goes on from what the store has, which is in the counters for
// level 0.
func (q *queue) restoreLevels(lower []record.Level) {
	copy(q.lower, lower)
	q.lowerWritten = append(q.lowerWritten[:0], q.lower...)
	for i := range q.levels {
		l := &q.levels[i]
		l.cursor = max(l.base+1, *l.head)
	}
}

// level returns the level of a message that the queue has.
func (q *queue) level(seq uint64) *level { return &q.levels[levelOf(seq)] }

// levelOf returns the level for a priority. One that is higher than the
// queue's highest counts as that.
func (q *queue) levelOf(priority uint8) int {
	return int(q.spec.MaxPriority - min(priority, q.spec.MaxPriority))
}

// front returns the ready entry that is next. hidden is where messages begin
// that are stored but not loaded: nothing at or behind it may be delivered.
func (q *queue) front() (e entry, hidden uint64, ok bool) {
	for i := range q.levels {
		l := &q.levels[i]
		if e, ok := l.ready.front(); ok {
			return e, math.MaxUint64, true
		}
		if l.cursor < *l.next {
			return entry{}, l.cursor, false
		}
	}
	return entry{}, math.MaxUint64, false
}

// windowHasRoom reports whether what is published goes straight into the
// window.
func (q *queue) windowHasRoom(l *level) bool {
	return l.ready.len() < q.limits.window && q.parked < q.limits.parked
}

// starved reports whether a window must be filled from the store.
func (q *queue) starved() bool {
	for i := range q.levels {
		if q.starves(&q.levels[i]) {
			return true
		}
	}
	return false
}

func (q *queue) starves(l *level) bool {
	return l.ready.len() < q.limits.low && l.cursor < *l.next && q.parked < q.limits.parked
}

// fill loads what a level's window has room for.
func (q *queue) fill(view View, l *level) error {
	blocks, err := view.LoadIndex(q.id, l.cursor, max(1, q.limits.window-l.ready.len()))
	if err != nil {
		return err
	}
	n := 0
	for n < len(blocks) && levelOf(blocks[n].FirstSeq) == levelOf(l.base) {
		q.addBlock(&blocks[n])
		n++
	}
	if n == 0 {
		l.cursor = *l.next // the rest is acked and dropped
	}
	return nil
}

// writeLevels stores the numbers of the lower levels if they have changed.
func (q *queue) writeLevels(ch Changes) {
	for i := range q.lower {
		if i >= len(q.lowerWritten) || q.lower[i] != q.lowerWritten[i] {
			q.lowerWritten = append(q.lowerWritten[:0], q.lower...)
			ch.PutLevels(q.id, q.lower)
			return
		}
	}
}
