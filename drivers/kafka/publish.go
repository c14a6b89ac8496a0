package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Publish implements driver.Conn.
func (c *conn) Publish(ctx context.Context, ps []driver.Publishing) ([]driver.Receipt, error) {
	wait, err := c.BeginPublish(ctx, ps)
	if err != nil {
		return nil, err
	}
	return wait()
}

// BeginPublish implements driver.Pipeliner.
func (c *conn) BeginPublish(ctx context.Context, ps []driver.Publishing) (func() ([]driver.Receipt, error), error) {
	if err := driver.ValidateBatch(ps); err != nil {
		return nil, err
	}
	for i := range ps {
		if n := len(ps[i].Message.Body); n > MaxBody {
			return nil, lease.Invalidf(fmt.Sprintf("messages[%d].message.body", i), "must be at most %d bytes on Kafka, has %d", MaxBody, n)
		}
	}
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	b := newBatch(len(ps))
	for i := range ps {
		rec, queues, err := c.address(ctx, &ps[i])
		switch {
		case err != nil:
			b.receipts[i].Err = err
		case rec == nil: // it gets nowhere
		default:
			b.receipts[i].Queues = queues
			c.send(ctx, b, i, rec)
		}
	}
	return func() ([]driver.Receipt, error) {
		b.wait()
		return b.receipts, b.failure()
	}, nil
}

// batch is the messages of one call.
type batch struct {
	receipts []driver.Receipt
	left     atomic.Int64 // not decided, and one more until wait
	done     chan struct{}
}

func newBatch(n int) *batch {
	b := &batch{receipts: make([]driver.Receipt, n), done: make(chan struct{})}
	b.left.Store(1)
	return b
}

func (b *batch) decided() {
	if b.left.Add(-1) == 0 {
		close(b.done)
	}
}

// wait waits until every message is decided. The client decides in bounded time.
func (b *batch) wait() {
	b.decided()
	<-b.done
}

// failure is the error of a batch of which nothing is known: all that was sent
// failed without an answer.
func (b *batch) failure() error {
	var unknown error
	for i := range b.receipts {
		switch err := b.receipts[i].Err; {
		case err == nil:
			return nil
		case errors.Is(err, lease.ErrUnknown), errors.Is(err, lease.ErrClosed):
			unknown = err
		}
	}
	return unknown
}

// send sends one record; ctx bounds it.
func (c *conn) send(ctx context.Context, b *batch, i int, rec *kgo.Record) {
	b.left.Add(1)
	c.cl.Produce(ctx, rec, func(_ *kgo.Record, err error) {
		r := &b.receipts[i]
		switch {
		case err == nil:
			r.Durability = c.caps.Durability
		case c.isClosed() && errors.Is(err, kgo.ErrClientClosed):
			*r = driver.Receipt{Err: lease.ErrClosed}
		default:
			*r = driver.Receipt{Err: named("topic", rec.Topic, classify(err, lease.ErrUnknown))}
		}
		b.decided()
	})
}

// address says where a message is sent to, and whether a queue will get it. The
// record is nil if there is no place for it.
func (c *conn) address(ctx context.Context, p *driver.Publishing) (rec *kgo.Record, queues int, err error) {
	m := p.Message
	if m.OrderKey != "" && !c.caps.OrderKey {
		return nil, 0, fmt.Errorf("an order key: %w: a share group keeps no order", lease.ErrUnsupported)
	}
	if m.Delay > 0 || !m.NotBefore.IsZero() {
		return nil, 0, fmt.Errorf("a delay: %w: a partition is read in its order", lease.ErrUnsupported)
	}
	topic, queues, err := c.route(ctx, &p.Route, m)
	switch {
	case err != nil:
		return nil, 0, err
	case queues == 0 && p.Mandatory:
		return nil, 0, driver.ErrUnroutable
	case topic == "":
		return nil, 0, nil
	}
	rec, err = encode(topic, &p.Route, m)
	return rec, queues, err
}

// route returns the topic of a route, and 1 if a queue gets the message. That it
// gets to none is said by the record as it is now.
func (c *conn) route(ctx context.Context, r *driver.Route, m *driver.Message) (topic string, queues int, err error) {
	st := c.record.state()
	topic, queues = st.route(r, m)
	if queues > 0 {
		return topic, queues, nil
	}
	if err := c.syncRecord(ctx); err != nil {
		return "", 0, err
	}
	if now := c.record.state(); now != st {
		topic, queues = now.route(r, m)
	}
	if topic == "" && r.Exchange != driver.DefaultExchange {
		return "", 0, fmt.Errorf("exchange %q: %w", r.Exchange, lease.ErrNotFound)
	}
	return topic, queues, nil
}

// route returns the topic of a route, "" if there is none, and 1 if a queue gets
// the message.
func (st *state) route(r *driver.Route, m *driver.Message) (topic string, queues int) {
	if r.Exchange == driver.DefaultExchange {
		if q := st.queues[r.Key]; q != nil {
			return q.topic, 1
		}
		return "", 0
	}
	e := st.exchanges[r.Exchange]
	if e == nil {
		return "", 0
	}
	for _, b := range e.bindings {
		if matchesOne(e.spec.Kind, b.spec, r.Key, func() driver.Headers { return m.Headers }) {
			return e.topic, 1
		}
	}
	return e.topic, 0
}
