package kafka

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// plan is what a Declare makes.
type plan struct {
	have *state
	kind QueueType // of the queues that are made
	driver.Topology
}

// Declare implements driver.Conn. Topics are made first, and count when the
// record says so.
func (c *conn) Declare(ctx context.Context, t *driver.Topology, dryRun bool) ([]driver.Change, error) {
	own := &driver.Topology{Exchanges: slices.Clone(t.Exchanges), Queues: slices.Clone(t.Queues), Bindings: slices.Clone(t.Bindings)}
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
	if c.o.QueueType == Share && len(own.Queues) > 0 {
		if err := c.needShare(ctx); err != nil {
			return nil, err
		}
	}
	own = wire.NewTopology(own).Driver() // as exact as the record
	var changes []driver.Change
	var made []string
	err := c.change(ctx, func(ctx context.Context, st *state) (*draft, error) {
		p := &plan{have: st, kind: c.o.QueueType}
		if err := p.add(own); err != nil {
			return nil, err
		}
		changes = p.changes()
		if dryRun || len(changes) == 0 {
			return nil, nil //nolint:nilnil // nothing changes
		}
		return c.make(ctx, p, &made)
	})
	if err == nil {
		return changes, nil
	}
	if !errors.Is(err, lease.ErrUnknown) { // the record may name them
		c.deleteTopics(made)
	}
	return nil, err
}

// checkQueue refuses what the driver does not do in the way that is promised.
func checkQueue(q *driver.Queue, field string) error {
	if q.DedupWindow > 0 {
		return fmt.Errorf("%s.dedup_window: %w: Kafka remembers no ids", field, lease.ErrUnsupported)
	}
	if q.Backoff.Max > MaxDelay {
		return lease.Invalidf(field+".backoff.max", "must be at most %v on Kafka, is %v", MaxDelay, q.Backoff.Max)
	}
	return nil
}

// add finds out what is missing, and refuses what cannot be made.
func (p *plan) add(t *driver.Topology) error {
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
	for i := range p.Queues {
		q := &p.Queues[i]
		if d := q.DeadLetter; d != nil {
			if err := p.needRoute(d, "dead letter of queue "+q.Name); err != nil {
				return err
			}
		}
	}
	for i := range t.Bindings {
		if err := p.addBinding(&t.Bindings[i]); err != nil {
			return err
		}
	}
	return p.checkTopics()
}

func (p *plan) exchange(name string) *driver.Exchange {
	if e := p.have.exchanges[name]; e != nil {
		return e.spec
	}
	if i := slices.IndexFunc(p.Exchanges, func(e driver.Exchange) bool { return e.Name == name }); i >= 0 {
		return &p.Exchanges[i]
	}
	return nil
}

func (p *plan) queue(name string) *driver.Queue {
	if q := p.have.queues[name]; q != nil {
		return q.spec
	}
	if i := slices.IndexFunc(p.Queues, func(q driver.Queue) bool { return q.Name == name }); i >= 0 {
		return &p.Queues[i]
	}
	return nil
}

func (p *plan) addExchange(e *driver.Exchange) error {
	switch have := p.exchange(e.Name); {
	case have == nil:
		p.Exchanges = append(p.Exchanges, *e)
	case have.Kind != e.Kind:
		return fmt.Errorf("exchange %q is declared with kind %s, not %s: %w", e.Name, have.Kind, e.Kind, lease.ErrConflict)
	}
	return nil
}

func (p *plan) addQueue(q *driver.Queue) error {
	switch have := p.queue(q.Name); {
	case have == nil:
		p.Queues = append(p.Queues, *q)
	case p.have.queues[q.Name] != nil && p.have.queues[q.Name].kind != p.kind:
		return fmt.Errorf("queue %q is declared as %s, not %s: %w", q.Name, p.have.queues[q.Name].kind, p.kind, lease.ErrConflict)
	case !reflect.DeepEqual(have, q):
		return fmt.Errorf("queue %q is declared otherwise, as %+v and not %+v: %w", q.Name, *have, *q, lease.ErrConflict)
	}
	return nil
}

func (p *plan) addBinding(b *driver.Binding) error {
	what := "binding " + bindingName(b)
	if err := p.needRoute(&driver.Route{Exchange: b.Exchange}, what); err != nil {
		return err
	}
	if err := p.needRoute(&driver.Route{Key: b.Queue}, what); err != nil {
		return err
	}
	same := func(x driver.Binding) bool { return sameBinding(&x, b) }
	if !slices.ContainsFunc(p.have.topology.Bindings, same) && !slices.ContainsFunc(p.Bindings, same) {
		p.Bindings = append(p.Bindings, *b)
	}
	return nil
}

// needRoute refuses names that nobody has.
func (p *plan) needRoute(r *driver.Route, what string) error {
	switch {
	case r.Exchange == driver.DefaultExchange && p.queue(r.Key) == nil:
		return fmt.Errorf("%s: queue %q: %w", what, r.Key, lease.ErrNotFound)
	case r.Exchange != driver.DefaultExchange && p.exchange(r.Exchange) == nil:
		return fmt.Errorf("%s: exchange %q: %w", what, r.Exchange, lease.ErrNotFound)
	}
	return nil
}

