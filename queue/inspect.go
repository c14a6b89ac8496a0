package queue

import (
	"context"
	"iter"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Stats describes one queue. ErrNotFound if there is none of that name.
func (b *Broker) Stats(ctx context.Context, queue string) (*Stats, error) {
	r := driver.StatsRequest{Queue: queue, Max: 1}
	err := driver.ValidateQueueName("queue", queue)
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		return nil, wrap("read statistics of", queue, err)
	}
	stats, err := b.conn.Stats(ctx, &r)
	if err == nil && len(stats) != 1 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, wrap("read statistics of", queue, err)
	}
	return &stats[0], nil
}

// AllStats describes the queues whose names begin with prefix, in byte order
// of their names. It reads page by page, so that it is not a snapshot. An
// error ends it.
func (b *Broker) AllStats(ctx context.Context, prefix string) iter.Seq2[*Stats, error] {
	return func(yield func(*Stats, error) bool) {
		r := driver.StatsRequest{Prefix: prefix, Max: driver.MaxList}
		if err := r.Validate(); err != nil {
			yield(nil, wrap("read statistics", prefix, err))
			return
		}
		for {
			page, err := b.conn.Stats(ctx, &r)
			if err != nil {
				yield(nil, wrap("read statistics", prefix, err))
				return
			}
			for i := range page {
				if !yield(&page[i], nil) {
					return
				}
			}
			if len(page) < driver.MaxList {
				return
			}
			r.After = page[len(page)-1].Name
		}
	}
}

// Peek returns up to max messages behind the one with sequence number after,
// in queue order, without leasing them. max 0 means driver.DefaultList; at
// most driver.MaxPeek.
func (b *Broker) Peek(ctx context.Context, queue string, after uint64, max int) ([]Peeked, error) {
	r := driver.PeekRequest{Queue: queue, After: after, Max: max}
	if err := r.Validate(); err != nil {
		return nil, wrap("peek into", queue, err)
	}
	ps, err := b.conn.Peek(ctx, &r)
	return ps, wrap("peek into", queue, err)
}

// CancelScheduled drops the messages with this ID that wait in the queue for
// their Delay or NotBefore. ErrNotFound if there is none: it came due and is
// in the queue now, was cancelled, or never was. A message that an exchange
// sent to several queues waits in each of them. A dedup window goes on
// remembering the ID: publish anew under another one.
func (b *Broker) CancelScheduled(ctx context.Context, queue, id string) error {
	err := driver.ValidateCancel(queue, id)
	if err == nil {
		err = overdue(ctx, b.conn.CancelScheduled(ctx, queue, id))
	}
	return wrap("cancel a scheduled message of", queue, err)
}

// Purge drops all messages that are not in flight and says how many.
func (b *Broker) Purge(ctx context.Context, queue string) (int64, error) {
	if err := driver.ValidateQueueName("queue", queue); err != nil {
		return 0, wrap("purge", queue, err)
	}
	n, err := b.conn.Purge(ctx, queue)
	return n, wrap("purge", queue, overdue(ctx, err))
}

// Redrive moves dead letters back to where they were first published, or to
// r.To, and says how many. Max 0 means all that there are; it may exceed
// driver.MaxRedrive, which bounds a single call of the driver. Each message moves
// atomically; if an error ends it, those counted have been moved. A dead
// letter whose way back leads nowhere stays.
func (b *Broker) Redrive(ctx context.Context, r *RedriveRequest) (int64, error) {
	if r == nil {
		r = &RedriveRequest{}
	}
	page := *r
	page.Max = min(r.Max, driver.MaxRedrive)
	if err := page.Validate(); err != nil {
		return 0, wrap("redrive", r.Queue, err)
	}
	left := r.Max
	if left == 0 {
		// What comes back while we work must not keep us here for ever.
		st, err := b.Stats(ctx, r.Queue)
		if err != nil {
			return 0, wrap("redrive", r.Queue, err)
		}
		left = int(st.Ready + st.Delayed)
	}
	var moved int64
	for left > 0 {
		page.Max = min(left, driver.MaxRedrive)
		n, err := b.conn.Redrive(ctx, &page)
		moved += n
		left -= int(n)
		if err != nil {
			return moved, wrap("redrive", r.Queue, overdue(ctx, err))
		}
		if n == 0 {
			return moved, nil
		}
	}
	return moved, nil
}
