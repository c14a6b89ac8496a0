package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// plan is what a Declare makes.
type plan struct {
	have      *record
	exchanges []driver.Exchange
	queues    []driver.Queue
	bindings  []driver.Binding
}

// Declare implements driver.Conn. What the broker refuses half way is undone.
func (c *conn) Declare(ctx context.Context, t *driver.Topology, dryRun bool) ([]driver.Change, error) {
	own := &driver.Topology{Exchanges: slices.Clone(t.Exchanges), Queues: slices.Clone(t.Queues), Bindings: slices.Clone(t.Bindings)}
	for i := range own.Queues {
		if err := refusePolicy(&own.Queues[i], fmt.Sprintf("queues[%d]", i), &c.caps); err != nil {
			return nil, err
		}
	}
	if err := own.Validate(&c.caps); err != nil {
		return nil, err
	}
	for i := range own.Queues {
		if err := checkQueue(&own.Queues[i], fmt.Sprintf("queues[%d]", i)); err != nil {
			return nil, err
		}
	}
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	own = wire.NewTopology(own).Driver() // as exact as the record
	var changes []driver.Change
	err := c.recorded(ctx, func(l *link, r *record) (*record, error) {
		p := &plan{have: r}
		if err := c.plan(l, p, own); err != nil {
			return nil, err
		}
		changes = p.changes()
		if dryRun || len(changes) == 0 {
			return nil, nil //nolint:nilnil // nothing changes
		}
		if err := c.apply(l, p); err != nil {
			return nil, err
		}
		return p.next(c.o.QueueType), nil
	})
	if err != nil {
		return nil, err
	}
	for i := range own.Queues {
		c.refresh(&own.Queues[i])
	}
	return changes, nil
}

// refusePolicy says why a policy is refused that RabbitMQ has by the same name.
func refusePolicy(q *driver.Queue, field string, caps *driver.Caps) error {
	for _, p := range [...]struct {
		used       bool
		field, why string
	}{
		{q.MaxPriority > 0 && !caps.Priorities, "max_priority", "only classic queues (queue_type=classic) have enough of them"},
		{q.MaxLength > 0, "max_length", whyNoBounds},
		{q.MaxBytes > 0, "max_bytes", whyNoBounds},
		{q.MessageTTL > 0, "message_ttl", "a failed attempt is a copy, whose time would begin anew, and what is behind others does not time out"},
		{q.Expires > 0, "expires", "RabbitMQ would delete it while deliveries are being handled, unless somebody subscribes"},
		{q.AutoDelete, "auto_delete", "RabbitMQ would delete it while deliveries are being handled"},
		{q.Exclusive, "exclusive", "RabbitMQ ties it to one connection: a client has two, and makes new ones when they are lost"},
	} {
		if p.used {
			return fmt.Errorf("%s.%s: %w: %s", field, p.field, lease.ErrUnsupported, p.why)
		}
	}
	return nil
}

const whyNoBounds = "RabbitMQ does not count what is in flight, lets some more in, and what one of several queues refuses the others take"

// checkQueue refuses what no RabbitMQ does in the way that is promised.
func checkQueue(q *driver.Queue, field string) error {
	if q.DedupWindow > 0 {
		return fmt.Errorf("%s.dedup_window: %w: RabbitMQ remembers no ids", field, lease.ErrUnsupported)
	}
	if q.Backoff.Max > MaxDelay {
		return lease.Invalidf(field+".backoff.max", "must be at most %v on RabbitMQ, is %v", MaxDelay, q.Backoff.Max)
	}
	return nil
}

// refresh drops a policy that is out of date.
func (c *conn) refresh(q *driver.Queue) {
	c.mu.Lock()
	s := c.sources[q.Name]
	c.mu.Unlock()
	if s != nil && !reflect.DeepEqual(s.spec, q) {
		c.forget(q.Name)
	}
}

// plan finds out what is missing, and refuses what cannot be made.
func (c *conn) plan(l *link, p *plan, t *driver.Topology) error {
	for i := range t.Exchanges {
		if err := p.addExchange(&t.Exchanges[i]); err != nil {
			return err
		}
	}
	for i := range t.Queues {
		if err := p.addQueue(&t.Queues[i]); err != nil {
			return err
		}
	}
	for i := range p.exchanges {
		e := &p.exchanges[i]
		if err := c.needExchange(l, p, e.Alternate, "alternate of exchange "+e.Name); err != nil {
			return err
		}
	}
	for i := range p.queues {
		q := &p.queues[i]
		if d := q.DeadLetter; d != nil {
			if err := c.needRoute(l, p, d, "dead letter of queue "+q.Name); err != nil {
				return err
			}
		}
	}
	for i := range t.Bindings {
		if err := c.addBinding(l, p, &t.Bindings[i]); err != nil {
			return err
		}
	}
	return p.order()
}

