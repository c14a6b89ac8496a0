package kafka

import (
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// lend makes an entry a delivery; mu is held. Kafka leases nothing: a message is
// its partition's client's. The driver takes it back when its lease has run out.
func (s *source) lend(e *entry, ttl time.Duration, now time.Time) {
	if ttl == 0 {
		ttl = s.spec.Lease
	}
	e.state, e.token = held, s.c.token(now)
	e.p.held++
	s.held[e.token] = e
	s.leases.add(e, ttl, now)
}

// unlend ends what lend began; mu is held.
func (s *source) unlend(e *entry) {
	delete(s.held, e.token)
	s.leases.remove(e)
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

// leases are deliveries by when their leases run out: a list for each length of
// lease, of which there are few, in the order in which they were leased.
type leases struct {
	lists map[time.Duration]*leaseList
	looks time.Time     // when the next look at them is
	wake  chan struct{} // a token: look now
}

// leaseList is deliveries with leases of one length.
type leaseList struct{ first, last *entry }

func (l *leases) init() {
	l.lists, l.wake = map[time.Duration]*leaseList{}, make(chan struct{}, 1)
}

// add leases an entry.
func (l *leases) add(e *entry, ttl time.Duration, now time.Time) {
	e.ttl, e.deadline = ttl, now.Add(ttl)
	list := l.lists[ttl]
	if list == nil {
		list = &leaseList{}
		l.lists[ttl] = list
	}
	e.sooner, e.later = list.last, nil
	if list.last != nil {
		list.last.later = e
	} else {
		list.first = e
	}
	list.last = e
	if e.deadline.Before(l.looks) {
		signal(l.wake)
	}
}

// remove ends the lease of an entry.
func (l *leases) remove(e *entry) {
	list := l.lists[e.ttl]
	if e.sooner != nil {
		e.sooner.later = e.later
	} else {
		list.first = e.later
	}
	if e.later != nil {
		e.later.sooner = e.sooner
	} else {
		list.last = e.sooner
	}
	e.sooner, e.later = nil, nil
	if list.first == nil {
		delete(l.lists, e.ttl)
	}
}

// extend leases anew; mu is held.
func (s *source) extend(e *entry, ttl time.Duration) time.Duration {
	if ttl == 0 {
		ttl = e.ttl
	}
	s.leases.remove(e)
	s.leases.add(e, ttl, time.Now())
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
		timer := time.NewTimer(next)
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

// overdue takes the deliveries whose leases have run out, and says how long it is
// until the next one's.
func (s *source) overdue(now time.Time) (over []*entry, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = idleLook
	for _, list := range s.leases.lists {
		for e := list.first; e != nil; e = list.first {
			if e.deadline.After(now) {
				next = min(next, e.deadline.Sub(now))
				break
			}
			s.unlend(e)
			e.state = settling
			over = append(over, e)
		}
	}
	next = min(next, s.spec.Lease)
	s.leases.looks = now.Add(next)
	return over, next
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
