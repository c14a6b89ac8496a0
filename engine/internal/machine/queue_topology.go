package machine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// plan is what a Declare would add.
type plan struct {
	exchanges []queuedriver.Exchange
	queues    []queuedriver.Queue
	bindings  []queuedriver.Binding

	newExchange map[string]queuedriver.Exchange
	newQueue    map[string]queuedriver.Queue
	newBinding  map[path][]queuedriver.Binding
	leading     map[target]int // new bindings by where they lead
	leaving     map[string]int // and by their exchange
	conn        uint64
}

// target is where a binding leads: one of both.
type target struct{ queue, exchange string }

func targetOf(b *queuedriver.Binding) target { return target{b.Queue, b.ToExchange} }

// Declare makes a topology, all or nothing.
func (m *Queues) Declare(ch Changes, c *Declare) {
	p := &plan{
		newExchange: make(map[string]queuedriver.Exchange),
		newQueue:    make(map[string]queuedriver.Queue),
		newBinding:  make(map[path][]queuedriver.Binding),
		leading:     make(map[target]int),
		leaving:     make(map[string]int),
	}
	p.conn = c.Conn
	if c.Err = m.plan(p, c.Topology); c.Err != nil {
		return
	}
	c.Changes = p.changes()
	if c.DryRun {
		return
	}
	for i := range p.exchanges {
		m.exchanges[p.exchanges[i].Name] = newExchange(p.exchanges[i])
		ch.PutExchange(&p.exchanges[i])
	}
	for i := range p.queues {
		m.lastID++
		q := m.newQueue(m.lastID, &p.queues[i])
		m.add(q)
		m.own(q, c.Conn)
		ch.PutQueue(&record.Queue{ID: q.id, Spec: q.spec})
		m.touch(q)
	}
	for i := range c.Topology.Queues {
		m.queues[c.Topology.Queues[i].Name].used = m.mono
	}
	for i := range p.bindings {
		b := p.bindings[i]
		m.exchanges[b.Exchange].bind(b, m.queues[b.Queue], m.exchanges[b.ToExchange])
		ch.PutBinding(&b)
	}
}

func (m *Queues) plan(p *plan, t *queuedriver.Topology) error {
	for i := range t.Exchanges {
		if err := m.planExchange(p, &t.Exchanges[i]); err != nil {
			return err
		}
	}
	for i := range p.exchanges {
		if err := m.checkAlternate(p, &p.exchanges[i]); err != nil {
			return err
		}
	}
	for i := range t.Queues {
		if err := m.planQueue(p, &t.Queues[i]); err != nil {
			return err
		}
	}
	for i := range p.queues {
		if err := m.checkDeadLetter(p, &p.queues[i]); err != nil {
			return err
		}
	}
	for i := range t.Bindings {
		if err := m.planBinding(p, &t.Bindings[i]); err != nil {
			return err
		}
	}
	return nil
}

func (m *Queues) planExchange(p *plan, spec *queuedriver.Exchange) error {
	have, ok := p.newExchange[spec.Name]
	if e := m.exchanges[spec.Name]; e != nil {
		have, ok = e.spec, true
	}
	if ok {
		if have.Kind != spec.Kind {
			return fmt.Errorf("exchange %q is declared with kind %s, not %s: %w", spec.Name, have.Kind, spec.Kind, lease.ErrConflict)
		}
		if have.Alternate != spec.Alternate {
			return fmt.Errorf("exchange %q is declared with alternate %q, not %q: %w", spec.Name, have.Alternate, spec.Alternate, lease.ErrConflict)
		}
		return nil
	}
	if len(m.exchanges)+len(p.exchanges) >= MaxExchanges {
		return fmt.Errorf("%d exchanges at most: %w", MaxExchanges, lease.ErrLimit)
	}
	p.newExchange[spec.Name] = *spec
	p.exchanges = append(p.exchanges, *spec)
	return nil
}

