package machine

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Settle settles deliveries, each for itself. It reports false if the rest is
// to be passed again in the next round: dead letters can make a round large.
func (m *Queues) Settle(now Time, ch Changes, view View, c *Settle) bool {
	if c.Outcomes == nil {
		c.Outcomes = make([]queuedriver.Outcome, len(c.Settlements))
	}
	for ; c.next < len(c.Settlements); c.next++ {
		if c.next > 0 && m.roundFull() {
			return false
		}
		c.Outcomes[c.next] = m.settle(now, ch, view, &c.Settlements[c.next])
	}
	return true
}

func (m *Queues) settle(now Time, ch Changes, view View, s *queuedriver.Settlement) queuedriver.Outcome {
	q, f, err := m.flight(&s.Ref)
	if err != nil {
		return queuedriver.Outcome{Err: err}
	}
	m.touch(q)
	f.heard(now)
	switch s.Verb {
	case queuedriver.Ack:
		q.counters.Acked++
		m.remove(ch, q, f)
	case queuedriver.Nack:
		q.counters.Nacked++
		delay := s.Delay
		if s.Backoff {
			delay = backoff(&q.spec.Backoff, f)
		}
		return queuedriver.Outcome{DeadLettered: m.attemptEnded(now, ch, view, q, f, delay, s.Reason)}
	case queuedriver.Release:
		m.land(ch, q, f)
		m.putAttempt(ch, q, f.seq, record.Attempt{Count: f.attempt - 1, LastToken: f.token})
		m.giveBack(now, ch, view, q, f, 0)
	case queuedriver.Reject:
		return m.reject(now, ch, view, q, f, s.Reason)
	case queuedriver.Extend:
		return queuedriver.Outcome{TTL: m.extend(now, ch, q, f, s.TTL)}
	}
	return queuedriver.Outcome{}
}

// flight returns the live delivery that ref names.
func (m *Queues) flight(ref *queuedriver.Ref) (*queue, *flight, error) {
	q, err := m.find(ref.Queue)
	if err == nil {
		err = q.notStream()
	}
	if err != nil {
		return nil, nil, err
	}
	f := q.flights[ref.Seq]
	if f == nil || f.token != ref.Token {
		return nil, nil, fmt.Errorf("delivery %d of queue %q: %w", ref.Seq, q.spec.Name, lease.ErrNotHeld)
	}
	return q, f, nil
}

// extend gives a delivery its lease anew. A lease that is longer than the
// recorded one is recorded: after an open it must last as long.
func (m *Queues) extend(now Time, ch Changes, q *queue, f *flight, ttl time.Duration) time.Duration {
	if ttl == 0 {
		ttl = f.fetch.rec.TTL
	}
	f.deadline = now.Mono.Add(ttl)
	if ttl > f.fetch.rec.TTL {
		f.fetch.rec.TTL = ttl
		ch.PutFetch(q.id, f.fetch.id, &f.fetch.rec)
	}
	if f.deadline < f.fetch.at {
		f.fetch.at = f.deadline
		m.fetches.fix(f.fetch)
	}
	return ttl
}

// attemptEnded ends a failed delivery: again after delay, or dead-lettered
// past the limit, which it reports.
func (m *Queues) attemptEnded(now Time, ch Changes, view View, q *queue, f *flight, delay time.Duration, why string) bool {
	m.land(ch, q, f)
	a := record.Attempt{Count: f.attempt, LastToken: f.token}
	if q.exhausted(a.Count) {
		return m.exhaust(now, ch, view, q, f, a, why)
	}
	if delay > 0 {
		a.NotBefore = now.Wall + int64(delay)
	}
	m.putAttempt(ch, q, f.seq, a)
	m.giveBack(now, ch, view, q, f, a.NotBefore)
	return false
}

// nowhereRetry is the shortest time between two tries to dead-letter a message
// that has nowhere to go: each is a round's work, and no consumer slows it.
const nowhereRetry = 100 * time.Millisecond

