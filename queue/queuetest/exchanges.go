package queuetest

import (
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var exchangeChecks = []check{
	{"an exchange bound to another routes on", exchangeChain},
	{"circles of exchanges end", exchangeCircle},
	{"bindings between exchanges are deleted like others", exchangeUnbind},
	{"deleting either end takes the binding along", exchangeEnds},
	{"an alternate gets what matches nothing", alternateRoutes},
	{"an alternate is not asked when a binding matches", alternateIdle},
	{"alternates form chains and end", alternateChain},
	{"an alternate and a dead letter stay while they are needed", alternateInUse},
	{"mandatory counts every way to a queue", exchangeMandatory},
	{"dead letters take every way", exchangeDeadLetter},
}

// exchanges declares exchanges of the given kinds, named e0, e1, ..., each with
// a queue q0, q1, ... bound by the key "q", or refuses where the backend
// cannot bind exchanges, or has no alternates.
func (s *suite) exchanges(alternates map[int]int, kinds ...driver.Kind) (es, qs []string, ok bool) {
	s.Helper()
	t := driver.Topology{}
	for i, k := range kinds {
		e, q := s.name(fmt.Sprint("e", i)), s.name(fmt.Sprint("q", i))
		es, qs = append(es, e), append(qs, q)
		x := driver.Exchange{Name: e, Kind: k}
		if a, some := alternates[i]; some {
			x.Alternate = s.name(fmt.Sprint("e", a))
		}
		t.Exchanges = append(t.Exchanges, x)
		t.Queues = append(t.Queues, driver.Queue{Name: q})
		t.Bindings = append(t.Bindings, driver.Binding{Exchange: e, Queue: q, Key: "q"})
	}
	if len(alternates) > 0 && !s.caps.Alternate {
		_, err := s.conn.Declare(s.ctx, &t, false)
		s.unsupported(err, "Declare of an alternate exchange")
		return nil, nil, false
	}
	s.declare(t)
	return es, qs, true
}

// link binds exchanges to each other; it reports false where the backend
// cannot, which it then has to say.
func (s *suite) link(bs ...driver.Binding) bool {
	s.Helper()
	t := driver.Topology{Bindings: bs}
	if !s.caps.ExchangeBindings {
		_, err := s.conn.Declare(s.ctx, &t, false)
		s.unsupported(err, "Declare of a binding to an exchange")
		return false
	}
	s.declare(t)
	return true
}

// reachesOnly asserts that a message reaches these of the queues, each once.
func (s *suite) reachesOnly(what string, r driver.Route, qs []string, want ...int) {
	s.Helper()
	s.reaches(what, r, nil, qs, func(i int) bool {
		for _, w := range want {
			if w == i {
				return true
			}
		}
		return false
	})
}

func exchangeChain(s *suite) {
	es, qs, _ := s.exchanges(nil, driver.Direct, driver.Topic, driver.Fanout)
	if !s.link(
		driver.Binding{Exchange: es[0], ToExchange: es[1], Key: "a.b"},
		driver.Binding{Exchange: es[0], ToExchange: es[1], Key: "x.b"},
		driver.Binding{Exchange: es[1], ToExchange: es[2], Key: "a.*"},
		driver.Binding{Exchange: es[1], ToExchange: es[2], Key: "#.b"},
	) {
		return
	}
	// The key is matched anew by each exchange, and is kept.
	s.reachesOnly("a.b", driver.Route{Exchange: es[0], Key: "a.b"}, qs, 2)
	s.reachesOnly("x.b", driver.Route{Exchange: es[0], Key: "x.b"}, qs, 2)
	s.reachesOnly("a.c to the second", driver.Route{Exchange: es[1], Key: "a.c"}, qs, 2)
	s.reachesOnly("a.c to the first", driver.Route{Exchange: es[0], Key: "a.c"}, qs)
	s.reachesOnly("q", driver.Route{Exchange: es[0], Key: "q"}, qs, 0)
	s.publish(driver.Route{Exchange: es[0], Key: "a.b"}, body("routed"))
	if d := s.want(qs[2], "routed")[0]; d.Route != (driver.Route{Exchange: es[0], Key: "a.b"}) {
		s.Errorf("it was delivered with the route %+v", d.Route)
	}
}

func exchangeCircle(s *suite) {
	es, qs, _ := s.exchanges(nil, driver.Fanout, driver.Fanout, driver.Fanout)
	if !s.link(
		driver.Binding{Exchange: es[0], ToExchange: es[1]},
		driver.Binding{Exchange: es[1], ToExchange: es[2]},
		driver.Binding{Exchange: es[2], ToExchange: es[0]},
		driver.Binding{Exchange: es[1], ToExchange: es[1]},
		driver.Binding{Exchange: es[1], Queue: qs[0]},
	) {
		return
	}
	for _, e := range es {
		s.reachesOnly("into the circle", driver.Route{Exchange: e}, qs, 0, 1, 2)
	}
}

func exchangeUnbind(s *suite) {
	es, qs, _ := s.exchanges(nil, driver.Topic, driver.Fanout)
	b := driver.Binding{Exchange: es[0], ToExchange: es[1], Key: "a"}
	if !s.link(b) {
		return
	}
	own := s.own()
	found := false
	for _, x := range own.Bindings {
		found = found || x.ToExchange == es[1] && x.Queue == "" && x.Exchange == es[0] && x.Key == "a"
	}
	if !found {
		s.Errorf("Topology does not show the binding: %+v", own.Bindings)
	}
	changes, err := s.conn.Declare(s.ctx, &own, false)
	s.must(err, "Declare of Topology")
	if len(changes) != 0 {
		s.Errorf("declaring what Topology returned made changes: %v", changes)
	}
	s.is(s.conn.Delete(s.ctx, &driver.DeleteRequest{Exchange: es[0], IfUnused: true}), driver.ErrInUse, "Delete IfUnused of a source")
	other := b
	other.Key = "other"
	s.is(s.conn.Delete(s.ctx, &driver.DeleteRequest{Binding: &other}), lease.ErrNotFound, "Delete of a binding with another key")
	asQueue := driver.Binding{Exchange: es[0], Queue: es[1], Key: "a"}
	s.is(s.conn.Delete(s.ctx, &driver.DeleteRequest{Binding: &asQueue}), lease.ErrNotFound, "Delete of a binding to a queue of that name")
	s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Binding: &b}), "Delete of the binding")
	s.reachesOnly("after that", driver.Route{Exchange: es[0], Key: "a"}, qs)
	s.is(s.conn.Delete(s.ctx, &driver.DeleteRequest{Binding: &b}), lease.ErrNotFound, "Delete of it again")
}

