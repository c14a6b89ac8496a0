package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// What one driver call carries at most; a longer message goes alone. It
// bounds what a retry repeats and what a proxy on the way has to swallow.
const (
	publishBatch      = 1000
	publishBatchBytes = 8 << 20
)

// maxJoined is how many single errors a joined error spells out.
const maxJoined = 16

// Publish publishes ms to r and returns when they are as safe as their
// receipts say. A message that matches no queue is ErrUnroutable. A message
// without ID gets a random one; the Messages themselves are not changed, and
// may be used again when Publish has returned.
//
// If a message breaks a rule, Publish returns ErrInvalid, no receipts, and
// has published nothing. Otherwise there is a receipt for each message, and
// the error joins the errors in them (the first 16).
func (b *Broker) Publish(ctx context.Context, r Route, ms ...*Message) ([]Receipt, error) {
	ps := make([]driver.Publishing, len(ms))
	for i, m := range ms {
		p, err := b.prepare(ctx, r, m, true)
		if err != nil {
			return nil, wrap("publish to", routeName(r), inBatch(i, len(ms), err))
		}
		ps[i] = p
	}
	receipts := make([]Receipt, 0, len(ms))
	var failed error
	for len(ps) > 0 {
		n := batchLen(ps)
		if failed == nil {
			var rs []Receipt
			if rs, failed = b.publish(ctx, ps[:n]); failed == nil {
				receipts, ps = append(receipts, rs...), ps[n:]
				continue
			}
			receipts = appendFailed(receipts, n, failed)
		} else {
			// Never sent: that is known, whatever happened to those before.
			receipts = appendFailed(receipts, n, fmt.Errorf("%w: not sent after an earlier batch failed", ErrUnavailable))
		}
		ps = ps[n:]
	}
	return receipts, wrap("publish to", routeName(r), joinReceipts(receipts))
}

// publish sends one batch.
func (b *Broker) publish(ctx context.Context, ps []driver.Publishing) ([]Receipt, error) {
	return b.send(ctx, b.retryFor, ps)
}

func (b *Broker) publishOnce(ctx context.Context, ps []driver.Publishing) ([]Receipt, error) {
	if b.isClosed() {
		return nil, ErrClosed
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	rs, err := b.conn.Publish(ctx, ps)
	if err != nil {
		return nil, overdue(ctx, err)
	}
	if len(rs) != len(ps) {
		return nil, fmt.Errorf("%w: the driver returned %d receipts for %d messages", ErrUnknown, len(rs), len(ps))
	}
	return rs, nil
}

// batchLen returns how many of ps the next driver call takes.
func batchLen(ps []driver.Publishing) int {
	bytes := 0
	for i := range ps {
		bytes += len(ps[i].Message.Body)
		if i == publishBatch || i > 0 && bytes > publishBatchBytes {
			return i
		}
	}
	return len(ps)
}

func appendFailed(rs []Receipt, n int, err error) []Receipt {
	for range n {
		rs = append(rs, Receipt{Err: err})
	}
	return rs
}

func joinReceipts(rs []Receipt) error {
	var errs []error
	failed := 0
	for i := range rs {
		if rs[i].Err == nil {
			continue
		}
		if failed++; failed <= maxJoined {
			errs = append(errs, inBatch(i, len(rs), rs[i].Err))
		}
	}
	if failed > maxJoined {
		errs = append(errs, fmt.Errorf("and %d more", failed-maxJoined))
	}
	return errors.Join(errs...)
}

// inBatch says which message err is about, if there are several.
func inBatch(i, n int, err error) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("message %d of %d: %w", i+1, n, err)
}

// routeName is what an error calls the place that was published to.
func routeName(r Route) string {
	if r.Exchange == DefaultExchange {
		return r.Key
	}
	return r.Exchange
}
