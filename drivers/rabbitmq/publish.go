package rabbitmq

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

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
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	b := newBatch(len(ps))
	for i := range ps {
		parcel, err := c.address(ctx, &ps[i])
		if err != nil {
			b.receipts[i].Err = err
			continue
		}
		parcel.index = i
		b.parcels = append(b.parcels, parcel)
	}
	c.pub.begin(b)
	return func() ([]driver.Receipt, error) {
		if err := c.pub.wait(ctx, b); err != nil {
			return nil, err
		}
		return b.receipts, nil
	}, nil
}

// address says where a message is sent to.
func (c *conn) address(ctx context.Context, p *driver.Publishing) (parcel, error) {
	m := p.Message
	if m.OrderKey != "" {
		return parcel{}, fmt.Errorf("an order key: %w: RabbitMQ keeps an order only where one consumer gets everything", lease.ErrUnsupported)
	}
	delay := m.Delay
	if !m.NotBefore.IsZero() {
		delay = max(0, time.Until(m.NotBefore))
	}
	if delay > 0 {
		return c.addressDelayed(ctx, p, delay)
	}
	if err := c.checkExchange(ctx, p.Route.Exchange); err != nil {
		return parcel{}, err
	}
	return parcel{
		exchange: p.Route.Exchange, key: p.Route.Key, optional: !p.Mandatory, message: encode(m, nil, false),
	}, nil
}

// addressDelayed sends a message to the ladder. It must name its queue: who is
// bound to an exchange when the time has come is not known now, and a message
// that then gets nowhere would be lost.
func (c *conn) addressDelayed(ctx context.Context, p *driver.Publishing, delay time.Duration) (parcel, error) {
	if p.Route.Exchange != driver.DefaultExchange {
		return parcel{}, fmt.Errorf("a delay on the way through exchange %q: %w: name the queue instead", p.Route.Exchange, lease.ErrUnsupported)
	}
	exchange, err := c.delayed(ctx, p.Route.Key, delay)
	if has(err, amqp.NotFound) || isNotFound(err) {
		if !p.Mandatory {
			return parcel{nowhere: true}, nil
		}
		return parcel{}, fmt.Errorf("queue %q: %w", p.Route.Key, driver.ErrUnroutable)
	}
	if err != nil {
		return parcel{}, err
	}
	in := inner{via: p.Route, viaSet: true}
	return parcel{exchange: exchange, key: p.Route.Key, message: encode(p.Message, &in, true)}, nil
}

// checkExchange is lease.ErrNotFound if there is no such exchange: a broker
// closes the channel of who publishes to one, with all that is under way.
func (c *conn) checkExchange(ctx context.Context, name string) error {
	c.mu.Lock()
	known := c.exchanges[name]
	c.mu.Unlock()
	if known {
		return nil
	}
	err := c.do(ctx, c.out, func(ch *amqp.Channel) error {
		return ch.ExchangeDeclarePassive(name, amqp.ExchangeDirect, true, false, false, false, nil)
	})
	if err != nil {
		return fmt.Errorf("exchange %q: %w", name, err)
	}
	c.mu.Lock()
	c.exchanges[name] = true
	c.mu.Unlock()
	return nil
}

// batch is the messages of one call.
type batch struct {
	parcels  []parcel
	receipts []driver.Receipt
	done     chan struct{} // closed when all of them are decided

	// Guarded by publisher.mu.
	left  int  // not decided
	sent  bool // some of it may have reached the broker
	given bool // up: nobody waits for it
}

func newBatch(n int) *batch {
	return &batch{parcels: make([]parcel, 0, n), receipts: make([]driver.Receipt, n), done: make(chan struct{})}
}

// parcel is one message on its way.
type parcel struct {
	batch    *batch
	index    int // of its receipt
	exchange string
	key      string
	optional bool // no error if it gets nowhere
	nowhere  bool // that is known already
	returned bool // by the broker
	nacks    int  // how often it was refused
	message  amqp.Publishing
}

// decide sets the receipt of a parcel; publisher.mu is held.
func (p *parcel) decide(r driver.Receipt) {
	b := p.batch
	if r.Err == nil {
		r.Durability = driver.Synced
	}
	b.receipts[p.index] = r
	p.message = amqp.Publishing{}
	if b.left--; b.left == 0 {
		close(b.done)
	}
}

// confirmed is the receipt of a parcel that the broker has taken, or not.
func (p *parcel) confirmed(ok bool) driver.Receipt {
	switch {
	case p.returned && p.optional, p.nowhere:
		return driver.Receipt{}
	case p.returned:
		return driver.Receipt{Err: fmt.Errorf("exchange %q, key %q: %w", p.exchange, p.key, driver.ErrUnroutable)}
	case !ok:
		return driver.Receipt{Err: fmt.Errorf("the broker did not take the message: %w", lease.ErrUnknown)}
	}
	return driver.Receipt{Queues: 1}
}