func exchangeEnds(s *suite) {
	es, qs, _ := s.exchanges(nil, driver.Fanout, driver.Fanout, driver.Fanout)
	if !s.link(driver.Binding{Exchange: es[0], ToExchange: es[1]}, driver.Binding{Exchange: es[1], ToExchange: es[2]}) {
		return
	}
	s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Exchange: es[1]}), "Delete of the one in the middle")
	for _, b := range s.own().Bindings {
		if b.Exchange == es[1] || b.ToExchange == es[1] {
			s.Errorf("left over: %+v", b)
		}
	}
	s.declare(driver.Topology{Exchanges: []driver.Exchange{{Name: es[1], Kind: driver.Fanout}}})
	s.reachesOnly("after it was made anew", driver.Route{Exchange: es[0]}, qs, 0)
	_, err := s.conn.Declare(s.ctx, &driver.Topology{Bindings: []driver.Binding{{Exchange: es[0], ToExchange: s.name("unknown")}}}, false)
	s.is(err, lease.ErrNotFound, "a binding to an unknown exchange")
}

func alternateRoutes(s *suite) {
	es, qs, ok := s.exchanges(map[int]int{0: 1}, driver.Direct, driver.Fanout)
	if !ok {
		return
	}
	s.reachesOnly("what matches", driver.Route{Exchange: es[0], Key: "q"}, qs, 0)
	s.reachesOnly("what does not", driver.Route{Exchange: es[0], Key: "other"}, qs, 1)
	s.publish(driver.Route{Exchange: es[0], Key: "lost"}, body("caught"))
	if d := s.want(qs[1], "caught")[0]; d.Route != (driver.Route{Exchange: es[0], Key: "lost"}) {
		s.Errorf("it was delivered with the route %+v", d.Route)
	}
	// It belongs to the exchange as its kind does.
	_, err := s.conn.Declare(s.ctx, &driver.Topology{Exchanges: []driver.Exchange{{Name: es[0], Kind: driver.Direct}}}, false)
	s.is(err, lease.ErrConflict, "Declare without the alternate")
	_, err = s.conn.Declare(s.ctx, &driver.Topology{Exchanges: []driver.Exchange{{Name: s.name("new"), Kind: driver.Direct, Alternate: s.name("unknown")}}}, false)
	s.is(err, lease.ErrNotFound, "Declare with an unknown alternate")
}

func alternateIdle(s *suite) {
	es, qs, ok := s.exchanges(map[int]int{0: 1}, driver.Fanout, driver.Fanout, driver.Direct)
	if !ok || !s.link(driver.Binding{Exchange: es[0], ToExchange: es[2]}) {
		return
	}
	s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Binding: &driver.Binding{Exchange: es[0], Queue: qs[0], Key: "q"}}), "Delete of a binding")
	// The binding matches, though it leads to an exchange that routes nowhere.
	s.reachesOnly("to nowhere", driver.Route{Exchange: es[0], Key: "nowhere"}, qs)
	s.reachesOnly("to a queue", driver.Route{Exchange: es[0], Key: "q"}, qs, 2)
}

