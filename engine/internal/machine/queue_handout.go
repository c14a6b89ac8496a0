package machine

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
)

// deliver hands messages to the receivers that wait.
func (m *Queues) deliver(now Time, ch Changes, view View, q *queue) {
	if q.deleted && q.stream != nil {
		m.dismissReaders(q)
		return
	}
	if q.deleted || q.failed != nil {
		err := q.failed
		if q.deleted {
			err = fmt.Errorf("queue %q was deleted: %w", q.spec.Name, lease.ErrNotFound)
		}
		for q.line.first != nil {
			m.finish(q.line.first.receivers.first, err)
		}
	}
	for q.line.first != nil {
		if _, behind := q.nextTimeOut(now); behind {
			m.feed(q) // first the others whose time is over
			break
		}
		if !m.handOut(now, ch, view, q) {
			break
		}
	}
	q.failed = nil
	if q.starved() && q.line.first != nil {
		m.feed(q)
	}
	if q.hungry {
		return
	}
	for c := q.line.first; c != nil && q.polls > 0; {
		after := c.next
		for r := c.receivers.first; r != nil; {
			next := r.next
			if r.Request.Wait == 0 {
				m.finish(r, nil)
			}
			r = next
		}
		c = after
	}
}

// handOut gives some messages to those who wait, in turns: consumers, not
// receives, take part, and the messages are split evenly among them as far as
// they ask for it, and whoever got something is the last of the line. It
// reports false if there is nothing more to give.
func (m *Queues) handOut(now Time, ch Changes, view View, q *queue) bool {
	c := q.line.first
	if q.spec.SingleActive {
		if q.elect(); q.active.receivers.first == nil {
			return false
		}
		c = q.active
	}
	if c.next == nil && c.prev == nil || q.spec.SingleActive {
		r := c.receivers.first
		es := m.gather(now, ch, view, q, r.Request.Max, r.Request.MaxBytes)
		if len(es) == 0 {
			return false
		}
		m.launch(now, ch, q, r, es)
		m.finish(r, nil)
		return true
	}
	takers, most, size := m.takers(q)
	if len(takers) == 0 {
		return false
	}
	es := m.gather(now, ch, view, q, most, size)
	if len(es) == 0 {
		return false
	}
	share(takers, len(es))
	for i := range takers {
		es = m.serve(now, ch, q, &takers[i], es)
	}
	for _, e := range es { // did not fit into MaxBytes
		q.returned.push(e)
	}
	clear(takers)
	return true
}

// available is how many messages there are to give at most.
func (q *queue) available() int {
	n := len(q.returned.es)
	for i := range q.levels {
		n += q.levels[i].ready.len()
	}
	return n
}

// taker is a consumer that takes part in handing out.
type taker struct {
	consumer *consumer
	asks     int // messages, of all its receives
	gets     int
}

// takers returns the consumers at the head of the line, as many as there may
// be messages, and how many messages and bytes they ask for.
func (m *Queues) takers(q *queue) (takers []taker, most, size int) {
	available := q.available()
	takers = m.taking[:0]
	for c := q.line.first; c != nil && len(takers) < available; c = c.next {
		asks := 0
		for r := c.receivers.first; r != nil && asks < available; r = r.next {
			asks += r.Request.Max
			size += r.Request.MaxBytes
		}
		takers = append(takers, taker{consumer: c, asks: asks})
		most += asks
	}
	m.taking = takers
	return takers, most, size
}

// share splits n messages: evenly, but nobody gets more than it asks for. Of
// a rest that cannot be split the first get one each.
func share(takers []taker, n int) {
	for open := len(takers); n > 0 && open > 0; {
		each := max(1, n/open)
		open = 0
		for i := range takers {
			t := &takers[i]
			more := min(each, t.asks-t.gets, n)
			t.gets += more
			n -= more
			if t.gets < t.asks {
				open++
			}
		}
	}
}

// serve gives a taker its part of es, in order, and returns the rest.
func (m *Queues) serve(now Time, ch Changes, q *queue, t *taker, es []entry) []entry {
	c := t.consumer
	for r := c.receivers.first; r != nil && t.gets > 0 && len(es) > 0; r = c.receivers.first {
		n, size := 0, 0
		for n < min(r.Request.Max, t.gets, len(es)) && (n == 0 || size+int(es[n].size) <= r.Request.MaxBytes) {
			size += int(es[n].size)
			n++
		}
		t.gets -= n
		m.launch(now, ch, q, r, es[:n])
		m.finish(r, nil)
		es = es[n:]
	}
	if c.receivers.first != nil {
		q.line.remove(c)
		q.line.push(c)
	}
	return es
}
