package machine

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
)

// delayedRound is what this round did to the scheduled messages of a queue,
// for the View does not show it yet.
type delayedRound struct {
	added   []*record.Delayed // those with an id
	through record.DelayedAt  // all up to here came due
	purged  bool              // all that the View shows
	gone    map[record.DelayedAt]struct{}
}

func (r *delayedRound) endRound() {
	if len(r.added) > ReadyWindow { // do not keep what a burst needed
		r.added = nil
	}
	clear(r.added)
	*r = delayedRound{added: r.added[:0]}
}

// dropAll takes note that none of those before is left.
func (r *delayedRound) dropAll() {
	*r = delayedRound{purged: true}
}

// has reports whether a message that the View shows is still there, but for
// those that were cancelled.
func (r *delayedRound) has(at record.DelayedAt) bool { return !r.purged && r.through.Before(at) }

// CancelScheduled drops the messages of an id that wait for their time.
func (m *Queues) CancelScheduled(ch Changes, view View, c *CancelScheduled) {
	q, err := m.find(c.Queue)
	if err != nil {
		c.Err = err
		return
	}
	m.steps += duplicateSteps
	found, err := view.FindDelayed(q.id, c.ID)
	if err != nil {
		c.Err = m.fault(q, err)
		return
	}
	n := 0
	cancel := func(at record.DelayedAt) {
		if _, gone := q.delays.gone[at]; gone {
			return
		}
		n++
		if q.delays.gone == nil {
			q.delays.gone = make(map[record.DelayedAt]struct{})
		}
		q.delays.gone[at] = struct{}{}
		ch.DeleteDelayed(q.id, at, c.ID)
	}
	for _, at := range found {
		if q.delays.has(at) {
			cancel(at)
		}
	}
	for _, d := range q.delays.added {
		if d.ID == c.ID {
			cancel(record.DelayedAt{Due: d.Due, Seq: d.Seq})
		}
	}
	if n == 0 {
		c.Err = fmt.Errorf("scheduled message %q of queue %q: %w", c.ID, c.Queue, lease.ErrNotFound)
		return
	}
	q.counters.Delayed -= int64(n)
	q.counters.Dropped += int64(n)
	m.unblock(q)
	if q.counters.Delayed == 0 {
		q.blockedDue = 0
		m.due.set(q, 0)
		q.passDelayed(ch, q.dueFrom.Due)
	}
	m.touch(q)
}
