package queuetest_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

func (c *refConn) Settle(ctx context.Context, ss []driver.Settlement) ([]driver.Outcome, error) {
	caps := c.Caps()
	if err := driver.ValidateSettlements(ss, &caps); err != nil {
		return nil, err
	}
	now, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	out := make([]driver.Outcome, len(ss))
	for i := range ss {
		out[i] = c.settle(now, &ss[i])
		if q := c.queues[ss[i].Ref.Queue]; q != nil {
			q.soon(now) // the time of what came back may be over
		}
	}
	c.wake()
	return out, nil
}

func (r *reference) settle(now time.Time, s *driver.Settlement) driver.Outcome {
	q, err := r.find(s.Ref.Queue)
	if err == nil {
		err = q.leases()
	}
	if err != nil {
		return driver.Outcome{Err: err}
	}
	var m *refMessage
	for _, x := range q.messages {
		if x.seq == s.Ref.Seq && x.flying && (x.token == s.Ref.Token || r.flaws.lateAckAccepted) {
			m = x
			break
		}
	}
	if m == nil {
		return driver.Outcome{Err: lease.ErrNotHeld}
	}
	m.consumer.seen = now
	switch s.Verb {
	case driver.Ack:
		q.stats.Acked++
		q.remove(m)
	case driver.Nack:
		q.stats.Nacked++
		delay := s.Delay
		if s.Backoff {
			delay = q.pause(m.failed + 1)
		}
		if r.flaws.nackAtOnce {
			delay = 0
		}
		return driver.Outcome{DeadLettered: r.failed(q, m, now, delay, s.Reason)}
	case driver.Release:
		m.flying = false
	case driver.Reject:
		return driver.Outcome{DeadLettered: r.reject(q, m, now, s.Reason)}
	case driver.Extend:
		ttl := s.TTL
		if ttl == 0 {
			ttl = m.lease
		}
		if !r.flaws.extendNothing {
			m.lease, m.until = ttl, now.Add(ttl)
			q.soon(m.until)
		}
		return driver.Outcome{TTL: ttl}
	}
	return driver.Outcome{}
}

// failed ends an attempt, and reports whether the message is dead-lettered.
func (r *reference) failed(q *refQueue, m *refMessage, now time.Time, delay time.Duration, why string) bool {
	r.count(q, m)
	if m.exhausted {
		return r.exhaust(q, m, now, why)
	}
	m.due = now.Add(delay)
	q.soon(m.due)
	return false
}

// count lands a delivery as a failed attempt.
func (r *reference) count(q *refQueue, m *refMessage) {
	m.flying = false
	if !r.flaws.attemptsUncounted {
		m.failed++
	}
	m.exhausted = q.spec.DeadLetter != nil && m.failed >= q.spec.DeliveryLimit
}

func (r *reference) reject(q *refQueue, m *refMessage, now time.Time, why string) bool {
	if q.spec.DeadLetter == nil {
		q.stats.Dropped++
		q.remove(m)
		return false
	}
	r.count(q, m)
	return r.bury(q, m, now, driver.ReasonRejected, why)
}

func (r *reference) exhaust(q *refQueue, m *refMessage, now time.Time, why string) bool {
	return r.bury(q, m, now, driver.ReasonDeliveryLimit, why)
}

// bury moves a message to the queue's dead letter; one that leads nowhere
// waits for the backoff.
func (r *reference) bury(q *refQueue, m *refMessage, now time.Time, reason, why string) bool {
	route := *q.spec.DeadLetter
	if route.Key == "" {
		route.Key = m.route.Key
	}
	dead := *m.message
	dead.Delay, dead.NotBefore, dead.TTL = 0, time.Time{}, 0
	if !r.flaws.headersMissing {
		dead.Headers = obituary(q, m, now, reason, why)
	}
	to, err := r.match(route, dead.Headers)
	to, trail := r.onward(q, m, to, reason)
	for _, d := range to {
		if d.admit(&dead, false) != nil {
			to = nil
			break
		}
	}
	if (err != nil || len(to) == 0) && !r.flaws.nowhereDrops {
		m.due = now.Add(q.pause(m.failed))
		q.soon(m.due)
		return false
	}
	for _, d := range to {
		d.enqueue(now, time.Time{}, route, &dead).trail = trail
		r.trim(d, now)
	}
	q.stats.DeadLettered++
	q.remove(m)
	return true
}

