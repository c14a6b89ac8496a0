package kafka

import (
	"container/heap"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// lend makes an entry a delivery, and reports whether its lease is the first to
// be looked at; mu is held. Kafka leases nothing: a message is its partition's
// client's. The driver takes it back when its lease has run out.
func (s *source) lend(e *entry, ttl time.Duration, now time.Time) bool {
	if ttl == 0 {
		ttl = s.spec.Lease
	}
	e.state, e.token = held, s.c.token(now)
	e.ttl, e.deadline, e.looked = ttl, now.Add(ttl), now.Add(ttl)
	e.p.held++
	s.held[e.token] = e
	return s.leases.add(e)
}

// token makes one that is larger than all before. They grow as far as the clocks
// of those who receive agree.
func (c *conn) token(now time.Time) lease.Token {
	for {
		last := c.last.Load()
		next := max(last+1, uint64(now.UnixMicro()))
		if c.last.CompareAndSwap(last, next) {
			return lease.Token(next)
		}
	}
}

// leased is an entry in the heap of leases. One that was settled and delivered
// again in between has another token.
type leased struct {
	e     *entry
	token lease.Token
	at    time.Time
}

// leases is a heap of the times at which deliveries have to be looked at. One
// that was settled or extended in between is found so then.
type leases struct {
	due  []leased
	wake chan struct{}
}

// Len implements heap.Interface.
func (l *leases) Len() int { return len(l.due) }

// Less implements heap.Interface.
func (l *leases) Less(i, j int) bool { return l.due[i].at.Before(l.due[j].at) }

// Swap implements heap.Interface.
func (l *leases) Swap(i, j int) { l.due[i], l.due[j] = l.due[j], l.due[i] }

// Push implements heap.Interface.
func (l *leases) Push(x any) { l.due = append(l.due, x.(leased)) } //nolint:forcetypeassert // add is the only caller

// Pop implements heap.Interface.
func (l *leases) Pop() any {
	n := len(l.due) - 1
	x := l.due[n]
	l.due[n] = leased{}
	l.due = l.due[:n]
	return x
}

// add puts a delivery in and reports whether it is the first to be looked at.
func (l *leases) add(e *entry) bool {
	heap.Push(l, leased{e, e.token, e.looked})
	return l.due[0].e == e
}

// extend leases anew; mu is held.
func (s *source) extend(e *entry, ttl time.Duration) time.Duration {
	if ttl == 0 {
		ttl = e.ttl
	}
	e.ttl, e.deadline = ttl, time.Now().Add(ttl)
	if e.deadline.Before(e.looked) { // shorter than it was
		e.looked = e.deadline
		if s.leases.add(e) {
			signal(s.leases.wake)
		}
	}
	return ttl
}

// idleLook is for how long nothing is looked at if there are no deliveries.
const idleLook = time.Minute

// expire takes back what was leased for too long, and leaves the group when
// nobody has received for the queue's lease, until the source is stopped.
func (s *source) expire() {
	for {
		over, next := s.overdue(time.Now())
		for _, e := range over {
			s.c.work.Start(func() { s.expired(e) })
		}
		if s.isIdle(time.Now()) {
			s.c.drop(s)
			s.c.work.Start(func() { s.stop(errLeft, true) })
			return
		}
		timer := time.NewTimer(min(next, s.spec.Lease))
		select {
		case <-timer.C:
		case <-s.leases.wake:
		case <-s.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

func (s *source) isIdle(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiters) == 0 && !s.busy() && now.Sub(s.heard) > s.spec.Lease+s.c.o.Timeout
}

func (s *source) overdue(now time.Time) (over []*entry, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.leases
	for len(l.due) > 0 {
		x := l.due[0]
		if s.held[x.token] != x.e {
			heap.Pop(l)
			continue
		}
		if x.at.After(now) {
			return over, x.at.Sub(now)
		}
		heap.Pop(l)
		if e := x.e; e.deadline.After(now) {
			e.looked = e.deadline
			l.add(e)
			continue
		}
		delete(s.held, x.token)
		x.e.state = settling
		over = append(over, x.e)
	}
	return over, idleLook
}

// expired fails an attempt whose lease ran out.
func (s *source) expired(e *entry) {
	st := driver.Settlement{Verb: driver.Nack, Reason: "the lease ran out"}
	if o := s.conclude(s.ctx, []*entry{e}, []*driver.Settlement{&st})[0]; o.Err != nil {
		s.retry(e, o.Err)
	}
}

// retry offers an entry again that could not be dead-lettered.
func (s *source) retry(e *entry, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state != settling {
		return
	}
	s.c.o.Logger.Warn("a message could not be dead-lettered yet", "queue", s.spec.Name, "error", why)
	e.p.settled()
	s.again(e, max(s.backoff(e), buryPause))
}