func (m *Queues) planQueue(p *plan, spec *queuedriver.Queue) error {
	have, ok := p.newQueue[spec.Name]
	if q := m.queues[spec.Name]; q != nil {
		have, ok = q.spec, true
	}
	if q := m.queues[spec.Name]; q != nil {
		if err := q.allow(p.conn); err != nil {
			return err
		}
	}
	if ok {
		if diff := queueDiff(&have, spec); diff != "" {
			return fmt.Errorf("queue %q is declared with %s: %w", spec.Name, diff, lease.ErrConflict)
		}
		return nil
	}
	if spec.Exclusive && p.conn == 0 {
		return fmt.Errorf("exclusive queue %q without a connection: %w", spec.Name, lease.ErrUnsupported)
	}
	if len(m.queues)+len(p.queues) >= MaxQueues {
		return fmt.Errorf("%d queues at most: %w", MaxQueues, lease.ErrLimit)
	}
	p.newQueue[spec.Name] = *spec
	p.queues = append(p.queues, *spec)
	return nil
}

// checkDeadLetter refuses a dead letter that leads nowhere for sure.
func (m *Queues) checkDeadLetter(p *plan, spec *queuedriver.Queue) error {
	d := spec.DeadLetter
	if d == nil {
		return nil
	}
	what, name := "exchange", d.Exchange
	_, planned := p.newExchange[name]
	known := planned || m.exchanges[name] != nil
	if name == queuedriver.DefaultExchange {
		what, name = "queue", d.Key
		_, planned = p.newQueue[name]
		known = planned || m.queues[name] != nil
	}
	if !known {
		return fmt.Errorf("dead letter of queue %q: %s %q: %w", spec.Name, what, name, lease.ErrNotFound)
	}
	return nil
}

// checkAlternate refuses an alternate that nobody has.
func (m *Queues) checkAlternate(p *plan, spec *queuedriver.Exchange) error {
	name := spec.Alternate
	if _, planned := p.newExchange[name]; name == "" || planned || m.exchanges[name] != nil {
		return nil
	}
	return fmt.Errorf("alternate of exchange %q: exchange %q: %w", spec.Name, name, lease.ErrNotFound)
}

func (m *Queues) planBinding(p *plan, spec *queuedriver.Binding) error {
	if err := m.checkEnds(p, spec); err != nil {
		return err
	}
	e := m.exchanges[spec.Exchange]
	if e != nil && e.find(spec) != nil {
		return nil
	}
	for _, b := range p.newBinding[pathOf(spec)] {
		if equalTables(b.Args, spec.Args) {
			return nil
		}
	}
	if err := m.checkBindings(p, spec); err != nil {
		return err
	}
	p.bindings = append(p.bindings, *spec)
	p.newBinding[pathOf(spec)] = append(p.newBinding[pathOf(spec)], *spec)
	p.leading[targetOf(spec)]++
	p.leaving[spec.Exchange]++
	return nil
}

// checkEnds refuses a binding from or to something that nobody has.
func (m *Queues) checkEnds(p *plan, spec *queuedriver.Binding) error {
	exchanges := []string{spec.Exchange}
	if spec.ToExchange != "" {
		exchanges = append(exchanges, spec.ToExchange)
	} else if q := m.queues[spec.Queue]; q != nil {
		if err := q.allow(p.conn); err != nil {
			return err
		}
	} else if _, planned := p.newQueue[spec.Queue]; !planned {
		return fmt.Errorf("binding %s: queue %q: %w", bindingName(spec), spec.Queue, lease.ErrNotFound)
	}
	for _, name := range exchanges {
		if _, planned := p.newExchange[name]; !planned && m.exchanges[name] == nil {
			return fmt.Errorf("binding %s: exchange %q: %w", bindingName(spec), name, lease.ErrNotFound)
		}
	}
	return nil
}

// checkBindings refuses one binding too many.
func (m *Queues) checkBindings(p *plan, spec *queuedriver.Binding) error {
	what, name, leading := "queue", spec.Queue, p.leading[targetOf(spec)]
	if q := m.queues[spec.Queue]; q != nil {
		leading += len(q.leading)
	}
	if to := m.exchanges[spec.ToExchange]; to != nil {
		leading += len(to.leading)
	}
	if spec.ToExchange != "" {
		what, name = "exchange", spec.ToExchange
	}
	if leading >= queuedriver.MaxBindingsPerQueue {
		return fmt.Errorf("%s %q: %d bindings to it at most: %w", what, name, queuedriver.MaxBindingsPerQueue, lease.ErrLimit)
	}
	leaving := p.leaving[spec.Exchange]
	if e := m.exchanges[spec.Exchange]; e != nil {
		leaving += len(e.bindings)
	}
	if leaving >= queuedriver.MaxBindingsPerExchange {
		return fmt.Errorf("exchange %q: %d bindings at most: %w", spec.Exchange, queuedriver.MaxBindingsPerExchange, lease.ErrLimit)
	}
	return nil
}

