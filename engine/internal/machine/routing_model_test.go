package machine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// naiveRoute says where a message goes, from the declarations alone: what the
// message has reached grows until it grows no more.
func naiveRoute(t *queuedriver.Topology, exchange, key string, headers queuedriver.Headers) []string {
	kinds := make(map[string]queuedriver.Exchange)
	for _, e := range t.Exchanges {
		kinds[e.Name] = e
	}
	exchanges, queues := map[string]bool{exchange: true}, map[string]bool{}
	for grown := -1; grown != len(exchanges)+len(queues); {
		grown = len(exchanges) + len(queues)
		for name := range exchanges {
			matched := false
			for _, b := range t.Bindings {
				if b.Exchange != name || !naiveMatch(kinds[name].Kind, &b, key, headers) {
					continue
				}
				matched = true
				if b.ToExchange != "" {
					exchanges[b.ToExchange] = true
				} else {
					queues[b.Queue] = true
				}
			}
			if alternate := kinds[name].Alternate; !matched && alternate != "" {
				exchanges[alternate] = true
			}
		}
	}
	var names []string
	for q := range queues {
		names = append(names, q)
	}
	slices.Sort(names)
	return names
}

var topicRegexps = map[string]*regexp.Regexp{}

func naiveMatch(kind queuedriver.Kind, b *queuedriver.Binding, key string, headers queuedriver.Headers) bool {
	switch kind {
	case queuedriver.Direct:
		return b.Key == key
	case queuedriver.Topic:
		if topicRegexps[b.Key] == nil {
			topicRegexps[b.Key] = topicRegexp(b.Key)
		}
		return topicRegexps[b.Key].MatchString("." + key)
	case queuedriver.HeadersKind:
		return matchHeaders(b.Args, headers)
	case queuedriver.Fanout:
	}
	return true
}

