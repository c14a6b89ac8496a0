package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// buryPause is the shortest time between two attempts to dead-letter a message
// that has no place to go to.
const buryPause = 200 * time.Millisecond

// bury publishes the copies of entries that die. Where there is no place for
// one, its fate is to be tried again: by its consumers if it was rejected, and by
// nobody else if it is past its limit.
func (s *source) bury(ctx context.Context, es []*entry, fates []fate, outcomes []driver.Outcome, which []int) {
	b := newBatch(len(which))
	var sent []int
	for k, i := range which {
		f := &fates[i]
		route, m := s.deadLetter(es[i], f)
		topic, queues, err := s.c.route(ctx, &route, m)
		if err == nil && queues == 0 || isNotFound(err) {
			if f.reason == driver.ReasonDeliveryLimit {
				es[i].bury = f.detail
				if es[i].bury == "" {
					es[i].bury = f.reason
				}
			}
			*f = fate{step: toFail, delay: max(s.backoff(es[i]), buryPause)}
			continue
		}
		if err != nil {
			outcomes[i].Err = err
			continue
		}
		rec, err := encode(topic, &route, m)
		if err != nil {
			outcomes[i].Err = err
			continue
		}
		sent = append(sent, k)
		s.c.send(ctx, b, k, rec)
	}
	b.wait()
	for _, k := range sent {
		outcomes[which[k]] = driver.Outcome{Err: b.receipts[k].Err, DeadLettered: b.receipts[k].Err == nil}
	}
}

// buryOnce tries once more to dead-letter a message that is past its limit.
// What is to be done with it is burying if that has worked.
func (s *source) buryOnce(e *entry) fate {
	ctx, cancel := context.WithTimeout(s.ctx, s.c.o.PublishFor)
	defer cancel()
	detail := e.bury
	if detail == driver.ReasonDeliveryLimit {
		detail = ""
	}
	e.attempts-- // the last one was counted already
	fates, outcomes := []fate{{step: toBury, reason: driver.ReasonDeliveryLimit, detail: detail}}, make([]driver.Outcome, 1)
	s.bury(ctx, []*entry{e}, fates, outcomes, []int{0})
	if outcomes[0].Err != nil {
		return fate{step: toFail, delay: max(s.backoff(e), buryPause)}
	}
	return fates[0]
}

