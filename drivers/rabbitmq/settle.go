package rabbitmq

import (
	"container/heap"
	"context"
	"errors"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Settle implements driver.Conn. An ack is sent, and not confirmed: AMQP has no
// answer to it.
func (c *conn) Settle(ctx context.Context, ss []driver.Settlement) ([]driver.Outcome, error) {
	if err := driver.ValidateSettlements(ss, &c.caps); err != nil {
		return nil, err
	}
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	outcomes := make([]driver.Outcome, len(ss))
	acks := make([]acked, 0, few)
	var rest settling
	woken := false
	c.mu.Lock()
	for i := range ss {
		st := &ss[i]
		h := c.held[st.Ref.Token]
		if h == nil || h.spec.Name != st.Ref.Queue || uint64(h.token) != st.Ref.Seq || h.inbox.dead() {
			outcomes[i].Err = lease.ErrNotHeld
			continue
		}
		switch st.Verb {
		case driver.Extend:
			outcomes[i].TTL = c.extend(h, st.TTL, &woken)
		case driver.Ack:
			c.letGo(h)
			acks = append(acks, acked{h.inbox, h.tag, i})
		case driver.Nack, driver.Reject, driver.Release:
			c.letGo(h)
			rest.add(h, st, i)
		}
	}
	c.mu.Unlock()
	if woken {
		c.leases.signal()
	}
	c.ack(acks, func(i int) { outcomes[i] = driver.Outcome{Err: lease.ErrNotHeld} }) // it went back with the channel
	if len(rest.held) > 0 {
		c.settleRest(ctx, &rest, outcomes)
	}
	return outcomes, nil
}

// few is how many acks of one call need no memory of their own.
const few = 16

// settling is deliveries that are settled by something else than an ack.
type settling struct {
	held []*held
	sts  []*driver.Settlement
	at   []int // of their outcomes
}

func (s *settling) add(h *held, st *driver.Settlement, at int) {
	s.held, s.sts, s.at = append(s.held, h), append(s.sts, st), append(s.at, at)
}

func (c *conn) settleRest(ctx context.Context, s *settling, outcomes []driver.Outcome) {
	for k, o := range c.finish(ctx, s.held, s.sts) {
		outcomes[s.at[k]] = o
		h := s.held[k]
		if o.Err == nil {
			continue
		}
		c.mu.Lock()
		soon := false
		if !h.inbox.dead() { // nothing was done: it is held as before
			soon = c.keep(h)
		}
		c.mu.Unlock()
		if soon {
			c.leases.signal()
		}
	}
}

// extend leases anew; c.mu is held.
func (c *conn) extend(h *held, ttl time.Duration, woken *bool) time.Duration {
	if ttl == 0 {
		ttl = h.ttl
	}
	h.ttl, h.deadline = ttl, time.Now().Add(ttl)
	if h.deadline.Before(h.looked) { // shorter than it was
		h.looked = h.deadline
		heap.Fix(c.leases, h.place)
		*woken = *woken || h.looked.Before(c.leases.next)
	}
	return ttl
}

// step is what becomes of a delivery.
type step uint8

const (
	toAck     step = iota // gone
	toRelease             // back in the queue
	toFail                // back in the queue, counted by the broker
	toDelay               // a copy, later, and then gone
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
func (h *held) decide(st *driver.Settlement) fate {
	dies := h.spec.DeadLetter != nil
	switch st.Verb {
	case driver.Release:
		return fate{step: toRelease}
	case driver.Reject:
		if dies {
			return fate{step: toBury, reason: driver.ReasonRejected, detail: st.Reason}
		}
	case driver.Nack:
		if dies && (h.inner.bury != "" || h.attempt >= h.spec.DeliveryLimit) {
			return fate{step: toBury, reason: driver.ReasonDeliveryLimit, detail: st.Reason}
		}
		delay := st.Delay
		if st.Backoff {
			delay = h.backoff()
		}
		if delay == 0 && h.counted {
			return fate{step: toFail}
		}
		return fate{step: toDelay, delay: delay}
	case driver.Ack, driver.Extend:
	}
	return fate{step: toAck}
}

// backoff is the pause before the next attempt: it doubles, and a part between
// half and the whole of it counts, picked by the token.
func (h *held) backoff() time.Duration {
	d := h.spec.Backoff.Min
	for range min(h.attempt-1, 62) {
		if d >= h.spec.Backoff.Max/2 {
			d = h.spec.Backoff.Max
			break
		}
		d *= 2
	}
	d = min(d, h.spec.Backoff.Max)
	const parts = 1 << 10
	part := (uint64(h.token) * 0x9E3779B97F4A7C15) >> 54 // 10 bits
	return min(d/2+time.Duration(float64(d/2)*float64(part)/parts), MaxDelay)
}

// buryPause is the shortest time between two attempts to dead-letter a message
// that has no place to go to.
const buryPause = 200 * time.Millisecond

// finish does what the settlements mean: first the copies, which are confirmed,
// then what the broker is told about the deliveries themselves. Dying in
// between leaves a copy too many, and loses none.
func (c *conn) finish(ctx context.Context, hs []*held, sts []*driver.Settlement) []driver.Outcome {
	outcomes := make([]driver.Outcome, len(hs))
	fates := make([]fate, len(hs))
	var copies []int
	for i, h := range hs {
		if h.inbox.dead() { // it went back with the channel: a copy would be one more
			outcomes[i].Err = lease.ErrNotHeld
			continue
		}
		fates[i] = h.decide(sts[i])
		if fates[i].step >= toDelay {
			copies = append(copies, i)
		}
	}
	if len(copies) > 0 {
		c.copyAll(ctx, hs, fates, outcomes, copies)
	}
	c.tell(hs, fates, outcomes)
	return outcomes
}

// copyAll publishes the copies of deliveries.
func (c *conn) copyAll(ctx context.Context, hs []*held, fates []fate, outcomes []driver.Outcome, which []int) {
	b := newBatch(len(which))
	for k, i := range which {
		p, err := c.copyOf(ctx, hs[i], &fates[i])
		if err != nil {
			b.receipts[k].Err = err
			continue
		}
		p.index = k
		b.parcels = append(b.parcels, p)
	}
	err := c.pub.send(ctx, b)
	var nowhere []int
	for k, i := range which {
		failed := err
		if failed == nil {
			failed = b.receipts[k].Err
		}
		switch f := &fates[i]; {
		case failed == nil:
			outcomes[i].DeadLettered = f.step == toBury
		case f.step == toBury && (errors.Is(failed, driver.ErrUnroutable) || isNotFound(failed)):
			// It has no place to go to: it is tried again later.
			*f = fate{step: toDelay, delay: max(hs[i].backoff(), buryPause), reason: f.reason, detail: f.detail}
			nowhere = append(nowhere, i)
		default:
			outcomes[i].Err = failed
		}
	}
	if len(nowhere) > 0 {
		c.copyAll(ctx, hs, fates, outcomes, nowhere)
	}
}

// copyOf is the message that takes the place of a delivery.
func (c *conn) copyOf(ctx context.Context, h *held, f *fate) (parcel, error) {
	if f.step == toBury {
		return c.deadLetter(ctx, h, f)
	}
	in := inner{attempts: h.attempt, via: h.inner.via, viaSet: true}
	if f.reason == driver.ReasonDeliveryLimit { // it must not be delivered again
		in.bury = f.reason
	}
	if f.delay == 0 {
		return parcel{key: h.spec.Name, message: encode(&h.message, &in, false)}, nil
	}
	exchange, err := c.delayed(ctx, h.spec.Name, f.delay)
	return parcel{exchange: exchange, key: h.spec.Name, message: encode(&h.message, &in, true)}, err
}

// deadLetter is a message with its story.
func (c *conn) deadLetter(ctx context.Context, h *held, f *fate) (parcel, error) {
	m := h.message
	m.TTL = 0
	m.Headers = make(driver.Headers, len(h.message.Headers)+8)
	for k, v := range h.message.Headers {
		m.Headers[k] = v
	}
	deaths, _ := m.Headers[driver.HeaderDeathCount].(int64)
	m.Headers[driver.HeaderDeathCount] = deaths + 1
	m.Headers[driver.HeaderDeathReason] = f.reason
	m.Headers[driver.HeaderDeathQueue] = h.spec.Name
	m.Headers[driver.HeaderDeathAttempts] = int64(h.attempt)
	m.Headers[driver.HeaderDeathTime] = time.Now().UTC().Truncate(time.Second)
	delete(m.Headers, driver.HeaderDeathDetail)
	if f.detail != "" {
		m.Headers[driver.HeaderDeathDetail] = f.detail
	}
	if _, known := m.Headers[driver.HeaderOriginalRoute]; !known {
		m.Headers[driver.HeaderOriginalRoute], m.Headers[driver.HeaderOriginalKey] = h.inner.via.Exchange, h.inner.via.Key
	}
	to := *h.spec.DeadLetter
	if to.Key == "" {
		to.Key = h.inner.via.Key
	}
	if err := c.checkExchange(ctx, to.Exchange); err != nil {
		return parcel{}, err
	}
	return parcel{exchange: to.Exchange, key: to.Key, message: encode(&m, nil, false)}, nil
}

// tell tells the broker about deliveries.
func (c *conn) tell(hs []*held, fates []fate, outcomes []driver.Outcome) {
	acks := make([]acked, 0, few)
	lost := func(i int) { outcomes[i] = driver.Outcome{Err: lease.ErrNotHeld} } // it went back with the channel
	for i, h := range hs {
		if outcomes[i].Err != nil {
			continue
		}
		switch step := fates[i].step; step {
		case toRelease, toFail:
			if g := h.inbox.single; g != nil && step == toRelease {
				g.release(h)
				c.settled(h.inbox, 1)
				continue
			}
			if err := h.inbox.back(h.tag, step == toFail); err != nil {
				lost(i)
			}
			c.settled(h.inbox, 1)
		case toAck, toDelay, toBury:
			acks = append(acks, acked{h.inbox, h.tag, i})
		}
	}
	c.ack(acks, lost)
}