func alternateChain(s *suite) {
	es, qs, ok := s.exchanges(map[int]int{0: 1, 1: 2}, driver.Direct, driver.Direct, driver.Topic)
	if !ok {
		return
	}
	s.declare(driver.Topology{Bindings: []driver.Binding{{Exchange: es[2], Queue: qs[2], Key: "a.#"}}})
	s.reachesOnly("to the end", driver.Route{Exchange: es[0], Key: "a.b"}, qs, 2)
	s.reachesOnly("past the end", driver.Route{Exchange: es[0], Key: "b"}, qs)
	circle := driver.Topology{Exchanges: []driver.Exchange{
		{Name: s.name("c0"), Kind: driver.Fanout, Alternate: s.name("c1")},
		{Name: s.name("c1"), Kind: driver.Fanout, Alternate: s.name("c0")},
	}}
	_, err := s.conn.Declare(s.ctx, &circle, false)
	s.field(err, "Declare of a circle of alternates")
	if s.link(driver.Binding{Exchange: es[2], ToExchange: es[0], Key: "#"}) {
		s.reachesOnly("around a circle through alternates", driver.Route{Exchange: es[0], Key: "b"}, qs)
		s.reachesOnly("around it to a queue", driver.Route{Exchange: es[2], Key: "q"}, qs, 0, 2)
	}
}

func alternateInUse(s *suite) {
	if s.caps.DeadLetter {
		e := s.name("dead")
		s.declare(driver.Topology{
			Exchanges: []driver.Exchange{{Name: e, Kind: driver.Fanout}},
			Queues:    []driver.Queue{{Name: s.name("q"), DeadLetter: &driver.Route{Exchange: e}}},
		})
		s.is(s.conn.Delete(s.ctx, &driver.DeleteRequest{Exchange: e}), driver.ErrInUse, "Delete of a dead letter")
	}
	es, qs, ok := s.exchanges(map[int]int{1: 0}, driver.Fanout, driver.Direct)
	if !ok {
		return
	}
	s.is(s.conn.Delete(s.ctx, &driver.DeleteRequest{Exchange: es[0]}), driver.ErrInUse, "Delete of an alternate")
	s.reachesOnly("after that", driver.Route{Exchange: es[1], Key: "other"}, qs, 0)
	s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Exchange: es[1]}), "Delete of the exchange that has it")
	s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Exchange: es[0]}), "Delete of the alternate after that")
}

func exchangeMandatory(s *suite) {
	if !s.caps.Mandatory || !s.caps.ExchangeBindings || !s.caps.Alternate {
		return // each is asserted to be refused by checks of its own
	}
	es, qs, _ := s.exchanges(map[int]int{0: 1}, driver.Direct, driver.Direct, driver.Direct)
	s.link(driver.Binding{Exchange: es[0], ToExchange: es[2], Key: "on"}, driver.Binding{Exchange: es[0], ToExchange: es[2], Key: "q"})
	keys := []struct {
		key    string
		queues int // 0: unroutable
	}{{"q", 2}, {"on", 0}, {"nowhere", 0}, {"q", 2}}
	ps := make([]driver.Publishing, len(keys))
	for i, k := range keys {
		ps[i] = driver.Publishing{Route: driver.Route{Exchange: es[0], Key: k.key}, Message: body(k.key), Mandatory: true}
	}
	rs, err := s.conn.Publish(s.ctx, ps)
	s.must(err, "Publish")
	for i, k := range keys {
		if errors.Is(rs[i].Err, driver.ErrUnroutable) != (k.queues == 0) || rs[i].Queues != s.queues(k.queues) {
			s.Errorf("key %q: receipt %+v, want %d queues", k.key, rs[i], k.queues)
		}
	}
	s.want(qs[0], "q", "q")
	s.none(qs[1])
	s.want(qs[2], "q", "q")
	s.declare(driver.Topology{Bindings: []driver.Binding{{Exchange: es[1], Queue: qs[1], Key: "nowhere"}}})
	s.publish(driver.Route{Exchange: es[0], Key: "nowhere"}, body("by the alternate"))
	s.want(qs[1], "by the alternate")
}

func exchangeDeadLetter(s *suite) {
	if !s.caps.DeadLetter || !s.caps.ExchangeBindings || !s.caps.Alternate {
		return // likewise
	}
	es, qs, _ := s.exchanges(map[int]int{0: 1}, driver.Direct, driver.Fanout, driver.Fanout)
	s.link(driver.Binding{Exchange: es[1], ToExchange: es[2]})
	q := s.queue("work", func(q *driver.Queue) { q.DeadLetter = &driver.Route{Exchange: es[0]} })
	s.bodies(to(q), "dies")
	if out := s.settle(driver.Settlement{Ref: s.one(q, "dies").Ref, Verb: driver.Reject}); !out.DeadLettered {
		s.Error("it was not dead-lettered")
	}
	s.want(qs[1], "dies")
	s.want(qs[2], "dies")
}
