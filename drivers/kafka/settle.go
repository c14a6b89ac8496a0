package kafka

import (
	"context"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Settle implements driver.Conn. What is settled is committed a little later,
// with all that is before it in its partition.
func (c *conn) Settle(ctx context.Context, ss []driver.Settlement) ([]driver.Outcome, error) {
	if err := driver.ValidateSettlements(ss, &c.caps); err != nil {
		return nil, err
	}
	for i := range ss {
		if ss[i].Delay > MaxDelay {
			return nil, lease.Invalidf("delay", "must be at most %v on Kafka, is %v", MaxDelay, ss[i].Delay)
		}
	}
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	outcomes := make([]driver.Outcome, len(ss))
	for from := 0; from < len(ss); {
		to := from + 1
		for to < len(ss) && ss[to].Ref.Queue == ss[from].Ref.Queue {
			to++
		}
		c.mu.Lock()
		s := c.sources[ss[from].Ref.Queue]
		c.mu.Unlock()
		if s == nil {
			for i := from; i < to; i++ {
				outcomes[i].Err = lease.ErrNotHeld
			}
		} else {
			s.settle(ctx, ss[from:to], outcomes[from:to])
		}
		from = to
	}
	return outcomes, nil
}

// settle settles deliveries of one queue.
func (s *source) settle(ctx context.Context, ss []driver.Settlement, outcomes []driver.Outcome) {
	if s.share != nil {
		s.share.settle(ctx, ss, outcomes)
		return
	}
	var es []*entry
	var sts []*driver.Settlement
	var at []int
	s.mu.Lock()
	s.heard = time.Now()
	for i := range ss {
		st := &ss[i]
		e := s.held[st.Ref.Token]
		switch {
		case e == nil || uint64(e.token) != st.Ref.Seq:
			outcomes[i].Err = lease.ErrNotHeld
		case st.Verb == driver.Extend:
			outcomes[i].TTL = s.extend(e, st.TTL)
		default:
			s.unlend(e)
			if st.Verb == driver.Ack { // most are
				e.p.settled()
				s.finish(e)
				continue
			}
			e.state = settling
			es, sts, at = append(es, e), append(sts, st), append(at, i)
		}
	}
	s.mu.Unlock()
	if len(es) == 0 {
		return
	}
	for k, o := range s.conclude(ctx, es, sts) {
		outcomes[at[k]] = o
		if o.Err != nil {
			s.restore(es[k])
		}
	}
}

// restore holds a delivery as before, of which nothing was done.
func (s *source) restore(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state == settling {
		e.state = held
		s.held[e.token] = e
		s.leases.add(e, e.ttl, time.Now())
	}
}

// step is what becomes of a delivery.
type step uint8

const (
	toFinish  step = iota // gone
	toRelease             // offered again
	toFail                // offered again after a delay, with one failed attempt more
	toBury                // a copy to the dead letter, and then gone
)

// fate is a step with what it needs.
type fate struct {
	step   step
	delay  time.Duration
	reason string // of a burial
	detail string
}

// decide says what a settlement means for a delivery.
func (s *source) decide(e *entry, st *driver.Settlement) fate {
	dies := s.spec.DeadLetter != nil
	switch st.Verb {
	case driver.Release:
		return fate{step: toRelease}
	case driver.Reject:
		if dies {
			return fate{step: toBury, reason: driver.ReasonRejected, detail: st.Reason}
		}
	case driver.Nack:
		if dies && e.attempts+1 >= s.spec.DeliveryLimit {
			return fate{step: toBury, reason: driver.ReasonDeliveryLimit, detail: st.Reason}
		}
		delay := st.Delay
		if st.Backoff {
			delay = s.backoff(e)
		}
		return fate{step: toFail, delay: delay}
	case driver.Ack, driver.Extend:
	}
	return fate{step: toFinish}
}

// backoff is the pause before the next attempt: it doubles, and a part between
// half and the whole of it counts, picked by the token.
func (s *source) backoff(e *entry) time.Duration {
	d := s.spec.Backoff.Min
	for range min(e.attempts, 62) {
		if d >= s.spec.Backoff.Max/2 {
			d = s.spec.Backoff.Max
			break
		}
		d *= 2
	}
	d = min(d, s.spec.Backoff.Max)
	const parts = 1 << 10
	part := (uint64(e.token) * 0x9E3779B97F4A7C15) >> 54 // 10 bits
	return min(d/2+time.Duration(float64(d/2)*float64(part)/parts), MaxDelay)
}

// conclude does what settlements mean for entries that are settling: first the
// copies, which are confirmed. An entry whose outcome has an error is settling
// still.
func (s *source) conclude(ctx context.Context, es []*entry, sts []*driver.Settlement) []driver.Outcome {
	outcomes := make([]driver.Outcome, len(es))
	fates := make([]fate, len(es))
	var dying []int
	for i, e := range es {
		if fates[i] = s.decide(e, sts[i]); fates[i].step == toBury {
			dying = append(dying, i)
		}
	}
	if len(dying) > 0 {
		s.bury(ctx, es, fates, outcomes, dying)
	}
	if s.share != nil {
		s.share.conclude(ctx, es, fates, outcomes)
		return outcomes
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range es {
		switch {
		case e.state != settling: // its partition went to others
			outcomes[i] = driver.Outcome{Err: lease.ErrNotHeld}
		case outcomes[i].Err == nil:
			s.apply(e, &fates[i])
		}
	}
	return outcomes
}

// apply ends the settlement of an entry; mu is held.
func (s *source) apply(e *entry, f *fate) {
	e.p.settled()
	switch f.step {
	case toFinish, toBury:
		s.finish(e)
	case toRelease:
		e.state = blocked
		s.again(e, 0)
	case toFail:
		e.attempts++
		e.state = blocked
		s.again(e, f.delay)
	}
}
