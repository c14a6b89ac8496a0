package machine

import (
	"slices"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// minStaleHeads is how many entries too many are not worth looking for.
const minStaleHeads = 1024

// headHeap gives the message that a full queue drops first: the oldest of the
// lowest priority. Every message that is loaded and not in flight is in it;
// some are that are gone, in flight, or in it twice. Queues that drop nothing
// keep nothing in it.
type headHeap struct{ es []entry }

// dropOrder is smaller for what is dropped earlier.
func dropOrder(seq uint64) uint64 { return seq ^ 0xff<<levelShift }

func headLess(a, b entry) bool { return dropOrder(a.seq) < dropOrder(b.seq) }

func (h *headHeap) push(e entry) {
	h.es = append(h.es, e)
	up(h.es, len(h.es)-1, headLess)
}

func (h *headHeap) pop() {
	last := len(h.es) - 1
	h.es[0] = h.es[last]
	h.es = h.es[:last]
	down(h.es, 0, headLess)
}

// first returns the first that is there and not in flight.
func (h *headHeap) first(q *queue) (entry, bool) {
	for len(h.es) > 0 {
		if e := h.es[0]; !q.isAcked(e.seq) && q.flights[e.seq] == nil {
			return e, true
		}
		h.pop()
	}
	return entry{}, false
}

// noteHead makes a message known that may have to be dropped.
func (q *queue) noteHead(e entry) {
	if q.spec.Overflow != queuedriver.DropHead {
		return
	}
	q.heads.push(e)
	if n := len(q.heads.es); n > minStaleHeads && n > 2*q.loaded() {
		es := slices.DeleteFunc(q.heads.es, func(e entry) bool { return q.isAcked(e.seq) || q.flights[e.seq] != nil })
		slices.SortFunc(es, func(a, b entry) int {
			if headLess(a, b) {
				return -1
			}
			return 1
		})
		q.heads.es = slices.CompactFunc(es, func(a, b entry) bool { return a.seq == b.seq })
	}
}

// loaded is how many messages are in memory, about.
func (q *queue) loaded() int {
	n := q.parked + len(q.returned.es) + len(q.waiting) + len(q.flights)
	for i := range q.levels {
		n += q.levels[i].ready.len()
	}
	return n
}

// firstHead returns the stored message that is to be dropped first. It has
// the queue looked at in the next round if that cannot be known in this one.
func (m *Queues) firstHead(view View, q *queue) (e entry, ok bool) {
	for {
		e, ok := q.heads.first(q)
		var unloaded *level // the lowest that is not wholly loaded
		for i := range q.levels {
			if l := &q.levels[i]; l.cursor < *l.next {
				unloaded = l
			}
		}
		if unloaded == nil || ok && dropOrder(e.seq) < dropOrder(unloaded.cursor) {
			return e, ok
		}
		if unloaded.sealed != 0 { // in this round, which the View does not show
			m.feed(q)
			return entry{}, false
		}
		q.skim()
		if err := q.fill(view, unloaded); err != nil {
			_ = m.fault(q, err)
			return entry{}, false
		}
	}
}

// dropHeads drops from the head of a queue that is past its bounds, before what
// was published in this round is stored: that is in pending, behind what is
// stored, and may have to be dropped too. If something cannot be dropped, for
// the dead letter leads nowhere or is full, nothing more is taken.
func (m *Queues) dropHeads(now Time, ch Changes, view View, q *queue) {
	q.stuck = false
	if q.deleted || !q.over(0, 0) {
		return
	}
	pending := newPendingHeads(q)
	for q.over(0, 0) {
		e, stored := m.firstHead(view, q)
		i := pending.next()
		if stored && (i < 0 || levelOf(e.seq) >= q.levelOf(q.pending[i].Priority)) {
			if !m.dropHead(now, ch, view, q, e) {
				break
			}
			continue
		}
		if i < 0 {
			break
		}
		rec := q.pending[i]
		if q.stuck = !m.overflow(now, q, &rec, 0); q.stuck {
			break
		}
		pending.drop(i)
		q.counters.Live--
		q.counters.Bytes -= int64(len(rec.Body))
		if q.lifetime(&rec) > 0 {
			q.counters.Mortal--
		}
	}
	pending.close()
	q.skim()
}

// drops is what a round spends on dropping from heads. It may be as much as
// has come into the queues in the round, and a round's work more: otherwise
// what is published without a pause would be more than what is dropped.
type drops struct {
	steps   int
	came    int // messages, at most
	written int // what unwritten may grow to
}

func (d *drops) begin(m *Queues) { *d = drops{came: m.steps, written: 2*m.unwritten + roundBytes} }

// full reports that no more should be dropped in this round, if one message
// costs so many steps.
func (d *drops) full(m *Queues, cost int) bool {
	return d.steps >= d.came*cost+roundSteps || m.unwritten >= d.written
}

// dropHead drops a stored message, or reports that it cannot be dropped in
// this round.
func (m *Queues) dropHead(now Time, ch Changes, view View, q *queue, e entry) bool {
	var rec *record.Message
	cost := 1
	if q.spec.DeadLetter != nil {
		cost = letterSteps
	}
	if m.drops.full(m, cost) {
		m.feed(q)
		return false
	}
	m.drops.steps += cost
	if q.spec.DeadLetter != nil {
		if l := q.level(e.seq); l.sealed != 0 && e.seq >= l.sealed {
			m.feed(q) // it can be read in the next round
			return false
		}
		var err error
		if rec, err = view.Message(q.id, q.blockOf(e.seq), e.seq); err != nil {
			_ = m.fault(q, err)
			q.stuck = true
			return false
		}
	}
	if q.stuck = !m.overflow(now, q, rec, q.attempts[e.seq].Count); q.stuck {
		return false
	}
	q.heads.pop()
	m.erase(ch, q, e)
	q.lazy++
	return true
}

// overflow dead-letters a message that is dropped from the head. It reports
// false if that led nowhere.
func (m *Queues) overflow(now Time, q *queue, rec *record.Message, attempts uint32) bool {
	if q.spec.DeadLetter != nil {
		if m.room != nil {
			return false
		}
		dead, to, err := m.letterOf(now, q, rec, queuedriver.ReasonMaxLength, "", attempts)
		if err != nil {
			_ = m.fault(q, err)
			return false
		}
		if !m.bury(q, dead, to, overflown) {
			return false
		}
	} else {
		q.counters.Dropped++
	}
	q.counters.Overflowed++
	return true
}

// pendingHeads gives what was published in this round in the order in which
// it is dropped.
type pendingHeads struct {
	q       *queue
	order   []int // nil: as it is
	n       int   // dropped
	dropped []bool
}

func newPendingHeads(q *queue) *pendingHeads {
	p := &pendingHeads{q: q}
	if len(q.levels) > 1 {
		p.order = make([]int, len(q.pending))
		p.dropped = make([]bool, len(q.pending))
		for i := range p.order {
			p.order[i] = i
		}
		slices.SortStableFunc(p.order, func(a, b int) int {
			return q.levelOf(q.pending[b].Priority) - q.levelOf(q.pending[a].Priority)
		})
	}
	return p
}

// next returns the place in pending of the next one, or -1.
func (p *pendingHeads) next() int {
	switch {
	case p.n == len(p.q.pending):
		return -1
	case p.order != nil:
		return p.order[p.n]
	}
	return p.n
}

// drop takes note that the next one was dropped.
func (p *pendingHeads) drop(i int) {
	p.n++
	if p.order != nil {
		p.dropped[i] = true
	}
}

// close takes what was dropped out of pending.
func (p *pendingHeads) close() {
	if p.n == 0 {
		return
	}
	kept := p.q.pending[:0]
	for i, rec := range p.q.pending {
		gone := i < p.n
		if p.order != nil {
			gone = p.dropped[i]
		}
		if !gone {
			kept = append(kept, rec)
		}
	}
	clear(p.q.pending[len(kept):])
	p.q.pending = kept
}

// sweepAfter is how many messages may be gone from the middle of a window
// before it is looked through for them.
const sweepAfter = ReadyWindow / 2

// skim takes messages that are gone out of the windows, so that there is room
// for others though nobody receives: those in front, and all of them when
// there are many.
func (q *queue) skim() {
	for i := range q.levels {
		r := &q.levels[i].ready
		for e, ok := r.front(); ok && q.isAcked(e.seq); e, ok = r.front() {
			r.pop()
		}
		if q.lazy >= sweepAfter {
			for range r.len() {
				e, _ := r.front()
				r.pop()
				if !q.isAcked(e.seq) {
					r.push(e)
				}
			}
		}
	}
	if q.lazy >= sweepAfter {
		q.lazy = 0
	}
}
