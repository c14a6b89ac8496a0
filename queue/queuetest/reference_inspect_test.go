package queuetest_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

func (c *refConn) Stats(ctx context.Context, req *driver.StatsRequest) ([]driver.QueueStats, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	now, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	if req.Queue != "" {
		q, err := c.find(req.Queue)
		if err != nil {
			return nil, err
		}
		return []driver.QueueStats{q.describe(now)}, nil
	}
	most := req.Max
	if most == 0 {
		most = driver.DefaultList
	}
	var all []driver.QueueStats
	for _, name := range slices.Sorted(maps.Keys(c.queues)) {
		if strings.HasPrefix(name, req.Prefix) && name > req.After && len(all) < most {
			all = append(all, c.queues[name].describe(now))
		}
	}
	return all, nil
}

func (q *refQueue) describe(now time.Time) driver.QueueStats {
	st := q.stats
	st.Name = q.spec.Name
	for _, m := range slices.Concat(q.messages, q.scheduled) {
		st.Bytes += int64(len(m.message.Body))
		st.OldestAge = max(st.OldestAge, now.Sub(m.published))
		switch m.state(now) {
		case driver.InFlight:
			st.InFlight++
		case driver.Delayed:
			st.Delayed++
		default:
			st.Ready++
		}
	}
	if q.stream != nil {
		st.Consumers, st.Waiting = q.stream.readers, q.stream.readers
	}
	for _, c := range q.consumers {
		st.Waiting += c.waiting
		if !c.left && (c.waiting > 0 || now.Sub(c.seen) < time.Minute) {
			st.Consumers++
		}
	}
	if q.active != nil {
		st.Active = q.active.id
	}
	return st
}

func (m *refMessage) state(now time.Time) driver.State {
	switch {
	case m.flying:
		return driver.InFlight
	case m.due.After(now):
		return driver.Delayed
	}
	return driver.Ready
}

func (c *refConn) Peek(ctx context.Context, req *driver.PeekRequest) ([]driver.Peeked, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	now, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	q, err := c.find(req.Queue)
	if err != nil {
		return nil, err
	}
	most := req.Max
	if most == 0 {
		most = driver.DefaultList
	}
	var ps []driver.Peeked
	for _, m := range slices.Concat(q.messages, q.scheduled) {
		if len(ps) == most {
			break
		}
		if m.seq > 0 && m.seq <= req.After {
			continue
		}
		p := driver.Peeked{
			Seq: m.seq, State: m.state(now), Attempts: m.failed, Age: now.Sub(m.published), Route: m.route, Message: m.message,
		}
		if m.flying {
			p.Attempts++
		}
		ps = append(ps, p)
	}
	return ps, nil
}

func (c *refConn) CancelScheduled(ctx context.Context, queue, id string) error {
	if err := driver.ValidateCancel(queue, id); err != nil {
		return err
	}
	if _, err := c.begin(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	q, err := c.find(queue)
	if err != nil {
		return err
	}
	n := len(q.scheduled)
	left := slices.DeleteFunc(slices.Clone(q.scheduled), func(m *refMessage) bool { return m.message.ID == id })
	if n -= len(left); n == 0 {
		return fmt.Errorf("scheduled message %q: %w", id, lease.ErrNotFound)
	}
	if !c.flaws.cancelNothing {
		q.scheduled = left
	}
	q.stats.Dropped += int64(n)
	return nil
}

func (c *refConn) Purge(ctx context.Context, queue string) (int64, error) {
	if err := driver.ValidateQueueName("queue", queue); err != nil {
		return 0, err
	}
	if _, err := c.begin(ctx); err != nil {
		return 0, err
	}
	defer c.mu.Unlock()
	q, err := c.own(queue)
	if err != nil {
		return 0, err
	}
	n := len(q.messages) + len(q.scheduled)
	q.messages = slices.DeleteFunc(q.messages, func(m *refMessage) bool { return !m.flying })
	q.scheduled = nil
	n -= len(q.messages)
	q.stats.Dropped += int64(n)
	return int64(n), nil
}
