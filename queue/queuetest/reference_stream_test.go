package queuetest_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// refStream is what a queue of a reference that is a stream has besides.
type refStream struct {
	offsets map[string]uint64
	readers int
}

// stream finds a stream. The lock is held.
func (r *reference) stream(name string) (*refQueue, error) {
	q, err := r.find(name)
	if err == nil && q.stream == nil {
		err = fmt.Errorf("queue %q is not a stream: %w", name, lease.ErrUnsupported)
	}
	return q, err
}

// leases refuses what leases or moves messages.
func (q *refQueue) leases() error {
	if q.stream == nil {
		return nil
	}
	return fmt.Errorf("queue %q is a stream: %w", q.spec.Name, lease.ErrUnsupported)
}

func (q *refQueue) firstOffset() uint64 {
	if len(q.messages) > 0 {
		return q.messages[0].seq
	}
	return q.seq + 1
}

// retain drops what a stream does not keep.
func (r *reference) retain(q *refQueue, now time.Time) {
	size := int64(0)
	for _, m := range q.messages {
		size += int64(len(m.message.Body))
	}
	keep := q.spec.Retention
	n := 0
	for _, m := range q.messages {
		tooMany := keep.Messages > 0 && int64(len(q.messages)-n) > keep.Messages
		tooOld := keep.Age > 0 && now.Sub(m.published) > keep.Age
		if !tooMany && !tooOld && (keep.Bytes == 0 || size <= keep.Bytes) || r.flaws.streamForever {
			break
		}
		size -= int64(len(m.message.Body))
		n++
	}
	if r.flaws.streamForgets && n > 0 {
		n = len(q.messages)
	}
	q.messages = q.messages[n:]
	if keep.Age > 0 && len(q.messages) > 0 {
		q.soon(q.messages[0].published.Add(keep.Age + time.Millisecond))
	}
}

func (c *refConn) ReadStream(ctx context.Context, req *driver.StreamRequest) (*driver.StreamBatch, error) {
	r := *req
	if err := r.Validate(); err != nil {
		return nil, err
	}
	received := time.Now()
	for {
		now, err := c.begin(ctx)
		if err != nil {
			return nil, err
		}
		b, q, err := c.readStream(&r)
		if err != nil || len(b.Messages) > 0 || now.Sub(received) >= r.Wait {
			c.mu.Unlock()
			return b, err
		}
		if b.Next != 0 && !c.flaws.streamSkips {
			r.From, r.Offset = driver.FromOffset, b.Next
		}
		q.stream.readers++
		changed := c.changed
		c.mu.Unlock()
		timer := time.NewTimer(min(r.Wait-now.Sub(received), refPoll))
		select {
		case <-changed:
		case <-timer.C:
		case <-c.closed:
		case <-ctx.Done():
		}
		timer.Stop()
		c.mu.Lock()
		q.stream.readers--
		c.mu.Unlock()
	}
}

// readStream reads what is there. The lock is held.
func (c *refConn) readStream(r *driver.StreamRequest) (*driver.StreamBatch, *refQueue, error) {
	q, err := c.stream(r.Queue)
	if err != nil {
		return nil, nil, err
	}
	b := &driver.StreamBatch{First: q.firstOffset(), End: q.seq + 1}
	if r.Offset > b.End && !c.flaws.streamPastEnd {
		return nil, nil, lease.Invalidf("offset", "must be at most %d", b.End)
	}
	begins := func(m *refMessage) bool {
		switch r.From {
		case driver.FromOffset:
			return m.seq >= r.Offset
		case driver.FromTime:
			return !m.published.Before(r.Time)
		case driver.FromLast:
			return m.seq == q.seq
		case driver.FromFirst:
			return true
		case driver.FromNext:
		}
		return false
	}
	b.Next = b.End
	size := 0
	if i := slices.IndexFunc(q.messages, begins); i >= 0 {
		if c.flaws.streamOffByOne && r.From == driver.FromOffset && i+1 < len(q.messages) {
			i++
		}
		for _, m := range q.messages[i:] {
			n := len(m.message.Body)
			if len(b.Messages) == r.Max || len(b.Messages) > 0 && size+n > r.MaxBytes {
				break
			}
			size += n
			b.Messages = append(b.Messages, driver.StreamMessage{Offset: m.seq, Stored: m.published.UTC(), Route: m.route, Message: m.message})
			b.Next = m.seq + 1
		}
	} else if r.From == driver.FromTime {
		b.Next = 0
	}
	return b, q, nil
}

func (c *refConn) SaveOffset(ctx context.Context, stream, consumer string, offset uint64) error {
	if err := driver.ValidateOffset(stream, consumer, offset); err != nil {
		return err
	}
	if _, err := c.begin(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	q, err := c.stream(stream)
	if err != nil {
		return err
	}
	if offset > q.seq+1 {
		return lease.Invalidf("offset", "must be at most %d", q.seq+1)
	}
	have, known := q.stream.offsets[consumer]
	if !known && len(q.stream.offsets) == driver.MaxOffsets && !c.flaws.offsetsUnlimited {
		return lease.ErrLimit
	}
	if !c.flaws.offsetsMonotone || offset > have {
		q.stream.offsets[consumer] = offset
	}
	return nil
}

func (c *refConn) Offsets(ctx context.Context, stream, consumer string) ([]driver.Offset, error) {
	if err := driver.ValidateOffsets(stream, consumer); err != nil {
		return nil, err
	}
	if _, err := c.begin(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	q, err := c.stream(stream)
	if err != nil {
		return nil, err
	}
	var all []driver.Offset
	for _, name := range slices.Sorted(maps.Keys(q.stream.offsets)) {
		if consumer == "" || consumer == name {
			all = append(all, driver.Offset{Consumer: name, Offset: q.stream.offsets[name]})
		}
	}
	if consumer != "" && all == nil {
		return nil, lease.ErrNotFound
	}
	return all, nil
}

func (c *refConn) DeleteOffset(ctx context.Context, stream, consumer string) error {
	if err := driver.ValidateOffset(stream, consumer, 1); err != nil {
		return err
	}
	if _, err := c.begin(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	q, err := c.stream(stream)
	if err != nil {
		return err
	}
	if _, known := q.stream.offsets[consumer]; !known {
		return lease.ErrNotFound
	}
	delete(q.stream.offsets, consumer)
	return nil
}