// checkTopics refuses two things with one topic, such as the queue "a" and the
// exchange "a.queue".
func (p *plan) checkTopics() error {
	users := map[string]string{}
	for i := range p.have.topology.Queues {
		users[queueTopic(p.have.topology.Queues[i].Name)] = "queue " + p.have.topology.Queues[i].Name
	}
	for i := range p.have.topology.Exchanges {
		users[exchangeTopic(p.have.topology.Exchanges[i].Name)] = "exchange " + p.have.topology.Exchanges[i].Name
	}
	claim := func(topic, who string) error {
		if other := users[topic]; other != "" {
			return fmt.Errorf("%s: its topic %q is that of %s: %w", who, topic, other, lease.ErrConflict)
		}
		users[topic] = who
		return nil
	}
	for i := range p.Queues {
		if err := claim(queueTopic(p.Queues[i].Name), "queue "+p.Queues[i].Name); err != nil {
			return err
		}
	}
	for i := range p.Exchanges {
		if err := claim(exchangeTopic(p.Exchanges[i].Name), "exchange "+p.Exchanges[i].Name); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) changes() (cs []driver.Change) {
	for i := range p.Exchanges {
		cs = append(cs, driver.Change{Action: "create", What: "exchange", Name: p.Exchanges[i].Name})
	}
	for i := range p.Queues {
		cs = append(cs, driver.Change{Action: "create", What: "queue", Name: p.Queues[i].Name})
	}
	for i := range p.Bindings {
		cs = append(cs, driver.Change{Action: "create", What: "binding", Name: bindingName(&p.Bindings[i])})
	}
	return cs
}

func sameBinding(a, b *driver.Binding) bool {
	return a.Exchange == b.Exchange && a.Queue == b.Queue && a.Key == b.Key && a.ToExchange == b.ToExchange &&
		(len(a.Args)+len(b.Args) == 0 || reflect.DeepEqual(a.Args, b.Args))
}

func bindingName(b *driver.Binding) string {
	s := b.Exchange + " -> " + b.Queue
	if b.Key != "" {
		s += " (" + b.Key + ")"
	}
	return s
}

// make makes the topics that are missing, and the record that is to be. made
// has the topics that were.
func (c *conn) make(ctx context.Context, p *plan, made *[]string) (*draft, error) {
	create := func(what, name, topic string) error {
		fresh, err := c.createTopic(ctx, topic, c.o.Partitions, nil)
		if fresh {
			*made = append(*made, topic)
			c.cl.PurgeTopicsFromProducing(topic) // what is known of an earlier one is wrong
		}
		return named(what, name, classify(err, lease.ErrUnknown))
	}
	d := p.have.draft()
	var topics []string // of which the ends have to be known
	for i := range p.Exchanges {
		topic := exchangeTopic(p.Exchanges[i].Name)
		if err := create("exchange", p.Exchanges[i].Name, topic); err != nil {
			return nil, err
		}
		d.exchanges = append(d.exchanges, draftExchange{p.Exchanges[i], exchangeRecord{Own: slices.Contains(*made, topic)}})
	}
	born := p.have.record.Version + 1
	for i := range p.Queues {
		topic := queueTopic(p.Queues[i].Name)
		if err := create("queue", p.Queues[i].Name, topic); err != nil {
			return nil, err
		}
		own := slices.Contains(*made, topic)
		if !own {
			topics = append(topics, topic)
		}
		q := draftQueue{p.Queues[i], queueRecord{Born: born, Own: own}}
		if p.kind == Share {
			q.Type = Share
			if err := c.prepareShare(ctx, groupName(q.spec.Name, born)); err != nil {
				return nil, named("queue", q.spec.Name, err)
			}
		}
		d.queues = append(d.queues, q)
	}
	for i := range p.Bindings {
		if topic := exchangeTopic(p.Bindings[i].Exchange); !slices.Contains(*made, topic) && !slices.Contains(topics, topic) {
			topics = append(topics, topic)
		}
	}
	if err := c.begin(ctx, p, d, topics); err != nil {
		return nil, err
	}
	return d, nil
}

// begin notes from where on what is new gets messages: what was published to a
// topic before is not for it.
func (c *conn) begin(ctx context.Context, p *plan, d *draft, topics []string) error {
	ends := map[string][]int64{}
	if len(topics) > 0 {
		var err error
		if ends, err = c.ends(ctx, topics...); err != nil {
			return classify(err, lease.ErrUnavailable)
		}
	}
	for i := range p.Queues {
		q := &d.queues[len(d.queues)-len(p.Queues)+i]
		q.Since = ends[queueTopic(q.spec.Name)]
	}
	for i := range p.Bindings {
		d.bindings = append(d.bindings, draftBinding{p.Bindings[i], ends[exchangeTopic(p.Bindings[i].Exchange)]})
	}
	return nil
}
