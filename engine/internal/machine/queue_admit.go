package machine

import (
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// entrance is how a message comes into a queue.
type entrance int

const (
	published entrance = iota // or moved there from another queue
	scheduled                 // published, but not to be in the queue yet
	dueNow                    // scheduled, and its time has come
	overflown                 // dead-lettered by a full queue
)

// admit returns why a queue does not take a message, or nil. A message for
// several queues is in none if one of them does not take it.
func (q *queue) admit(rec *record.Message, by entrance) error {
	if len(q.levels) > 1 && rec.OrderKey != "" {
		return lease.Invalidf("message.order_key", "is not for queue %q: it has priorities, which would break the order", q.spec.Name)
	}
	if q.spec.Overflow == "" {
		return nil
	}
	if size := int64(len(rec.Body)); q.spec.MaxBytes > 0 && size > q.spec.MaxBytes {
		return fmt.Errorf("a message of %d bytes to queue %q: its max_bytes is %d: %w", size, q.spec.Name, q.spec.MaxBytes, lease.ErrLimit)
	}
	if by == scheduled || !q.refuses(len(rec.Body), by) {
		return nil
	}
	return fmt.Errorf("queue %q has %d messages with %d bytes: %w", q.spec.Name, q.counters.Live, q.counters.Bytes, queuedriver.ErrQueueFull)
}

// refuses reports whether there is no room for a body of size bytes. What
// came due and waits for room comes before what is published later. A queue
// that drops from its head has always room, but if it could not drop what it
// had to; and of what another queue drops it takes only what lets it drop
// nothing, or two could send messages to each other without end.
func (q *queue) refuses(size int, by entrance) bool {
	if q.blockedDue != 0 && by != dueNow {
		return true
	}
	if q.spec.Overflow == queuedriver.DropHead && (by != overflown || q.spec.DeadLetter == nil) {
		return q.stuck
	}
	return q.over(1, int64(size))
}

// over reports whether the queue is past its bounds with so much more in it.
func (q *queue) over(n, bytes int64) bool {
	return q.spec.MaxLength > 0 && q.counters.Live+n > q.spec.MaxLength ||
		q.spec.MaxBytes > 0 && q.counters.Bytes+bytes > q.spec.MaxBytes
}

// admitAll is admit for several queues.
func admitAll(rec *record.Message, to []*queue, by entrance) error {
	for _, q := range to {
		if err := q.admit(rec, by); err != nil {
			return err
		}
	}
	return nil
}

// admitNew is admitAll for a message that is published: for those queues that
// do not know it already.
func (m *Queues) admitNew(now Time, p *queuedriver.Publishing, to []*queue) error {
	rec, by := record.Message{Route: p.Route, Message: p.Message}, published
	if dueAt(now, p.Message) > now.Wall {
		by = scheduled
	}
	for _, q := range to {
		if q.known {
			continue
		}
		if err := q.admit(&rec, by); err != nil {
			if errors.Is(err, queuedriver.ErrQueueFull) {
				q.counters.Refused++
				m.touch(q)
			}
			return err
		}
	}
	return nil
}

// unblock has a queue whose scheduled messages wait for room looked at by the
// next Tick. Until then the room is theirs.
func (m *Queues) unblock(q *queue) {
	if q.blockedDue != 0 {
		m.due.set(q, q.blockedDue)
	}
}