// routingModel changes a topology at random and compares where messages go
// with what a naive router says of the same declarations.
type routingModel struct {
	t     *testing.T
	rand  *rand.Rand
	now   Time
	store *fakeStore
	m     *Queues
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (m *routingModel) name(kind string) string { return fmt.Sprint(kind, m.rand.IntN(6)) }
func (m *routingModel) key() string {
	return pick(m.rand, "", "a", "b", "a.b", "b.a", "a.*", "#", "#.b", "*", "a.#.b", "a.x.b")
}

func (m *routingModel) headers() queuedriver.Headers {
	if m.rand.IntN(2) == 0 {
		return nil
	}
	return queuedriver.Headers{pick(m.rand, "h", "i"): pick[any](m.rand, int64(1), "1"), queuedriver.ArgMatch: pick(m.rand, "all", "any")}
}

func (m *routingModel) declare() {
	t := &queuedriver.Topology{}
	for range m.rand.IntN(3) {
		e := queuedriver.Exchange{Name: m.name("e"), Kind: pick(m.rand, queuedriver.Direct, queuedriver.Fanout, queuedriver.Topic, queuedriver.HeadersKind)}
		if m.rand.IntN(2) == 0 {
			e.Alternate = m.name("e")
		}
		t.Exchanges = append(t.Exchanges, e)
	}
	for range m.rand.IntN(3) {
		t.Queues = append(t.Queues, queuedriver.Queue{Name: m.name("q")})
	}
	for range m.rand.IntN(3) {
		b := queuedriver.Binding{Exchange: m.name("e"), Queue: m.name("q"), Key: m.key(), Args: m.headers()}
		if m.rand.IntN(2) == 0 {
			b.Queue, b.ToExchange = "", m.name("e")
		}
		t.Bindings = append(t.Bindings, b)
	}
	if t.Validate(&queuedriver.Caps{ExchangeBindings: true, Alternate: true, MinLease: 1, MaxLease: queuedriver.DefaultLease}) != nil {
		return // a circle of alternates
	}
	c := &Declare{Topology: t, DryRun: m.rand.IntN(10) == 0}
	before := m.topology()
	m.m.Declare(m.store, c)
	if c.Err != nil || c.DryRun {
		m.same(before, m.topology(), "a refused declaration")
	}
}

func (m *routingModel) topology() *queuedriver.Topology {
	c := &ReadTopology{}
	m.m.ReadTopology(c)
	return c.Topology
}

func (m *routingModel) same(a, b *queuedriver.Topology, what string) {
	m.t.Helper()
	sorted := func(t *queuedriver.Topology) (s []string) {
		for _, b := range t.Bindings {
			s = append(s, fmt.Sprint(b))
		}
		slices.Sort(s)
		return s
	}
	if fmt.Sprint(a.Exchanges, a.Queues) != fmt.Sprint(b.Exchanges, b.Queues) || !slices.Equal(sorted(a), sorted(b)) {
		m.t.Fatalf("%s changed\n%+v to\n%+v", what, a, b)
	}
}

func (m *routingModel) remove() {
	t := m.topology()
	r := &queuedriver.DeleteRequest{}
	switch {
	case m.rand.IntN(3) == 0 && len(t.Exchanges) > 0:
		r.Exchange = pick(m.rand, t.Exchanges...).Name
	case m.rand.IntN(2) == 0 && len(t.Queues) > 0:
		r.Queue = pick(m.rand, t.Queues...).Name
	case len(t.Bindings) > 0:
		b := pick(m.rand, t.Bindings...)
		r.Binding = &b
	default:
		return
	}
	c := &DeleteTopology{Request: r}
	m.m.DeleteTopology(m.store, c)
	used := slices.ContainsFunc(t.Exchanges, func(e queuedriver.Exchange) bool { return e.Alternate != "" && e.Alternate == r.Exchange })
	if used != errors.Is(c.Err, queuedriver.ErrInUse) || !used && c.Err != nil {
		m.t.Fatalf("deleting %+v of %+v: %v", r, t, c.Err)
	}
	for _, b := range m.topology().Bindings {
		if c.Err == nil && (r.Exchange != "" && (b.Exchange == r.Exchange || b.ToExchange == r.Exchange) || r.Queue != "" && b.Queue == r.Queue) {
			m.t.Fatalf("%+v was deleted and %+v is left", r, b)
		}
	}
}

func (m *routingModel) compare() {
	t := m.topology()
	for range 5 {
		exchange, key, headers := m.name("e"), m.key(), m.headers()
		if m.m.exchanges[exchange] == nil {
			continue
		}
		to, err := m.m.route(queuedriver.Route{Exchange: exchange, Key: key}, headers, nil)
		if err != nil {
			m.t.Fatal(err)
		}
		var got []string
		for _, q := range to {
			got = append(got, q.spec.Name)
		}
		slices.Sort(got)
		if want := naiveRoute(t, exchange, key, headers); !slices.Equal(got, want) {
			m.t.Fatalf("exchange %s, key %q, headers %v go to %v, want %v; of\n%+v", exchange, key, headers, got, want, t)
		}
	}
}

func TestRoutingModel(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			m := &routingModel{t: t, rand: rand.New(rand.NewPCG(seed, 1)), store: newFakeStore(), now: Time{Mono: 1, Wall: 1}}
			m.m = m.store.reopen(m.now, defaultLimits)
			for range 300 {
				if m.rand.IntN(5) > 0 {
					m.declare()
				} else {
					m.remove()
				}
				m.m.Dispatch(m.now, m.store, m.store)
				m.store.commit()
				m.compare()
				if m.rand.IntN(20) == 0 {
					before := m.topology()
					m.m = m.store.reopen(m.now, defaultLimits)
					m.same(before, m.topology(), "a restart")
				}
			}
		})
	}
}

