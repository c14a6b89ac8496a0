package rabbitmq

import (
	"context"
	"fmt"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Delete implements driver.Conn.
func (c *conn) Delete(ctx context.Context, r *driver.DeleteRequest) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if c.isClosed() {
		return lease.ErrClosed
	}
	own := *r
	switch {
	case own.Queue != "":
		if own.IfEmpty {
			return fmt.Errorf("if_empty: %w: RabbitMQ does not say what is in flight", lease.ErrUnsupported)
		}
		return c.deleteQueue(ctx, own.Queue)
	case own.Exchange != "":
		return c.deleteExchange(ctx, &own)
	default:
		b := *own.Binding
		b.Args = b.Args.Normalize()
		return c.deleteBinding(ctx, &b)
	}
}

// without is a record that lacks what drop says.
func (r *record) without(queue, exchange string, drop func(*driver.Binding) bool) *record {
	t := r.topology
	return &record{
		Classic: slices.DeleteFunc(slices.Clone(r.Classic), func(s string) bool { return s == queue }),
		topology: &driver.Topology{
			Exchanges: slices.DeleteFunc(slices.Clone(t.Exchanges), func(e driver.Exchange) bool { return e.Name == exchange }),
			Queues:    slices.DeleteFunc(slices.Clone(t.Queues), func(q driver.Queue) bool { return q.Name == queue }),
			Bindings:  slices.DeleteFunc(slices.Clone(t.Bindings), func(b driver.Binding) bool { return drop(&b) }),
		},
	}
}

func (c *conn) deleteQueue(ctx context.Context, name string) error {
	err := c.recorded(ctx, func(l *link, r *record) (*record, error) {
		q, _ := r.find(name)
		if q == nil {
			err := l.probe(func(ch *amqp.Channel) error {
				_, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
				return err
			})
			if err != nil {
				return nil, named("queue", name, err)
			}
		}
		err := l.with(func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(name, false, false, false)
			return err
		})
		if err != nil {
			return nil, named("queue", name, err)
		}
		return r.without(name, "", func(b *driver.Binding) bool { return b.Queue == name }), nil
	})
	if err == nil || isNotFound(err) {
		c.forget(name)
	}
	return err
}

func (c *conn) deleteExchange(ctx context.Context, d *driver.DeleteRequest) error {
	name := d.Exchange
	err := c.recorded(ctx, func(l *link, r *record) (*record, error) {
		if r.exchange(name) == nil {
			err := l.probe(func(ch *amqp.Channel) error {
				return ch.ExchangeDeclarePassive(name, amqp.ExchangeDirect, true, false, false, false, nil)
			})
			if err != nil {
				return nil, named("exchange", name, err)
			}
		}
		if err := r.needs(d); err != nil {
			return nil, err
		}
		err := l.with(func(ch *amqp.Channel) error { return ch.ExchangeDelete(name, d.IfUnused, false) })
		if has(err, amqp.PreconditionFailed) {
			return nil, fmt.Errorf("exchange %q: %w", name, driver.ErrInUse)
		}
		if err != nil {
			return nil, named("exchange", name, err)
		}
		return r.without("", name, func(b *driver.Binding) bool { return b.Exchange == name || b.ToExchange == name }), nil
	})
	if err == nil {
		c.mu.Lock()
		delete(c.exchanges, name)
		c.mu.Unlock()
	}
	return err
}

// needs is driver.ErrInUse if an exchange must stay.
func (r *record) needs(d *driver.DeleteRequest) error {
	name := d.Exchange
	for i := range r.topology.Exchanges {
		if e := &r.topology.Exchanges[i]; e.Alternate == name {
			return fmt.Errorf("exchange %q is the alternate of exchange %q: %w", name, e.Name, driver.ErrInUse)
		}
	}
	for i := range r.topology.Queues {
		if q := &r.topology.Queues[i]; q.DeadLetter != nil && q.DeadLetter.Exchange == name {
			return fmt.Errorf("exchange %q is the dead letter of queue %q: %w", name, q.Name, driver.ErrInUse)
		}
	}
	if d.IfUnused && slices.ContainsFunc(r.topology.Bindings, func(b driver.Binding) bool { return b.Exchange == name }) {
		return fmt.Errorf("exchange %q has bindings: %w", name, driver.ErrInUse)
	}
	return nil
}

func (c *conn) deleteBinding(ctx context.Context, b *driver.Binding) error {
	return c.recorded(ctx, func(l *link, r *record) (*record, error) {
		if !slices.ContainsFunc(r.topology.Bindings, func(x driver.Binding) bool { return sameBinding(&x, b) }) {
			return nil, fmt.Errorf("binding %s: %w", bindingName(b), lease.ErrNotFound)
		}
		if err := l.with(func(ch *amqp.Channel) error { return unbind(ch, b) }); err != nil {
			return nil, named("binding", bindingName(b), err)
		}
		return r.without("", "", func(x *driver.Binding) bool { return sameBinding(x, b) }), nil
	})
}

// Purge implements driver.Conn. What is delayed stays.
func (c *conn) Purge(ctx context.Context, queue string) (int64, error) {
	if err := driver.ValidateQueueName("queue", queue); err != nil {
		return 0, err
	}
	if c.isClosed() {
		return 0, lease.ErrClosed
	}
	purged := make(chan int, 1)
	err := c.do(ctx, c.out, func(ch *amqp.Channel) error {
		n, err := ch.QueuePurge(queue, false)
		purged <- n
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("queue %q: %w", queue, err)
	}
	return int64(<-purged), nil
}
