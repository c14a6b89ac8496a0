package rabbitmq

import (
	"context"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// redriveBatch is how many messages of a redrive are under way at once.
const redriveBatch = 100

// Redrive implements driver.Conn. Each message is published anew, and acked
// when that is confirmed: should this process die in between it is in both
// places, and never in neither.
func (c *conn) Redrive(ctx context.Context, r *driver.RedriveRequest) (int64, error) {
	if err := r.Validate(); err != nil {
		return 0, err
	}
	if c.isClosed() {
		return 0, lease.ErrClosed
	}
	if r.To != nil {
		if err := c.checkExchange(ctx, r.To.Exchange); err != nil {
			return 0, err
		}
	}
	if s, err := c.source(ctx, r.Queue); err != nil {
		return 0, err
	} else if s.spec.SingleActive {
		return 0, fmt.Errorf("redrive from queue %q, which has a single active consumer: %w", r.Queue, lease.ErrUnsupported)
	}
	most := r.Max
	if most == 0 {
		most = driver.MaxRedrive
	}
	l, err := c.in.get(ctx)
	if err != nil {
		return 0, err
	}
	ch, err := l.conn.Channel()
	if err != nil {
		return 0, classify(err, lease.ErrUnavailable)
	}
	// Closing it hands back what was not moved, in its place.
	defer ch.Close() //nolint:errcheck // it may be lost
	moved := int64(0)
	for left := most; left > 0; {
		n, more, err := c.redriveSome(ctx, ch, r, min(left, redriveBatch))
		moved += n
		left -= int(n)
		if err != nil {
			return moved, fmt.Errorf("queue %q: %w", r.Queue, classify(err, lease.ErrUnavailable))
		}
		if !more {
			break
		}
	}
	return moved, nil
}

// redriveSome moves up to so many messages; more says that there may be others.
func (c *conn) redriveSome(ctx context.Context, ch *amqp.Channel, r *driver.RedriveRequest, most int) (moved int64, more bool, err error) {
	b := newBatch(most)
	var tags []uint64
	for len(b.parcels) < most {
		d, ok, err := ch.Get(r.Queue, false)
		if err != nil {
			return 0, false, err
		}
		if !ok {
			break
		}
		more = true
		p, ok := c.redriven(ctx, &d, r.To)
		if !ok {
			continue // it has nowhere to go back to
		}
		p.index = len(b.parcels)
		b.parcels = append(b.parcels, p)
		tags = append(tags, d.DeliveryTag)
	}
	if err := c.pub.send(ctx, b); err != nil {
		return 0, false, err
	}
	for i, tag := range tags {
		if b.receipts[i].Err != nil {
			continue
		}
		if err := ch.Ack(tag, false); err != nil {
			return moved, false, err
		}
		moved++
	}
	return moved, more, nil
}

func (c *conn) redriven(ctx context.Context, d *amqp.Delivery, to *driver.Route) (parcel, bool) {
	var m driver.Message
	c.decode(d, &m, &inner{})
	if to == nil {
		exchange, known := m.Headers[driver.HeaderOriginalRoute].(string)
		key, _ := m.Headers[driver.HeaderOriginalKey].(string)
		if !known || c.checkExchange(ctx, exchange) != nil {
			return parcel{}, false
		}
		to = &driver.Route{Exchange: exchange, Key: key}
	}
	return parcel{exchange: to.Exchange, key: to.Key, message: encode(&m, nil, false)}, true
}