// onward returns to which of several queues a dead letter goes, and where it
// has been then. What nobody did anything with goes only where it was not yet
// or, if there is no such queue, to one.
func (r *reference) onward(q *refQueue, m *refMessage, to []*refQueue, reason string) (on []*refQueue, trail []string) {
	if reason != driver.ReasonExpired && reason != driver.ReasonMaxLength && !r.flaws.trailKept {
		return to, nil
	}
	trail = append(slices.Clone(m.trail), q.spec.Name)
	for _, d := range to {
		if !slices.Contains(trail, d.spec.Name) {
			on = append(on, d)
		}
	}
	switch {
	case len(to) < 2 || r.flaws.circlesGrow:
		on = to
	case len(on) == 0:
		on = to[:1]
	}
	for _, d := range on {
		trail = append(trail, d.spec.Name)
	}
	return on, trail
}

func obituary(q *refQueue, m *refMessage, now time.Time, reason, why string) driver.Headers {
	h := driver.Headers{driver.HeaderOriginalRoute: m.route.Exchange, driver.HeaderOriginalKey: m.route.Key}
	maps.Copy(h, m.message.Headers) // which may know better
	deaths, _ := h[driver.HeaderDeathCount].(int64)
	h[driver.HeaderDeathCount] = deaths + 1
	h[driver.HeaderDeathReason] = reason
	h[driver.HeaderDeathQueue] = q.spec.Name
	h[driver.HeaderDeathAttempts] = int64(m.failed)
	h[driver.HeaderDeathTime] = now.UTC().Truncate(time.Second)
	delete(h, driver.HeaderDeathDetail)
	if why != "" {
		h[driver.HeaderDeathDetail] = why
	}
	return h
}

func (c *refConn) Redrive(ctx context.Context, req *driver.RedriveRequest) (int64, error) {
	if err := req.Validate(); err != nil {
		return 0, err
	}
	now, err := c.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer c.mu.Unlock()
	q, err := c.own(req.Queue)
	if err == nil {
		err = q.leases()
	}
	if err != nil {
		return 0, err
	}
	most := req.Max
	if most == 0 {
		most = driver.MaxRedrive
	}
	moved := 0
	for _, m := range append([]*refMessage(nil), q.messages...) {
		if moved == most {
			break
		}
		ok, err := c.revive(q, m, now, req.To)
		if err != nil {
			return int64(moved), err
		}
		if ok {
			moved++
		}
	}
	c.wake()
	return int64(moved), nil
}

// revive moves one dead letter, past any dedup.
func (r *reference) revive(q *refQueue, m *refMessage, now time.Time, route *driver.Route) (bool, error) {
	exchange, died := m.message.Headers[driver.HeaderOriginalRoute].(string)
	key, _ := m.message.Headers[driver.HeaderOriginalKey].(string)
	given := route != nil
	if !given {
		route = &driver.Route{Exchange: exchange, Key: key}
	}
	alive := *m.message
	alive.Headers = driver.Headers{}
	for k, v := range m.message.Headers {
		if !strings.HasPrefix(k, driver.HeaderReservedPrefix) || k == driver.HeaderDeathCount {
			alive.Headers[k] = v
		}
	}
	to, err := r.match(*route, alive.Headers)
	if given && errors.Is(err, lease.ErrNotFound) {
		return false, err
	}
	for _, d := range to {
		if d.admit(&alive, false) != nil {
			return false, nil //nolint:nilerr // it stays
		}
	}
	if m.flying || !died && !given || len(to) == 0 {
		return false, nil
	}
	for _, d := range to {
		d.enqueue(now, time.Time{}, *route, &alive)
	}
	q.remove(m)
	return true, nil
}
