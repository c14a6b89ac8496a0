package machine

import (
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// MaxConsumers bounds the consumers that are remembered of one queue. Those
// past it are served and not counted, but for queues whose life or deliveries
// hang on their consumers: these refuse them.
const MaxConsumers = 10_000

// consumerSeen is how long a consumer counts in the statistics after it was
// last heard of.
const consumerSeen = time.Minute

// consumer receives from one queue. It is heard of when one of its receives
// begins or ends and when it settles a delivery; while a receive of it waits
// or a delivery of it is live it is there. One that is silent for the queue's
// lease is gone: to be a consumer is a lease, too.
//
// All of it is memory only, but that the consumers of the deliveries that were
// live come back with them.
type consumer struct {
	id        string
	queue     *queue
	conn      *connection   // that its latest receive came over; nil: none
	since     uint64        // who came before whom
	seen      lease.Instant // when it was heard of
	receivers receiverList  // that wait
	fetches   int           // that have live deliveries
	left      bool          // it has said that it receives no more
	counted   bool          // it is in queue.consumers

	prev, next *consumer // in queue.line
}

// busy reports that a consumer is there, silent or not.
func (c *consumer) busy() bool { return c.receivers.first != nil || c.fetches > 0 }

// consumerList is the FIFO of consumers that have receives waiting.
type consumerList struct{ first, last *consumer }

func (l *consumerList) push(c *consumer) {
	c.prev, c.next = l.last, nil
	if l.last == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
}

func (l *consumerList) remove(c *consumer) {
	if c.prev == nil {
		l.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		l.last = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
}

// watched reports whether something hangs on who consumes.
func (q *queue) watched() bool {
	return q.spec.SingleActive || q.spec.AutoDelete || q.spec.Expires > 0 || q.spec.Exclusive
}

// unused reports that a queue has no consumers.
func (q *queue) unused() bool { return len(q.consumers) == 0 && q.line.first == nil }

// consumer returns the consumer of that id, a new one if need be.
func (m *Queues) consumer(q *queue, id string, now lease.Instant) (*consumer, error) {
	if c := q.consumers[id]; c != nil {
		return c, nil
	}
	if len(q.consumers) >= MaxConsumers && now.Sub(q.swept) >= consumerSeen && !q.watched() {
		q.swept = now
		m.sweep(q, now)
	}
	m.arrivals++
	c := &consumer{id: id, queue: q, since: m.arrivals, seen: now, counted: len(q.consumers) < MaxConsumers}
	switch {
	case c.counted:
		q.consumers[id] = c
	case q.watched():
		return nil, fmt.Errorf("queue %q: %d consumers at most: %w", q.spec.Name, MaxConsumers, lease.ErrLimit)
	}
	q.attended = true
	return c, nil
}

// sweep forgets who does not count any more, of a queue that is not watched.
func (m *Queues) sweep(q *queue, now lease.Instant) {
	for _, c := range q.consumers {
		if !c.busy() && now.Sub(c.seen) > consumerSeen {
			m.forget(c)
		}
	}
}

// forget is the end of a consumer that is not busy.
func (m *Queues) forget(c *consumer) {
	q := c.queue
	if c.counted {
		delete(q.consumers, c.id)
		c.counted = false
	}
	if q.active == c {
		q.active = nil
	}
	c.over(nil)
}

// over notes over which connection a consumer receives.
func (c *consumer) over(conn *connection) {
	if c.conn == conn {
		return
	}
	if c.conn != nil {
		delete(c.conn.consumers, c)
	}
	if c.conn = conn; conn != nil {
		conn.consumers[c] = struct{}{}
	}
}

// quieten takes note that a consumer may not be busy any more.
func (m *Queues) quieten(c *consumer) {
	q := c.queue
	if c.busy() || q.deleted {
		return
	}
	switch {
	case !c.counted:
		c.over(nil)
	case q.watched() && c.left:
		m.watch(q, 0)
	case q.watched():
		m.watch(q, c.seen.Add(q.spec.Lease))
	case c.left:
		m.forget(c)
	}
}

// heard takes note that a consumer has settled one of its deliveries.
func (f *flight) heard(now Time) {
	if f.fetch != nil && f.fetch.consumer != nil {
		f.fetch.consumer.seen = now.Mono
	}
}

// Receive decides or queues a receive.
func (m *Queues) Receive(now Time, r *Receive) {
	m.mono = now.Mono
	q, err := m.findFor(r.Conn, r.Request.Queue)
	if err == nil {
		err = q.notStream()
	}
	var c *consumer
	if err == nil {
		c, err = m.consumer(q, r.Request.Consumer, now.Mono)
	}
	if err != nil {
		r.Err = err
		m.Finished.add(r)
		return
	}
	c.seen, c.left = now.Mono, false
	c.over(m.connection(r.Conn))
	q.used = now.Mono
	if c.receivers.first == nil {
		q.line.push(c)
	}
	r.consumer = c
	c.receivers.push(r)
	if r.Request.Wait == 0 {
		q.polls++
	}
	m.touch(q)
}

// finish ends a receive that waits.
func (m *Queues) finish(r *Receive, err error) {
	c := r.consumer
	q := c.queue
	r.consumer, r.Err = nil, err
	if r.Request.Wait == 0 {
		q.polls--
	}
	c.receivers.remove(r)
	m.Finished.add(r)
	if c.receivers.first == nil {
		q.line.remove(c)
		c.seen = m.mono
		m.quieten(c)
	}
}

// GiveUp ends a waiting receive.
func (m *Queues) GiveUp(c *GiveUp) {
	if c.Receive.consumer != nil {
		m.finish(c.Receive, nil)
	}
}

// Detach ends a consumer. It stays, for a queue that hangs on it, while
// deliveries of it are live. The queue may go with its last one at once.
func (m *Queues) Detach(now Time, ch Changes, c *Detach) {
	m.mono = now.Mono
	q := m.queues[c.Queue]
	if q == nil {
		return
	}
	if c.Err = q.allow(c.Conn); c.Err != nil {
		return
	}
	x := q.consumers[c.Consumer]
	if x == nil {
		return
	}
	m.leave(x)
	if !q.watched() || x.busy() {
		return
	}
	q.used = now.Mono
	m.forget(x)
	switch { // the others are looked at by the next Tick, once
	case q.unused():
		m.tend(now, ch, q)
	case q.active == nil && q.line.first != nil:
		m.touch(q)
	}
}

// leave ends a consumer's receives, and the consumer as soon as it has no
// deliveries.
func (m *Queues) leave(c *consumer) {
	c.left = true
	for c.receivers.first != nil {
		m.finish(c.receivers.first, nil)
	}
	m.quieten(c)
}

// elect makes sure that one of the consumers that wait is active, the one that
// came first, unless one is.
func (q *queue) elect() {
	if q.active != nil {
		return
	}
	for c := q.line.first; c != nil; c = c.next {
		if q.active == nil || c.since < q.active.since {
			q.active = c
		}
	}
}

// findFor returns a queue for a request that an exclusive queue takes from its
// own connection only.
func (m *Queues) findFor(conn uint64, name string) (*queue, error) {
	q, err := m.find(name)
	if err != nil {
		return nil, err
	}
	err = q.allow(conn)
	return q, err
}

// allow refuses a connection that is not the queue's own.
func (q *queue) allow(conn uint64) error {
	if !q.spec.Exclusive || q.owner != nil && q.owner.id == conn {
		return nil
	}
	return fmt.Errorf("queue %q: %w", q.spec.Name, queuedriver.ErrExclusive)
}