// buryAgain tries to dead-letter a message that had no place to go to.
func (s *source) buryAgain(e *entry) {
	f := s.buryOnce(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.state == settling {
		s.apply(e, &f)
	}
}

// deadLetter is a message with its story.
func (s *source) deadLetter(e *entry, f *fate) (driver.Route, *driver.Message) {
	m := *e.message
	m.TTL = 0
	m.Headers = make(driver.Headers, len(e.message.Headers)+8)
	for k, v := range e.message.Headers {
		m.Headers[k] = v
	}
	deaths, _ := m.Headers[driver.HeaderDeathCount].(int64)
	m.Headers[driver.HeaderDeathCount] = deaths + 1
	m.Headers[driver.HeaderDeathReason] = f.reason
	m.Headers[driver.HeaderDeathQueue] = s.spec.Name
	m.Headers[driver.HeaderDeathAttempts] = int64(e.attempts + 1)
	m.Headers[driver.HeaderDeathTime] = time.Now().UTC().Truncate(time.Second)
	delete(m.Headers, driver.HeaderDeathDetail)
	if f.detail != "" {
		m.Headers[driver.HeaderDeathDetail] = f.detail
	}
	if _, known := m.Headers[driver.HeaderOriginalRoute]; !known {
		m.Headers[driver.HeaderOriginalRoute], m.Headers[driver.HeaderOriginalKey] = e.route.Exchange, e.route.Key
	}
	to := *s.spec.DeadLetter
	if to.Key == "" {
		to.Key = e.route.Key
	}
	return to, &m
}

// redriveBatch is how many messages of a redrive are under way at once.
const redriveBatch = 100

// Redrive implements driver.Conn: for the partitions that this client has, or
// gets as a member of the group. Each message is published anew, and done when
// that is confirmed: should this process die in between it is in both places, and
// never in neither.
func (c *conn) Redrive(ctx context.Context, r *driver.RedriveRequest) (int64, error) {
	if err := r.Validate(); err != nil {
		return 0, err
	}
	if c.isClosed() {
		return 0, lease.ErrClosed
	}
	if r.To != nil {
		if _, _, err := c.route(ctx, r.To, &driver.Message{}); err != nil {
			return 0, err
		}
	}
	s, err := c.source(ctx, r.Queue)
	if err != nil {
		return 0, err
	}
	w := s.enter(redriver)
	err = s.sync(ctx, w)
	s.leave(w)
	if err != nil {
		return 0, err
	}
	most := r.Max
	if most == 0 {
		most = driver.MaxRedrive
	}
	redrive := s.redrive
	if s.share != nil {
		redrive = s.share.redrive
	}
	moved, err := redrive(ctx, r.To, int64(most))
	if s.detach(redriver) {
		c.drop(s)
		c.work.Start(func() { s.stop(errLeft, true) })
	}
	return moved, err
}

// redriver is the consumer that a redrive is.
const redriver = driver.HeaderReservedPrefix + "redrive"

func (s *source) redrive(ctx context.Context, to *driver.Route, most int64) (moved int64, err error) {
	var kept []*entry // they have nowhere to go to
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.giveBack(kept)
	}()
	for moved < most && err == nil {
		es := s.pick(int(min(most-moved, redriveBatch)))
		if len(es) == 0 {
			break
		}
		gone, left, failed := s.publishBack(ctx, es, to)
		kept, err = append(kept, left...), failed
		s.mu.Lock()
		for _, e := range gone {
			if e.state == settling { // a rebalance may have come in between
				e.p.settled()
				s.finish(e)
			}
		}
		moved += int64(len(gone))
		s.mu.Unlock()
	}
	return moved, err
}

// pick takes entries that are ready, for nobody else to take.
func (s *source) pick(most int) (es []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(es) < most {
		e := s.next()
		if e == nil {
			break
		}
		s.ready.drop()
		e.state = settling
		e.p.held++
		es = append(es, e)
	}
	return es
}

// giveBack makes entries ready as they were; mu is held.
func (s *source) giveBack(es []*entry) {
	for _, e := range es {
		if e.state == settling {
			e.p.settled()
			s.offer(e)
		}
	}
	s.wakeAll()
}

// publishBack publishes entries anew. gone are those of which that is confirmed,
// kept have no place to go to, or failed, as err says.
func (s *source) publishBack(ctx context.Context, es []*entry, to *driver.Route) (gone, kept []*entry, err error) {
	b := newBatch(len(es))
	sent := make([]bool, len(es))
	for i, e := range es {
		sent[i] = s.sendBack(ctx, b, i, e, to)
	}
	b.wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range es {
		switch {
		case e.state != settling:
		case b.receipts[i].Err != nil:
			kept, err = append(kept, e), named("queue", s.spec.Name, b.receipts[i].Err)
		case !sent[i]:
			kept = append(kept, e)
		default:
			gone = append(gone, e)
		}
	}
	return gone, kept, err
}

// sendBack publishes an entry anew, and reports whether there was a place.
func (s *source) sendBack(ctx context.Context, b *batch, i int, e *entry, to *driver.Route) bool {
	if to == nil {
		exchange, known := e.message.Headers[driver.HeaderOriginalRoute].(string)
		key, _ := e.message.Headers[driver.HeaderOriginalKey].(string)
		if !known {
			return false
		}
		to = &driver.Route{Exchange: exchange, Key: key}
	}
	topic, queues, err := s.c.route(ctx, to, e.message)
	if err != nil || queues == 0 {
		return false
	}
	rec, err := encode(topic, to, e.message)
	if err != nil {
		b.receipts[i].Err = fmt.Errorf("message %d: %w", e.offset, err)
		return false
	}
	s.c.send(ctx, b, i, rec)
	return true
}