func (p *plan) addExchange(e *driver.Exchange) error {
	have := p.have.exchange(e.Name)
	if i := slices.IndexFunc(p.exchanges, func(x driver.Exchange) bool { return x.Name == e.Name }); i >= 0 {
		have = &p.exchanges[i]
	}
	switch {
	case have == nil:
		p.exchanges = append(p.exchanges, *e)
	case have.Kind != e.Kind:
		return fmt.Errorf("exchange %q is declared with kind %s, not %s: %w", e.Name, have.Kind, e.Kind, lease.ErrConflict)
	case have.Alternate != e.Alternate:
		return fmt.Errorf("exchange %q is declared with alternate %q, not %q: %w", e.Name, have.Alternate, e.Alternate, lease.ErrConflict)
	}
	return nil
}

func (p *plan) addQueue(q *driver.Queue) error {
	have, _ := p.have.find(q.Name)
	if i := slices.IndexFunc(p.queues, func(x driver.Queue) bool { return x.Name == q.Name }); i >= 0 {
		have = &p.queues[i]
	}
	switch {
	case have == nil:
		p.queues = append(p.queues, *q)
	case !reflect.DeepEqual(have, q):
		return fmt.Errorf("queue %q is declared otherwise, as %+v and not %+v: %w", q.Name, *have, *q, lease.ErrConflict)
	}
	return nil
}

func (c *conn) addBinding(l *link, p *plan, b *driver.Binding) error {
	what := "binding " + bindingName(b)
	if err := c.needExchange(l, p, b.Exchange, what); err != nil {
		return err
	}
	if b.ToExchange != "" {
		if err := c.needExchange(l, p, b.ToExchange, what); err != nil {
			return err
		}
	} else if err := c.needRoute(l, p, &driver.Route{Key: b.Queue}, what); err != nil {
		return err
	}
	same := func(x driver.Binding) bool { return sameBinding(&x, b) }
	if !slices.ContainsFunc(p.have.topology.Bindings, same) && !slices.ContainsFunc(p.bindings, same) {
		p.bindings = append(p.bindings, *b)
	}
	return nil
}

func sameBinding(a, b *driver.Binding) bool {
	return a.Exchange == b.Exchange && a.Queue == b.Queue && a.ToExchange == b.ToExchange && a.Key == b.Key &&
		(len(a.Args)+len(b.Args) == 0 || reflect.DeepEqual(a.Args, b.Args))
}

func bindingName(b *driver.Binding) string {
	s := b.Exchange + " -> " + b.Queue
	if b.ToExchange != "" {
		s = b.Exchange + " -> exchange " + b.ToExchange
	}
	if b.Key != "" {
		s += " (" + b.Key + ")"
	}
	return s
}

// needExchange refuses a name that nobody has: neither we nor the broker.
func (c *conn) needExchange(l *link, p *plan, name, what string) error {
	if name == "" || p.have.exchange(name) != nil ||
		slices.ContainsFunc(p.exchanges, func(e driver.Exchange) bool { return e.Name == name }) {
		return nil
	}
	err := l.probe(func(ch *amqp.Channel) error {
		return ch.ExchangeDeclarePassive(name, amqp.ExchangeDirect, true, false, false, false, nil)
	})
	return named(what+": exchange", name, err)
}

func (c *conn) needRoute(l *link, p *plan, r *driver.Route, what string) error {
	if r.Exchange != driver.DefaultExchange {
		return c.needExchange(l, p, r.Exchange, what)
	}
	if q, _ := p.have.find(r.Key); q != nil || slices.ContainsFunc(p.queues, func(q driver.Queue) bool { return q.Name == r.Key }) {
		return nil
	}
	err := l.probe(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclarePassive(r.Key, true, false, false, false, nil)
		return err
	})
	return named(what+": queue", r.Key, err)
}

// named says what an error of the broker is about.
func named(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q: %w", what, name, classify(err, lease.ErrUnknown))
}

// order puts alternates before those who have them.
func (p *plan) order() error {
	var sorted []driver.Exchange
	for left := p.exchanges; len(left) > 0; {
		var rest []driver.Exchange
		for _, e := range left {
			waits := slices.ContainsFunc(left, func(x driver.Exchange) bool { return x.Name == e.Alternate })
			if waits {
				rest = append(rest, e)
			} else {
				sorted = append(sorted, e)
			}
		}
		if len(rest) == len(left) {
			return lease.Invalidf("exchanges", "have alternates that lead in a circle")
		}
		left = rest
	}
	p.exchanges = sorted
	return nil
}