// TestRouteSteps checks the bound on the work for one message, at its edge.
func TestRouteSteps(t *testing.T) {
	store := newFakeStore()
	m := store.reopen(Time{Mono: 1, Wall: 1}, defaultLimits)
	top := &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: "q"}}}
	for i := range MaxRouteSteps/1000 - 1 {
		top.Exchanges = append(top.Exchanges, queuedriver.Exchange{Name: fmt.Sprint("e", i), Kind: queuedriver.Fanout})
	}
	declare := func(top *queuedriver.Topology) {
		t.Helper()
		c := &Declare{Topology: top}
		if m.Declare(store, c); c.Err != nil {
			t.Fatal(c.Err)
		}
	}
	declare(top)
	route := func() ([]*queue, error) { return m.route(queuedriver.Route{Exchange: "e0"}, nil, nil) }
	// Each exchange leads to the next by many bindings of a step each.
	bind := func(e, n int) {
		more := &queuedriver.Topology{}
		for i := range n {
			b := queuedriver.Binding{Exchange: fmt.Sprint("e", e), ToExchange: fmt.Sprint("e", e+1), Key: fmt.Sprint(i)}
			if e+1 == len(top.Exchanges) {
				b.ToExchange, b.Queue = "", "q"
			}
			more.Bindings = append(more.Bindings, b)
		}
		declare(more)
	}
	for e := range top.Exchanges {
		bind(e, queuedriver.MaxBindingsPerQueue)
	}
	to, err := route()
	if err != nil || len(to) != 1 {
		t.Fatalf("%d queues, %v", len(to), err)
	}
	// What is missing to the limit, spread over queues of its own.
	for missing, i := MaxRouteSteps-m.routing.steps, 0; missing > 0; i++ {
		more := &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: fmt.Sprint("more", i)}}}
		for k := range min(missing, queuedriver.MaxBindingsPerQueue) {
			more.Bindings = append(more.Bindings, queuedriver.Binding{Exchange: "e0", Queue: fmt.Sprint("more", i), Key: fmt.Sprint(k)})
		}
		missing -= len(more.Bindings)
		declare(more)
	}
	if to, err = route(); err != nil || len(to) < 1 || m.routing.steps != MaxRouteSteps {
		t.Fatalf("at the limit, after %d steps: %d queues, %v", m.routing.steps, len(to), err)
	}
	declare(&queuedriver.Topology{
		Queues:   []queuedriver.Queue{{Name: "last"}},
		Bindings: []queuedriver.Binding{{Exchange: "e0", Queue: "last"}},
	})
	if to, err = route(); !errors.Is(err, lease.ErrLimit) || len(to) != 0 {
		t.Fatalf("past the limit: %d queues, %v", len(to), err)
	}
	p := &Publish{Publishings: []queuedriver.Publishing{
		{Route: queuedriver.Route{Exchange: "e0"}, Message: &queuedriver.Message{}},
		{Route: queuedriver.Route{Key: "last"}, Message: &queuedriver.Message{}},
	}}
	for !m.Publish(Time{Mono: 1, Wall: 1}, store, store, p) {
		m.Dispatch(Time{Mono: 1, Wall: 1}, store, store)
		store.commit()
	}
	if !errors.Is(p.Receipts[0].Err, lease.ErrLimit) || p.Receipts[1].Err != nil {
		t.Errorf("receipts %+v", p.Receipts)
	}
}

// TestBindingLimits checks the bounds on bindings, from and to an exchange, at
// their edges.
func TestBindingLimits(t *testing.T) {
	store := newFakeStore()
	m := store.reopen(Time{Mono: 1, Wall: 1}, defaultLimits)
	top := &queuedriver.Topology{Exchanges: []queuedriver.Exchange{{Name: "from", Kind: queuedriver.Direct}, {Name: "to", Kind: queuedriver.Fanout}}}
	declare := func(top *queuedriver.Topology) error {
		c := &Declare{Topology: top}
		m.Declare(store, c)
		return c.Err
	}
	for i := range queuedriver.MaxBindingsPerQueue {
		top.Bindings = append(top.Bindings, queuedriver.Binding{Exchange: "from", ToExchange: "to", Key: fmt.Sprint(i)})
	}
	one := &queuedriver.Topology{Bindings: []queuedriver.Binding{{Exchange: "to", ToExchange: "to"}}}
	if err := declare(top); err != nil {
		t.Fatal(err)
	}
	if err := declare(one); !errors.Is(err, lease.ErrLimit) {
		t.Errorf("a binding too many to an exchange: %v", err)
	}
	left := queuedriver.MaxBindingsPerExchange - queuedriver.MaxBindingsPerQueue
	for q := 0; left > 0; q++ {
		more := &queuedriver.Topology{Queues: []queuedriver.Queue{{Name: fmt.Sprint("q", q)}}}
		for i := range min(left, queuedriver.MaxBindingsPerQueue-1) {
			more.Bindings = append(more.Bindings, queuedriver.Binding{Exchange: "from", Queue: fmt.Sprint("q", q), Key: fmt.Sprint(i)})
		}
		left -= len(more.Bindings)
		if err := declare(more); err != nil {
			t.Fatal(err)
		}
	}
	one = &queuedriver.Topology{Bindings: []queuedriver.Binding{{Exchange: "from", Queue: "q0", Key: "more"}}}
	if err := declare(one); !errors.Is(err, lease.ErrLimit) {
		t.Errorf("a binding too many from an exchange: %v", err)
	}
	gone := &DeleteTopology{Request: &queuedriver.DeleteRequest{Exchange: "to"}}
	if m.DeleteTopology(store, gone); gone.Err != nil {
		t.Fatal(gone.Err)
	}
	if err := declare(one); err != nil {
		t.Errorf("after a target is gone: %v", err)
	}
	store.commit()
	if n := len(store.bindings); n != queuedriver.MaxBindingsPerExchange-queuedriver.MaxBindingsPerQueue+1 {
		t.Errorf("%d bindings are stored", n)
	}
}