func (p *plan) changes() []queuedriver.Change {
	var cs []queuedriver.Change
	for i := range p.exchanges {
		cs = append(cs, queuedriver.Change{Action: "create", What: "exchange", Name: p.exchanges[i].Name})
	}
	for i := range p.queues {
		cs = append(cs, queuedriver.Change{Action: "create", What: "queue", Name: p.queues[i].Name})
	}
	for i := range p.bindings {
		cs = append(cs, queuedriver.Change{Action: "create", What: "binding", Name: bindingName(&p.bindings[i])})
	}
	return cs
}

func bindingName(b *queuedriver.Binding) string {
	s := b.Exchange + " -> " + b.Queue
	if b.ToExchange != "" {
		s = b.Exchange + " -> exchange " + b.ToExchange
	}
	if b.Key != "" {
		s += " (" + b.Key + ")"
	}
	return s
}

// queueDiff names the first property in which two queues differ.
func queueDiff(have, want *queuedriver.Queue) string {
	route := func(r *queuedriver.Route) string {
		if r == nil {
			return "none"
		}
		return fmt.Sprintf("%q key %q", r.Exchange, r.Key)
	}
	for _, p := range [...]struct{ what, have, want string }{
		{"lease", have.Lease.String(), want.Lease.String()},
		{"delivery_limit", fmt.Sprint(have.DeliveryLimit), fmt.Sprint(want.DeliveryLimit)},
		{"dead_letter", route(have.DeadLetter), route(want.DeadLetter)},
		{"backoff.min", have.Backoff.Min.String(), want.Backoff.Min.String()},
		{"backoff.max", have.Backoff.Max.String(), want.Backoff.Max.String()},
		{"dedup_window", have.DedupWindow.String(), want.DedupWindow.String()},
		{"type", fmt.Sprintf("%q", have.Type), fmt.Sprintf("%q", want.Type)},
		{"max_priority", fmt.Sprint(have.MaxPriority), fmt.Sprint(want.MaxPriority)},
		{"message_ttl", have.MessageTTL.String(), want.MessageTTL.String()},
		{"expires", have.Expires.String(), want.Expires.String()},
		{"max_length", fmt.Sprint(have.MaxLength), fmt.Sprint(want.MaxLength)},
		{"max_bytes", fmt.Sprint(have.MaxBytes), fmt.Sprint(want.MaxBytes)},
		{"overflow", fmt.Sprintf("%q", have.Overflow), fmt.Sprintf("%q", want.Overflow)},
		{"single_active", fmt.Sprint(have.SingleActive), fmt.Sprint(want.SingleActive)},
		{"exclusive", fmt.Sprint(have.Exclusive), fmt.Sprint(want.Exclusive)},
		{"auto_delete", fmt.Sprint(have.AutoDelete), fmt.Sprint(want.AutoDelete)},
		{"retention.age", have.Retention.Age.String(), want.Retention.Age.String()},
		{"retention.messages", fmt.Sprint(have.Retention.Messages), fmt.Sprint(want.Retention.Messages)},
		{"retention.bytes", fmt.Sprint(have.Retention.Bytes), fmt.Sprint(want.Retention.Bytes)},
	} {
		if p.have != p.want {
			return fmt.Sprintf("%s %s, not %s", p.what, p.have, p.want)
		}
	}
	return ""
}

// DeleteTopology removes one part.
func (m *Queues) DeleteTopology(ch Changes, c *DeleteTopology) {
	switch r := c.Request; {
	case r.Exchange != "":
		c.Err = m.deleteExchange(ch, r)
	case r.Queue != "":
		c.Err = m.deleteQueue(ch, c)
	case r.Binding != nil:
		c.Err = m.deleteBinding(ch, c)
	}
}

