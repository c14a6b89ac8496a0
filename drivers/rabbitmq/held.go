package rabbitmq

import (
	"container/heap"
	"context"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

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
	message *driver.Message
	inner   *inner
	attempt int
	counted bool // by the broker, each time that it has it back

	// Guarded by conn.mu.
	ttl      time.Duration
	deadline time.Time
	looked   time.Time // when leases looks at it
}

// hold registers a delivery and returns what the caller gets.
func (c *conn) hold(in *inbox, s *source, tag uint64, m *driver.Message, i *inner, ttl time.Duration) driver.Delivery {
	spec := s.spec
	if ttl == 0 {
		ttl = spec.Lease
	}
	now := time.Now()
	h := &held{
		inbox: in, tag: tag, spec: spec, message: m, inner: i, attempt: i.attempts + 1, counted: s.counts,
		ttl: ttl, deadline: now.Add(ttl), looked: now.Add(ttl),
	}
	c.mu.Lock()
	// Tokens grow as long as the clocks of those who receive agree; they tell
	// deliveries of this connection apart, and fence nothing.
	c.last = max(c.last+1, lease.Token(now.UnixMicro()))
	h.token = c.last
	c.held[h.token] = h
	in.open++
	first := c.leases.add(h)
	c.mu.Unlock()
	if first {
		c.leases.signal()
	}
	return driver.Delivery{
		Ref:     driver.Ref{Queue: spec.Name, Seq: uint64(h.token), Token: h.token},
		Message: m, Route: i.via, Attempt: h.attempt, TTL: ttl,
	}
}

// lose forgets the deliveries of a channel that is gone: the broker has them
// back.
func (c *conn) lose(in *inbox) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for token, h := range c.held {
		if h.inbox == in {
			delete(c.held, token)
		}
	}
}

// leases is a heap of the times at which deliveries have to be looked at. One
// that was settled or extended in between is found so then.
type leases struct {
	due  []*held
	wake chan struct{}
}

func newLeases() *leases { return &leases{wake: make(chan struct{}, 1)} }

// Len implements heap.Interface.
func (l *leases) Len() int { return len(l.due) }

// Less implements heap.Interface.
func (l *leases) Less(i, j int) bool { return l.due[i].looked.Before(l.due[j].looked) }

// Swap implements heap.Interface.
func (l *leases) Swap(i, j int) { l.due[i], l.due[j] = l.due[j], l.due[i] }

// Push implements heap.Interface.
func (l *leases) Push(x any) { l.due = append(l.due, x.(*held)) } //nolint:forcetypeassert // add is the only caller

// Pop implements heap.Interface.
func (l *leases) Pop() any {
	n := len(l.due) - 1
	h := l.due[n]
	l.due[n] = nil
	l.due = l.due[:n]
	return h
}

// add puts a delivery in and reports whether it is the first to be looked at.
func (l *leases) add(h *held) bool {
	heap.Push(l, h)
	return l.due[0] == h
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
	for len(l.due) > 0 {
		h := l.due[0]
		if c.held[h.token] != h {
			heap.Pop(l)
			continue
		}
		if h.looked.After(now) {
			return over, h.looked.Sub(now)
		}
		heap.Pop(l)
		if h.deadline.After(now) {
			h.looked = h.deadline
			heap.Push(l, h)
			continue
		}
		delete(c.held, h.token)
		over = append(over, h)
	}
	return over, idleLook
}

// expired fails an attempt whose lease ran out.
func (c *conn) expired(h *held) {
	ctx, cancel := context.WithTimeout(c.ctx, c.o.PublishFor)
	defer cancel()
	st := driver.Settlement{Verb: driver.Nack, Reason: "the lease ran out"}
	if o := c.finish(ctx, []*held{h}, []*driver.Settlement{&st})[0]; o.Err != nil && !h.inbox.dead() {
		// It stays with the channel; without that it goes back to the queue.
		c.o.Logger.Warn("a delivery whose lease ran out goes back without being counted", "queue", h.spec.Name, "error", o.Err)
		_ = h.inbox.ch.Nack(h.tag, false, true)
	}
}

// inbox is a channel over which messages come.
type inbox struct {
	ch   *amqp.Channel
	gone chan struct{}

	mu  sync.Mutex
	why *amqp.Error

	// Guarded by conn.mu.
	open    int  // deliveries that the broker was told nothing about
	retired bool // to be closed when there are none
}

// retire closes a channel when nothing that came over it is open.
func (c *conn) retire(in *inbox) {
	c.mu.Lock()
	in.retired = true
	empty := in.open == 0
	c.mu.Unlock()
	if empty {
		_ = in.ch.Close() // it may be lost
	}
}

// told notes that the broker was told about a delivery.
func (c *conn) told(h *held) {
	c.mu.Lock()
	h.inbox.open--
	empty := h.inbox.retired && h.inbox.open == 0
	c.mu.Unlock()
	if empty {
		c.work.Start(func() { _ = h.inbox.ch.Close() })
	}
}

func (in *inbox) dead() bool {
	select {
	case <-in.gone:
		return true
	default:
		return in.ch.IsClosed()
	}
}

// openInbox opens a channel to receive over.
func (c *conn) openInbox(ctx context.Context) (*inbox, error) {
	l, err := c.in.get(ctx)
	if err != nil {
		return nil, err
	}
	ch, err := l.conn.Channel()
	if err != nil {
		return nil, classify(err, lease.ErrUnavailable)
	}
	in := &inbox{ch: ch, gone: make(chan struct{})}
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	started := c.work.Start(func() {
		why := <-closes
		in.mu.Lock()
		in.why = why
		in.mu.Unlock()
		close(in.gone)
		c.lose(in)
	})
	if !started {
		_ = ch.Close()
		return nil, lease.ErrClosed
	}
	return in, nil
}

// failed says why a request over the channel failed.
func (in *inbox) failed(err error) error {
	if in.ch.IsClosed() {
		<-in.gone
		in.mu.Lock()
		why := in.why
		in.mu.Unlock()
		if why != nil {
			err = why
		}
	}
	return classify(err, lease.ErrUnavailable)
}