// exhaust dead-letters a message past its limit. If that leads to no queue
// the message stays and is tried again.
func (m *Queues) exhaust(now Time, ch Changes, view View, q *queue, f *flight, a record.Attempt, why string) bool {
	if m.deadLetter(now, view, q, f, queuedriver.ReasonDeliveryLimit, why, a.Count) {
		m.remove(ch, q, f)
		return true
	}
	a.NotBefore = now.Wall + int64(max(backoff(&q.spec.Backoff, f), nowhereRetry))
	m.putAttempt(ch, q, f.seq, a)
	m.giveBack(now, ch, view, q, f, a.NotBefore)
	return false
}

func (m *Queues) reject(now Time, ch Changes, view View, q *queue, f *flight, why string) queuedriver.Outcome {
	if q.spec.DeadLetter == nil {
		q.counters.Dropped++
		m.remove(ch, q, f)
		return queuedriver.Outcome{}
	}
	if m.room != nil {
		return queuedriver.Outcome{Err: m.room}
	}
	if !m.deadLetter(now, view, q, f, queuedriver.ReasonRejected, why, f.attempt) {
		m.land(ch, q, f)
		a := record.Attempt{Count: f.attempt, LastToken: f.token, NotBefore: now.Wall + int64(backoff(&q.spec.Backoff, f))}
		m.putAttempt(ch, q, f.seq, a)
		m.giveBack(now, ch, view, q, f, a.NotBefore)
		return queuedriver.Outcome{}
	}
	m.remove(ch, q, f)
	return queuedriver.Outcome{DeadLettered: true}
}

// deadLetter publishes a copy of a message to the queue's dead letter, with
// the reason in its headers. It reports false if that led nowhere.
func (m *Queues) deadLetter(now Time, view View, q *queue, f *flight, reason, why string, attempts uint32) bool {
	if m.room != nil {
		return false
	}
	dead, to, err := m.letter(now, view, q, f, reason, why, attempts)
	if err != nil {
		_ = m.fault(q, err)
		return false
	}
	return m.bury(q, dead, to, published)
}

// bury publishes a dead letter, unless it goes nowhere or one of the queues
// does not take it.
func (m *Queues) bury(q *queue, dead *record.Message, to []*queue, by entrance) bool {
	if len(to) == 0 || admitAll(dead, to, by) != nil {
		return false
	}
	for _, d := range to {
		m.enqueue(d, *dead)
		d.counters.Published++
	}
	q.counters.DeadLettered++
	return true
}

// letterSteps is what it costs to read a message that is dead-lettered.
const letterSteps = 10

// letter makes the copy of a message that is dead-lettered, and says to which
// queues it goes: to none if the route leads nowhere.
func (m *Queues) letter(now Time, view View, q *queue, f *flight, reason, why string, attempts uint32) (*record.Message, []*queue, error) {
	m.steps += letterSteps
	rec, err := view.Message(q.id, q.blockOf(f.seq), f.seq)
	if err != nil {
		return nil, nil, err
	}
	return m.letterOf(now, q, rec, reason, why, attempts)
}

func (m *Queues) letterOf(now Time, q *queue, rec *record.Message, reason, why string, attempts uint32) (*record.Message, []*queue, error) {
	route := *q.spec.DeadLetter
	if route.Key == "" {
		route.Key = rec.Route.Key
	}
	msg := *rec.Message
	msg.Headers = deathHeaders(now, q, rec, reason, why, attempts)
	msg.Delay, msg.NotBefore, msg.TTL = 0, time.Time{}, 0 // or it would time out again
	to, err := m.route(route, msg.Headers, nil)
	if err != nil {
		return nil, nil, nil //nolint:nilerr // an exchange that is gone leads nowhere
	}
	dead := &record.Message{Route: route, Published: now.Wall, Message: &msg}
	if len(to) > 0 && byItself(reason) {
		dead.Trail = rec.Trail
		by := published
		if reason == queuedriver.ReasonMaxLength {
			by = overflown
		}
		to = q.onward(dead, to, by)
	}
	return dead, to, checkFanOut(dead, to)
}

