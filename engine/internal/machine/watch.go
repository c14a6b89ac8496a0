package machine

import (
	"container/heap"

	"github.com/lockkeeper/lockkeeper/lease"
)

// watchSlot is a queue's place in the heap of those that are to be looked at.
type watchSlot struct {
	queue *queue
	at    lease.Instant
	index int // -1: not in it
}

// watchHeap gives the queue that is to be looked at first.
type watchHeap []*watchSlot

func (h watchHeap) Len() int           { return len(h) }
func (h watchHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h watchHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *watchHeap) Push(x any) {
	s := x.(*watchSlot) //nolint:forcetypeassert // there is nothing else in it
	s.index = len(*h)
	*h = append(*h, s)
}

// Pop implements heap.Interface.
func (h *watchHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	s.index = -1
	return s
}

// watch has a queue looked at by the Tick of that time, or sooner.
func (m *Queues) watch(q *queue, at lease.Instant) {
	switch s := &q.watch; {
	case s.index < 0:
		s.at = at
		heap.Push(&m.watches, s)
	case at < s.at:
		s.at = at
		heap.Fix(&m.watches, s.index)
	}
}

func (m *Queues) unwatch(q *queue) {
	if q.watch.index >= 0 {
		heap.Remove(&m.watches, q.watch.index)
	}
}

// dropSteps is about what it costs to delete a queue.
const dropSteps = 1000

// tendAll looks at the queues whose time has come.
func (m *Queues) tendAll(now Time, ch Changes) {
	for len(m.watches) > 0 && m.watches[0].at <= now.Mono && !m.roundFull() {
		m.steps++
		m.tend(now, ch, m.watches[0].queue)
	}
}

// tend forgets a queue's consumers that are gone, deletes it if it is not to
// be any longer, and otherwise notes when to look again.
func (m *Queues) tend(now Time, ch Changes, q *queue) {
	m.unwatch(q)
	next := lease.Instant(0)
	soon := func(at lease.Instant) {
		if next == 0 || at < next {
			next = at
		}
	}
	m.steps += len(q.consumers)
	for _, c := range q.consumers {
		switch until := c.seen.Add(q.spec.Lease); {
		case c.busy(): // looked at again when it is not
		case c.left:
			q.used = now.Mono
			m.forget(c)
		case until <= now.Mono:
			q.used = max(q.used, until)
			m.forget(c)
		default:
			soon(until)
		}
	}
	expires := q.used.Add(q.spec.Expires)
	mayExpire := q.spec.Expires > 0 && q.unused()
	if q.orphaned || q.spec.AutoDelete && q.attended && q.unused() || mayExpire && expires <= now.Mono {
		m.steps += dropSteps
		m.dropQueue(ch, q)
		return
	}
	if mayExpire {
		soon(expires)
	}
	if next != 0 {
		m.watch(q, next)
	}
	if q.active == nil && q.line.first != nil {
		m.touch(q)
	}
}

// connection is what hangs on one connection: consumers, and the queues that
// are its own.
type connection struct {
	id        uint64
	consumers map[*consumer]struct{}
	queues    map[*queue]struct{}
}

// connection returns the connection of that id; nil for 0.
func (m *Queues) connection(id uint64) *connection {
	if id == 0 {
		return nil
	}
	c := m.conns[id]
	if c == nil {
		c = &connection{id: id, consumers: make(map[*consumer]struct{}), queues: make(map[*queue]struct{})}
		m.conns[id] = c
	}
	return c
}

// CloseConn ends what hangs on a connection: its consumers leave, and its
// queues are deleted by the rounds that follow.
func (m *Queues) CloseConn(now Time, c *CloseConn) {
	m.mono = now.Mono
	conn := m.conns[c.Conn]
	if conn == nil {
		return
	}
	delete(m.conns, c.Conn)
	for x := range conn.consumers {
		m.leave(x)
		x.over(nil)
	}
	for q := range conn.queues {
		q.owner, q.orphaned = nil, true
		m.watch(q, now.Mono)
	}
}
