package queuetest_test

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// refConsumer is a consumer of one queue.
type refConsumer struct {
	id       string
	conn     *refConn
	since    time.Time
	seen     time.Time
	waiting  int // receives
	asks     int // messages, by all of them
	left     bool
	detached int // times
}

func (c *refConsumer) leave() {
	c.left = true
	c.detached++
}

// busy reports that a consumer waits or holds something.
func (q *refQueue) busy(c *refConsumer) bool {
	return c.waiting > 0 || slices.ContainsFunc(q.messages, func(m *refMessage) bool { return m.flying && m.consumer == c })
}

// upkeep forgets the consumers that are gone, and deletes the queue if it is
// not to be any longer.
func (r *reference) upkeep(q *refQueue, now time.Time) {
	for id, c := range q.consumers {
		gone := c.seen.Add(q.spec.Lease)
		switch {
		case !c.left && (gone.After(now) || r.flaws.neverGone), // busy looks at every message
			q.busy(c) && (c.waiting > 0 || !c.left || !r.flaws.activeOverlaps):
			continue
		case c.left:
			gone = now
		}
		delete(q.consumers, id)
		if q.active == c {
			q.active = nil
		}
		if gone.After(q.used) {
			q.used = gone
		}
		if r.flaws.autoDeleteHasty && q.spec.AutoDelete {
			r.drop(q)
		}
	}
	unused := len(q.consumers) == 0 || r.flaws.expiresAnyway
	if q.spec.AutoDelete && q.attended && len(q.consumers) == 0 ||
		q.spec.Expires > 0 && unused && !now.Before(q.used.Add(q.spec.Expires)) {
		r.drop(q)
	}
}

// drop deletes a queue with all that is in it.
func (r *reference) drop(q *refQueue) {
	delete(r.queues, q.spec.Name)
	r.bindings = slices.DeleteFunc(r.bindings, func(b driver.Binding) bool { return b.Queue == q.spec.Name })
	r.wake()
}

// part ends what hangs on a connection.
func (r *reference) part(c *refConn) {
	for _, q := range slices.Collect(maps.Values(r.queues)) {
		for _, x := range q.consumers {
			if x.conn == c {
				x.leave()
			}
		}
		if q.owner == c && !r.flaws.exclusiveStays {
			r.drop(q)
		}
	}
}

// restart forgets who consumes, but for those who hold deliveries.
func (r *reference) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.queues {
		maps.DeleteFunc(q.consumers, func(_ string, c *refConsumer) bool {
			c.left = false
			return !q.busy(c)
		})
		q.used, q.attended = time.Now(), len(q.consumers) > 0
	}
}

func (c *refConn) owns(q *refQueue) bool {
	return !q.spec.Exclusive || q.owner == c || c.flaws.exclusiveOpen
}

// own finds a queue that this connection may use.
func (c *refConn) own(name string) (*refQueue, error) {
	q, err := c.find(name)
	if err == nil && !c.owns(q) {
		err = driver.ErrExclusive
	}
	return q, err
}

// admitted checks that what a declaration names is not another's.
func (c *refConn) admitted(t *driver.Topology) error {
	names := []string{}
	for _, q := range t.Queues {
		names = append(names, q.Name)
	}
	for _, b := range t.Bindings {
		names = append(names, b.Queue)
	}
	for _, name := range names {
		if q := c.queues[name]; q != nil && !c.owns(q) {
			return driver.ErrExclusive
		}
	}
	return nil
}

// used notes what was declared.
func (c *refConn) used(t *driver.Topology) {
	for _, spec := range t.Queues {
		q := c.queues[spec.Name]
		if q.spec.Exclusive {
			q.owner = c
		}
		if !c.flaws.expiresAnyway || q.used.IsZero() {
			q.used = time.Now()
		}
	}
}

// refWait is one Receive under way.
type refWait struct {
	queue    *refQueue
	consumer *refConsumer
	request  *driver.ReceiveRequest
	detached int
	over     bool
}

// arrive has a consumer wait.
func (c *refConn) arrive(ctx context.Context, r *driver.ReceiveRequest) (*refWait, error) {
	now, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	q, err := c.own(r.Queue)
	if err == nil && !c.flaws.streamLeases {
		err = q.leases()
	}
	if err != nil {
		return nil, err
	}
	x := q.consumers[r.Consumer]
	if x == nil {
		x = &refConsumer{id: r.Consumer, since: now}
		q.consumers[r.Consumer] = x
	}
	x.conn, x.seen, x.left = c, now, false
	q.attended = true
	if x.waiting == 0 || c.flaws.receivesTakeTurns {
		q.line = append(q.line, x)
	}
	x.waiting++
	x.asks += r.Max
	if q.active == nil && q.spec.SingleActive {
		q.elect()
	}
	return &refWait{queue: q, consumer: x, request: r, detached: x.detached}, nil
}

// elect makes the one active that came first of those that wait.
func (q *refQueue) elect() {
	for _, c := range q.line {
		if q.active == nil || c.since.Before(q.active.since) {
			q.active = c
		}
	}
}

// depart ends a Receive, if it has not ended.
func (c *refConn) depart(w *refWait) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.departed(w)
}

// departed is depart for who has the lock: what one got and that it waits no
// more are one step, or others would share with it once more.
func (c *refConn) departed(w *refWait) {
	if w.over {
		return
	}
	w.over = true
	x := w.consumer
	x.waiting--
	x.asks -= w.request.Max
	x.seen = time.Now()
	if x.waiting == 0 || c.flaws.receivesTakeTurns {
		i := slices.Index(w.queue.line, x)
		w.queue.line = slices.Delete(w.queue.line, i, i+1)
	}
}

func (w *refWait) lastInLine() {
	q := w.queue
	i := slices.Index(q.line, w.consumer)
	q.line = append(slices.Delete(q.line, i, i+1), w.consumer)
}

// part says how many of n messages are for this receive.
func (w *refWait) part(f flaws, n int) int {
	q := w.queue
	if q.spec.SingleActive && !f.activeIgnored {
		if q.active == nil {
			q.elect()
		}
		if q.active != w.consumer {
			return 0
		}
		return w.request.Max
	}
	if f.firstTakesAll {
		return w.request.Max
	}
	if n == 0 || len(q.line) == 1 {
		return min(n, w.request.Max)
	}
	gets := make([]int, len(q.line))
	for given := true; given && n > 0; {
		given = false
		for i, c := range q.line { // one each, in turn
			if n > 0 && (gets[i] < c.asks || f.restUnshared) {
				gets[i]++
				n--
				given = true
			}
		}
	}
	return min(gets[slices.Index(q.line, w.consumer)], w.request.Max)
}
