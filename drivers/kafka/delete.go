package kafka

import (
	"context"
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Delete implements driver.Conn. What is gone from the record is gone; its topic
// follows.
func (c *conn) Delete(ctx context.Context, r *driver.DeleteRequest) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if c.isClosed() {
		return lease.ErrClosed
	}
	if r.IfEmpty {
		return fmt.Errorf("if_empty: %w: Kafka does not say what is in flight", lease.ErrUnsupported)
	}
	own := *r
	if own.Binding != nil {
		b := *own.Binding
		b.Args = b.Args.Normalize()
		own.Binding = &b
	}
	var topic string
	err := c.change(ctx, func(_ context.Context, st *state) (d *draft, err error) {
		d, topic, err = st.without(&own)
		return d, err
	})
	if err != nil {
		return err
	}
	if topic != "" {
		c.deleteTopics([]string{topic})
	}
	return nil
}

// without is a state that lacks something, and the topic that was made for it.
func (st *state) without(r *driver.DeleteRequest) (d *draft, topic string, err error) {
	d = st.draft()
	unbind := func(gone func(*driver.Binding) bool) {
		d.bindings = slices.DeleteFunc(d.bindings, func(b draftBinding) bool { return gone(&b.spec) })
	}
	switch {
	case r.Queue != "":
		i := slices.IndexFunc(d.queues, func(q draftQueue) bool { return q.spec.Name == r.Queue })
		if i < 0 {
			return nil, "", fmt.Errorf("queue %q: %w", r.Queue, lease.ErrNotFound)
		}
		if d.queues[i].Own {
			topic = queueTopic(r.Queue)
		}
		d.queues = slices.Delete(d.queues, i, i+1)
		unbind(func(b *driver.Binding) bool { return b.Queue == r.Queue })
	case r.Exchange != "":
		i := slices.IndexFunc(d.exchanges, func(e draftExchange) bool { return e.spec.Name == r.Exchange })
		if i < 0 {
			return nil, "", fmt.Errorf("exchange %q: %w", r.Exchange, lease.ErrNotFound)
		}
		if err := st.unused(r); err != nil {
			return nil, "", err
		}
		if d.exchanges[i].Own {
			topic = exchangeTopic(r.Exchange)
		}
		d.exchanges = slices.Delete(d.exchanges, i, i+1)
		unbind(func(b *driver.Binding) bool { return b.Exchange == r.Exchange })
	default:
		before := len(d.bindings)
		unbind(func(b *driver.Binding) bool { return sameBinding(b, r.Binding) })
		if len(d.bindings) == before {
			return nil, "", fmt.Errorf("binding %s: %w", bindingName(r.Binding), lease.ErrNotFound)
		}
	}
	return d, topic, nil
}

// unused is driver.ErrInUse if an exchange must stay.
func (st *state) unused(r *driver.DeleteRequest) error {
	for i := range st.topology.Queues {
		if q := &st.topology.Queues[i]; q.DeadLetter != nil && q.DeadLetter.Exchange == r.Exchange {
			return fmt.Errorf("exchange %q is the dead letter of queue %q: %w", r.Exchange, q.Name, driver.ErrInUse)
		}
	}
	if r.IfUnused && len(st.exchanges[r.Exchange].bindings) > 0 {
		return fmt.Errorf("exchange %q has bindings: %w", r.Exchange, driver.ErrInUse)
	}
	return nil
}

// deleteTopics deletes topics that nothing in the record names: another client
// may have taken one over meanwhile, with what was published to it since. One that
// stays is taken over, with nothing in it, when its name is declared again.
func (c *conn) deleteTopics(topics []string) {
	if len(topics) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.o.Timeout)
	defer cancel()
	if err := c.syncRecord(ctx); err != nil {
		c.o.Logger.Warn("topics that may not be needed any more stay", "topics", topics, "error", err)
		return
	}
	if topics = slices.DeleteFunc(topics, c.record.state().hasTopic); len(topics) == 0 {
		return
	}
	c.cl.PurgeTopicsFromProducing(topics...)
	rs, err := c.adm.DeleteTopics(ctx, topics...)
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		c.o.Logger.Warn("topics that are not needed any more stay", "topics", topics, "error", err)
	}
}

// hasTopic reports whether a topic is that of a queue or an exchange.
func (st *state) hasTopic(topic string) bool {
	for _, q := range st.queues {
		if q.topic == topic {
			return true
		}
	}
	for _, e := range st.exchanges {
		if e.topic == topic {
			return true
		}
	}
	return false
}