func (p *plan) changes() []driver.Change {
	var cs []driver.Change
	for i := range p.exchanges {
		cs = append(cs, driver.Change{Action: "create", What: "exchange", Name: p.exchanges[i].Name})
	}
	for i := range p.queues {
		cs = append(cs, driver.Change{Action: "create", What: "queue", Name: p.queues[i].Name})
	}
	for i := range p.bindings {
		cs = append(cs, driver.Change{Action: "create", What: "binding", Name: bindingName(&p.bindings[i])})
	}
	return cs
}

// next is the record with what was made.
func (p *plan) next(kind QueueType) *record {
	t := p.have.topology
	classic := slices.Clone(p.have.Classic)
	for i := range p.queues {
		if typeOf(&p.queues[i], kind) == Classic {
			classic = append(classic, p.queues[i].Name)
		}
	}
	return &record{Classic: classic, topology: &driver.Topology{
		Exchanges: slices.Concat(t.Exchanges, p.exchanges),
		Queues:    slices.Concat(t.Queues, p.queues),
		Bindings:  slices.Concat(t.Bindings, p.bindings),
	}}
}

// typeOf says what a queue is made as.
func typeOf(_ *driver.Queue, kind QueueType) QueueType { return kind }

// apply makes what is planned, or nothing.
func (c *conn) apply(l *link, p *plan) error {
	var undo []func(*amqp.Channel) error
	err := c.make(l, p, &undo)
	if err == nil {
		return nil
	}
	for _, f := range slices.Backward(undo) {
		if uerr := l.probe(f); uerr != nil {
			err = errors.Join(err, fmt.Errorf("and what was made before was not undone: %w", uerr))
			break
		}
	}
	return err
}

func (c *conn) make(l *link, p *plan, undo *[]func(*amqp.Channel) error) error {
	for i := range p.exchanges {
		e := &p.exchanges[i]
		err := l.with(func(ch *amqp.Channel) error {
			var args amqp.Table
			if e.Alternate != "" {
				args = amqp.Table{"alternate-exchange": e.Alternate}
			}
			return ch.ExchangeDeclare(e.Name, string(e.Kind), true, false, false, false, args)
		})
		if err != nil {
			return named("exchange", e.Name, err)
		}
		*undo = append(*undo, func(ch *amqp.Channel) error { return ch.ExchangeDelete(e.Name, true, false) })
	}
	for i := range p.queues {
		q := &p.queues[i]
		err := l.with(func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(q.Name, true, false, false, false, c.queueArgs(q))
			return err
		})
		if err != nil {
			return named("queue", q.Name, err)
		}
		*undo = append(*undo, func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(q.Name, true, false, false)
			return err
		})
	}
	for i := range p.bindings {
		b := &p.bindings[i]
		if err := l.with(func(ch *amqp.Channel) error { return bind(ch, b) }); err != nil {
			return named("binding", bindingName(b), err)
		}
		*undo = append(*undo, func(ch *amqp.Channel) error { return unbind(ch, b) })
	}
	return nil
}

// queueArgs is how RabbitMQ is told about a queue. What it dead-letters by
// itself, for a client that knows nothing of Lockkeeper, goes the same way.
func (c *conn) queueArgs(q *driver.Queue) amqp.Table {
	kind := typeOf(q, c.o.QueueType)
	args := amqp.Table{"x-queue-type": string(kind)}
	if kind == Quorum {
		args["x-delivery-limit"] = unlimited
		if q.DeliveryLimit > 0 {
			args["x-delivery-limit"] = int64(q.DeliveryLimit)
		}
	}
	if q.MaxPriority > 0 { // of a classic queue, see capsOf
		args["x-max-priority"] = int64(q.MaxPriority)
	}
	if q.SingleActive {
		args["x-single-active-consumer"] = true
	}
	if d := q.DeadLetter; d != nil {
		args["x-dead-letter-exchange"] = d.Exchange
		if d.Key != "" {
			args["x-dead-letter-routing-key"] = d.Key
		}
		if kind == Quorum {
			args["x-dead-letter-strategy"], args["x-overflow"] = "at-least-once", "reject-publish"
		}
	}
	return args
}

func bind(ch *amqp.Channel, b *driver.Binding) error {
	if b.ToExchange != "" {
		return ch.ExchangeBind(b.ToExchange, b.Key, b.Exchange, false, tableOf(b.Args))
	}
	return ch.QueueBind(b.Queue, b.Key, b.Exchange, false, tableOf(b.Args))
}

func unbind(ch *amqp.Channel, b *driver.Binding) error {
	if b.ToExchange != "" {
		return ch.ExchangeUnbind(b.ToExchange, b.Key, b.Exchange, false, tableOf(b.Args))
	}
	return ch.QueueUnbind(b.Queue, b.Key, b.Exchange, tableOf(b.Args))
}
