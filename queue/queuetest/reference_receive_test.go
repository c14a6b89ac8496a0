package queuetest_test

import (
	"context"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// refPoll is how often a waiting Receive looks at the clock.
const refPoll = 5 * time.Millisecond

func (c *refConn) Receive(ctx context.Context, req *driver.ReceiveRequest) ([]driver.Delivery, error) {
	r, caps := *req, c.Caps()
	if err := r.Validate(&caps); err != nil {
		return nil, err
	}
	received := time.Now()
	w, err := c.arrive(ctx, &r)
	if err != nil {
		return nil, err
	}
	defer c.depart(w)
	for {
		now, err := c.begin(ctx)
		if err != nil {
			return nil, err
		}
		if c.queues[r.Queue] != w.queue {
			c.mu.Unlock()
			return nil, lease.ErrNotFound
		}
		ds := c.take(w, received, now)
		if len(ds) > 0 {
			c.departed(w)
		}
		changed := c.changed
		ended := w.consumer.detached != w.detached && !c.flaws.detachLeavesWait
		c.mu.Unlock()
		left := r.Wait - now.Sub(received)
		if len(ds) > 0 || left <= 0 || ended {
			return ds, nil
		}
		timer := time.NewTimer(min(left, refPoll))
		select {
		case <-changed:
		case <-timer.C:
		case <-c.closed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// take leases what there is for one Receive.
func (r *reference) take(w *refWait, received, now time.Time) []driver.Delivery {
	q, req := w.queue, w.request
	ready := r.deliverable(q, now)
	most := w.part(r.flaws, len(ready))
	ttl := req.Lease
	if ttl == 0 {
		ttl = q.spec.Lease
	}
	var ds []driver.Delivery
	size := 0
	for _, m := range ready {
		over := size+len(m.message.Body) > req.MaxBytes
		if r.flaws.bytesOverrun {
			over = size >= req.MaxBytes
		}
		if len(ds) == most || len(ds) > 0 && over {
			break
		}
		size += len(m.message.Body)
		r.token++
		m.consumer = w.consumer
		m.flying, m.token, m.lease, m.until = true, r.token, ttl, now.Add(ttl)
		if r.flaws.tokensRepeat {
			m.token = 1
		}
		q.soon(m.until)
		ds = append(ds, driver.Delivery{
			Ref:     driver.Ref{Queue: q.spec.Name, Seq: m.seq, Token: m.token},
			Message: m.message, Route: m.route, Attempt: m.failed + 1,
			TTL: ttl, Waited: now.Sub(received), Age: now.Sub(m.published),
		})
	}
	q.stats.Delivered += int64(len(ds))
	if len(ds) > 0 {
		w.lastInLine()
	}
	return ds
}

// deliverable returns what can be leased now, in order, as far as all who wait
// ask for it.
func (r *reference) deliverable(q *refQueue, now time.Time) (ms []*refMessage) {
	asked := 0
	for _, c := range q.line {
		asked += c.asks
	}
	busy := map[string]bool{} // keys of the messages in front
	messages := q.messages
	if r.flaws.lastFirst {
		messages = slices.Clone(messages)
		slices.Reverse(messages)
	}
	for _, m := range messages {
		key := m.message.OrderKey
		blocked := key != "" && busy[key] && !r.flaws.keysConcurrent
		busy[key] = true
		if m.flying || blocked || m.due.After(now) || m.exhausted && !r.flaws.nowhereDelivers {
			continue
		}
		if ms = append(ms, m); len(ms) == asked {
			break
		}
	}
	return ms
}

func (c *refConn) Detach(ctx context.Context, queue, consumer string) error {
	now, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	q := c.queues[queue]
	if q != nil && !c.owns(q) {
		return driver.ErrExclusive
	}
	if q != nil && q.consumers[consumer] != nil {
		q.consumers[consumer].leave()
		c.upkeep(q, now)
		c.wake()
	}
	return nil
}