func deathHeaders(now Time, q *queue, rec *record.Message, reason, why string, attempts uint32) queuedriver.Headers {
	h := make(queuedriver.Headers, len(rec.Headers)+8)
	maps.Copy(h, rec.Headers)
	if _, ok := h[queuedriver.HeaderOriginalKey]; !ok {
		h[queuedriver.HeaderOriginalRoute] = rec.Route.Exchange
		h[queuedriver.HeaderOriginalKey] = rec.Route.Key
	}
	count, _ := h[queuedriver.HeaderDeathCount].(int64)
	h[queuedriver.HeaderDeathCount] = count + 1
	h[queuedriver.HeaderDeathReason] = reason
	h[queuedriver.HeaderDeathQueue] = q.spec.Name
	h[queuedriver.HeaderDeathAttempts] = int64(attempts)
	h[queuedriver.HeaderDeathTime] = time.Unix(0, now.Wall).UTC().Truncate(time.Second)
	delete(h, queuedriver.HeaderDeathDetail)
	if why != "" {
		h[queuedriver.HeaderDeathDetail] = why
	}
	return h
}

// revive strips what deathHeaders added, but for the count of deaths.
func revive(rec *record.Message) (*queuedriver.Message, queuedriver.Route, bool) {
	exchange, ok1 := rec.Headers[queuedriver.HeaderOriginalRoute].(string)
	key, ok2 := rec.Headers[queuedriver.HeaderOriginalKey].(string)
	msg := *rec.Message
	msg.Headers = make(queuedriver.Headers, len(rec.Headers))
	for k, v := range rec.Headers {
		if !strings.HasPrefix(k, queuedriver.HeaderReservedPrefix) || k == queuedriver.HeaderDeathCount {
			msg.Headers[k] = v
		}
	}
	return &msg, queuedriver.Route{Exchange: exchange, Key: key}, ok1 && ok2
}

// remove is the end of a delivered message: it is gone for good, and its
// key's next turn begins.
func (m *Queues) remove(ch Changes, q *queue, f *flight) {
	m.land(ch, q, f)
	m.erase(ch, q, f.entry)
}

// erase is the end of a message that is not in flight.
func (m *Queues) erase(ch Changes, q *queue, e entry) {
	q.markAcked(e.seq)
	q.counters.Live--
	q.counters.Bytes -= int64(e.size)
	if e.mortal {
		q.counters.Mortal--
	}
	if len(q.late) > 0 {
		delete(q.late, e.seq)
	}
	if _, ok := q.attempts[e.seq]; ok {
		delete(q.attempts, e.seq)
		ch.DeleteAttempt(q.id, e.seq)
	}
	if _, ok := q.waiting[e.seq]; ok {
		delete(q.waiting, e.seq)
		m.retries.drop(1)
	}
	q.laneDone(e.hash, e.seq)
	if q.blockedDue != 0 {
		m.unblock(q)
	}
}

func (m *Queues) putAttempt(ch Changes, q *queue, seq uint64, a record.Attempt) {
	q.attempts[seq] = a
	ch.PutAttempt(q.id, seq, a)
}

// backoff doubles from Min with each attempt up to Max, and takes between a
// half and the whole of that. The token picks the part: it is different for
// each attempt, and the machine draws no random numbers.
func backoff(b *queuedriver.Backoff, f *flight) time.Duration {
	d := b.Min
	for i := uint32(1); i < f.attempt && d < b.Max; i++ {
		d *= 2
	}
	d = min(d, b.Max)
	if d <= 0 {
		return 0
	}
	x := uint64(f.token) * 0x9e3779b97f4a7c15
	x ^= x >> 32
	// Never 0: what is due at once would be tried again in the same round,
	// without end if it has nowhere to go.
	return d - time.Duration(x%uint64(d/2+1))
}
