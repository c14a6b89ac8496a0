package rabbitmq

import (
	"container/heap"
	"context"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// held is one delivery that is not settled. RabbitMQ leases nothing: a delivery
// is its channel's until that is closed. The driver takes it back when its
// lease has run out.
type held struct {
	token   lease.Token
	inbox   *inbox
	tag     uint64
	spec    *driver.Queue
	message driver.Message
	inner   inner
	attempt int
	counted bool // by the broker, each time that it has it back

	// Guarded by conn.mu.
	ttl      time.Duration
	deadline time.Time
	looked   time.Time // when leases looks at it
	place    int       // in leases
}

// hold registers what came as a delivery, and returns what the caller gets.
func (c *conn) hold(h *held, ttl time.Duration) driver.Delivery {
	if ttl == 0 {
		ttl = h.spec.Lease
	}
	now := time.Now()
	h.attempt = h.inner.attempts + 1
	h.ttl, h.deadline, h.looked = ttl, now.Add(ttl), now.Add(ttl)
	h.inbox.open.Add(1)
	c.mu.Lock()
	// Tokens grow as long as the clocks of those who receive agree; they tell
	// deliveries of this connection apart, and fence nothing.
	c.last = max(c.last+1, lease.Token(now.UnixMicro()))
	h.token = c.last
	soon := c.keep(h)
	c.mu.Unlock()
	if soon {
		c.leases.signal()
	}
	return driver.Delivery{
		Ref:     driver.Ref{Queue: h.spec.Name, Seq: uint64(h.token), Token: h.token},
		Message: &h.message, Route: h.inner.via, Attempt: h.attempt, TTL: ttl,
	}
}

// keep holds a delivery; c.mu is held. soon: leases is to be looked at.
func (c *conn) keep(h *held) (soon bool) {
	c.held[h.token] = h
	heap.Push(c.leases, h)
	return h.looked.Before(c.leases.next)
}

// letGo holds a delivery no more; c.mu is held.
func (c *conn) letGo(h *held) {
	delete(c.held, h.token)
	heap.Remove(c.leases, h.place)
}

// lose forgets the deliveries of a channel that is gone: the broker has them
// back.
func (c *conn) lose(in *inbox) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inboxes, in)
	for _, h := range c.held {
		if h.inbox == in {
			c.letGo(h)
		}
	}
}

// leases is a heap of the times at which deliveries have to be looked at. One
// that was extended in between is found so then.
type leases struct {
	due  []*held
	next time.Time // when they are looked at
	wake chan struct{}
}

func newLeases() *leases { return &leases{wake: make(chan struct{}, 1)} }

// Len implements heap.Interface.
func (l *leases) Len() int { return len(l.due) }

// Less implements heap.Interface.
func (l *leases) Less(i, j int) bool { return l.due[i].looked.Before(l.due[j].looked) }

// Swap implements heap.Interface.
func (l *leases) Swap(i, j int) {
	l.due[i], l.due[j] = l.due[j], l.due[i]
	l.due[i].place, l.due[j].place = i, j
}

// Push implements heap.Interface.
func (l *leases) Push(x any) {
	h := x.(*held) //nolint:forcetypeassert // keep is the only caller
	h.place = len(l.due)
	l.due = append(l.due, h)
}

// Pop implements heap.Interface.
func (l *leases) Pop() any {
	n := len(l.due) - 1
	h := l.due[n]
	l.due[n] = nil
	l.due = l.due[:n]
	return h
}

func (l *leases) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// expire takes back what was leased for too long, until the conn is closed.
func (c *conn) expire() {
	for {
		over, next := c.overdue(time.Now())
		for _, h := range over {
			c.work.Start(func() { c.expired(h) })
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-c.leases.wake:
		case <-c.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// idleLook is for how long nothing is looked at if there are no deliveries.
const idleLook = time.Minute

func (c *conn) overdue(now time.Time) (over []*held, next time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.leases
	l.next = now.Add(idleLook)
	for len(l.due) > 0 {
		h := l.due[0]
		if h.looked.After(now) {
			l.next = h.looked
			break
		}
		if h.deadline.After(now) {
			h.looked = h.deadline
			heap.Fix(l, 0)
			continue
		}
		c.letGo(h)
		over = append(over, h)
	}
	return over, l.next.Sub(now)
}

// expired fails an attempt whose lease ran out.
func (c *conn) expired(h *held) {
	ctx, cancel := context.WithTimeout(c.ctx, c.o.PublishFor)
	defer cancel()
	st := driver.Settlement{Verb: driver.Nack, Reason: "the lease ran out"}
	if o := c.finish(ctx, []*held{h}, []*driver.Settlement{&st})[0]; o.Err != nil && !h.inbox.dead() {
		// It stays with the channel; without that it goes back to the queue.
		c.o.Logger.Warn("a delivery whose lease ran out goes back without being counted", "queue", h.spec.Name, "error", o.Err)
		_ = h.inbox.back(h.tag, false)
		c.settled(h.inbox, 1)
	}
}