func (m *Queues) deleteExchange(ch Changes, r *queuedriver.DeleteRequest) error {
	e := m.exchanges[r.Exchange]
	if e == nil {
		return fmt.Errorf("exchange %q: %w", r.Exchange, lease.ErrNotFound)
	}
	if r.IfUnused && len(e.bindings) > 0 {
		return fmt.Errorf("exchange %q has %d bindings: %w", r.Exchange, len(e.bindings), queuedriver.ErrInUse)
	}
	for _, q := range m.queues {
		if d := q.spec.DeadLetter; d != nil && d.Exchange == r.Exchange {
			return fmt.Errorf("exchange %q is the dead letter of queue %q: %w", r.Exchange, q.spec.Name, queuedriver.ErrInUse)
		}
	}
	for _, x := range m.exchanges {
		if x.spec.Alternate == r.Exchange {
			return fmt.Errorf("exchange %q is the alternate of exchange %q: %w", r.Exchange, x.spec.Name, queuedriver.ErrInUse)
		}
	}
	e.bindings.unbindAll(ch)
	e.leading.unbindAll(ch)
	delete(m.exchanges, r.Exchange)
	ch.DeleteExchange(r.Exchange)
	return nil
}

func (m *Queues) deleteBinding(ch Changes, c *DeleteTopology) error {
	spec := c.Request.Binding
	var b *binding
	if e := m.exchanges[spec.Exchange]; e != nil {
		b = e.find(spec)
	}
	if b == nil {
		return fmt.Errorf("binding %s: %w", bindingName(spec), lease.ErrNotFound)
	}
	if b.queue != nil {
		if err := b.queue.allow(c.Conn); err != nil {
			return err
		}
	}
	b.unbind()
	ch.DeleteBinding(&b.spec)
	return nil
}

func (m *Queues) deleteQueue(ch Changes, c *DeleteTopology) error {
	r := c.Request
	q, err := m.findFor(c.Conn, r.Queue)
	if err != nil {
		return err
	}
	if n := q.counters.Live + q.counters.Delayed; r.IfEmpty && n > 0 {
		return fmt.Errorf("queue %q has %d messages: %w", r.Queue, n, queuedriver.ErrInUse)
	}
	m.dropQueue(ch, q)
	return nil
}

// dropQueue deletes a queue with all that is in it.
func (m *Queues) dropQueue(ch Changes, q *queue) {
	q.leading.unbindAll(ch)
	for _, f := range q.flights {
		if f.fetch != nil && f.fetch.index >= 0 {
			m.fetches.remove(f.fetch)
		}
	}
	q.deleted = true
	q.pending = nil
	if q.stream != nil {
		m.trims.drop(q)
	}
	waited := len(q.waiting)
	clear(q.waiting)
	m.retries.drop(waited)
	m.drop(q)
	m.due.set(q, 0)
	m.expiries.set(q, 0)
	ch.DeleteQueue(&record.Queue{ID: q.id, Spec: q.spec})
	m.unwatch(q)
	for _, x := range q.consumers {
		x.over(nil)
	}
	if q.owner != nil {
		delete(q.owner.queues, q)
	}
	m.touch(q) // its receivers are told
}

// own notes that a queue is in use from now on, and by whom.
func (m *Queues) own(q *queue, conn uint64) {
	if q.spec.Exclusive {
		q.owner = m.connection(conn)
		q.owner.queues[q] = struct{}{}
	}
	if q.used = m.mono; q.spec.Expires > 0 {
		m.watch(q, m.mono.Add(q.spec.Expires))
	}
}

// ReadTopology returns everything declared, sorted.
func (m *Queues) ReadTopology(c *ReadTopology) {
	t := &queuedriver.Topology{}
	for _, e := range m.exchanges {
		t.Exchanges = append(t.Exchanges, e.spec)
		for _, b := range e.bindings {
			t.Bindings = append(t.Bindings, b.spec)
		}
	}
	for _, q := range m.queues {
		t.Queues = append(t.Queues, q.spec)
	}
	slices.SortFunc(t.Exchanges, func(a, b queuedriver.Exchange) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Queues, func(a, b queuedriver.Queue) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(t.Bindings, func(a, b queuedriver.Binding) int {
		return cmp.Or(strings.Compare(a.Exchange, b.Exchange), strings.Compare(a.Queue, b.Queue),
			strings.Compare(a.ToExchange, b.ToExchange), strings.Compare(a.Key, b.Key))
	})
	c.Topology = t
}
