package queuetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var routingChecks = []check{
	{"direct", routeDirect},
	{"fanout", routeFanout},
	{"topic", routeTopic},
	{"headers", routeHeaders},
	{"default exchange", routeDefault},
	{"unroutable", routeNowhere},
	{"unknown exchange", routeUnknown},
	{"two bindings of one queue make one message", routeTwice},
}

// bind declares an exchange with a queue for each binding and returns the
// queues' names.
func (s *suite) bind(kind driver.Kind, bindings ...driver.Binding) (exchange string, queues []string) {
	s.Helper()
	exchange = s.name("e")
	t := driver.Topology{Exchanges: []driver.Exchange{{Name: exchange, Kind: kind}}}
	for i, b := range bindings {
		b.Exchange, b.Queue = exchange, fmt.Sprintf("%sq%d", s.prefix, i)
		t.Queues = append(t.Queues, driver.Queue{Name: b.Queue})
		t.Bindings = append(t.Bindings, b)
		queues = append(queues, b.Queue)
	}
	s.declare(t)
	return exchange, queues
}

// reaches asserts which of the queues a message reaches.
func (s *suite) reaches(what string, r driver.Route, h driver.Headers, queues []string, want func(i int) bool) {
	s.Helper()
	rs := s.send(false, r, &driver.Message{Headers: h, Body: []byte(what)})
	s.must(rs[0].Err, what)
	n := 0
	for i, q := range queues {
		ds := s.fetch(s.request(q, 10))
		for _, d := range ds {
			s.ack(d)
		}
		wanted := 0
		if want(i) {
			wanted = 1
		}
		n += wanted
		if len(ds) != wanted {
			s.Errorf("%s: binding %d got %d messages, want %d", what, i, len(ds), wanted)
		}
	}
	if n = s.queues(n); rs[0].Queues != n {
		s.Errorf("%s: the receipt says %d queues, want %d", what, rs[0].Queues, n)
	}
}

// queues is what a receipt says of a message that matched n of them.
func (s *suite) queues(n int) int {
	if s.caps.CountsQueues {
		return n
	}
	return min(n, 1)
}

func routeDirect(s *suite) {
	e, qs := s.bind(driver.Direct, driver.Binding{Key: "a"}, driver.Binding{Key: "a.b"}, driver.Binding{Key: ""}, driver.Binding{Key: "*"}, driver.Binding{Key: "a"})
	for key, want := range map[string][]bool{
		"a":     {0: true, 4: true},
		"a.b":   {1: true, 4: false},
		"":      {2: true, 4: false},
		"*":     {3: true, 4: false},
		"A":     {4: false},
		"a\x20": {4: false},
		"b":     {4: false},
	} {
		s.reaches(fmt.Sprintf("direct, key %q", key), driver.Route{Exchange: e, Key: key}, nil, qs, func(i int) bool { return want[i] })
	}
}

func routeFanout(s *suite) {
	e, qs := s.bind(driver.Fanout, driver.Binding{}, driver.Binding{Key: "x"}, driver.Binding{Key: "#"})
	for _, key := range []string{"", "x", "y.z"} {
		s.reaches(fmt.Sprintf("fanout, key %q", key), driver.Route{Exchange: e, Key: key}, nil, qs, func(int) bool { return true })
	}
}

func routeTopic(s *suite) {
	patterns := []string{
		"#", "*", "a", "a.b", "a.*", "*.b", "a.#", "#.b", "*.*", "#.#",
		"a.#.b", "a.*.b", "*.#", "#.*", "", "a..b", "*.*.*", "#.a.#", ".", "a.#.#.b",
	}
	matches := map[string][]string{
		"":        {"#", "*", "#.#", "*.#", "#.*", ""},
		"a":       {"#", "*", "a", "a.#", "#.#", "*.#", "#.*", "#.a.#"},
		"b":       {"#", "*", "#.b", "#.#", "*.#", "#.*"},
		"a.b":     {"#", "a.b", "a.*", "*.b", "a.#", "#.b", "*.*", "#.#", "a.#.b", "*.#", "#.*", "#.a.#", "a.#.#.b"},
		"b.a":     {"#", "*.*", "#.#", "*.#", "#.*", "#.a.#"},
		"a.x.b":   {"#", "a.#", "#.b", "#.#", "a.#.b", "a.*.b", "*.#", "#.*", "*.*.*", "#.a.#", "a.#.#.b"},
		"a.x.y.b": {"#", "a.#", "#.b", "#.#", "a.#.b", "*.#", "#.*", "#.a.#", "a.#.#.b"},
		"a..b":    {"#", "a.#", "#.b", "#.#", "a.#.b", "a.*.b", "*.#", "#.*", "a..b", "*.*.*", "#.a.#", "a.#.#.b"},
		".":       {"#", "*.*", "#.#", "*.#", "#.*", "."},
		"a.":      {"#", "a.*", "a.#", "*.*", "#.#", "*.#", "#.*", "#.a.#"},
		".b":      {"#", "*.b", "#.b", "*.*", "#.#", "*.#", "#.*"},
		"x.a.y":   {"#", "#.#", "*.#", "#.*", "*.*.*", "#.a.#"},
		"A":       {"#", "*", "#.#", "*.#", "#.*"},
	}
	bindings := make([]driver.Binding, len(patterns))
	for i, p := range patterns {
		bindings[i].Key = p
	}
	e, qs := s.bind(driver.Topic, bindings...)
	for key, want := range matches {
		if key == "" && s.emptyKeyIsNoWord(e, qs, patterns) {
			want = []string{"#", "#.#", ""}
		}
		s.reaches(fmt.Sprintf("topic, key %q, patterns %q", key, patterns), driver.Route{Exchange: e, Key: key}, nil, qs, func(i int) bool {
			for _, p := range want {
				if p == patterns[i] {
					return true
				}
			}
			return false
		})
	}
}

// emptyKeyIsNoWord finds out what a backend takes an empty key for: one word
// that is empty, or none.
func (s *suite) emptyKeyIsNoWord(e string, queues, patterns []string) bool {
	s.Helper()
	s.must(s.send(false, driver.Route{Exchange: e}, body("which"))[0].Err, "a message with an empty key")
	got := false
	for i, q := range queues {
		for _, d := range s.fetch(s.request(q, 10)) {
			got = got || patterns[i] == "*"
			s.ack(d)
		}
	}
	return !got
}

func routeHeaders(s *suite) {
	exchange := driver.Exchange{Name: s.name("e"), Kind: driver.HeadersKind}
	if !s.caps.HeadersRoute {
		_, err := s.conn.Declare(s.ctx, &driver.Topology{Exchanges: []driver.Exchange{exchange}}, false)
		s.is(err, lease.ErrUnsupported, "Declare of a headers exchange")
		return
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e, qs := s.bind(driver.HeadersKind,
		driver.Binding{Args: driver.Headers{"a": int64(1), "b": "x"}},
		driver.Binding{Args: driver.Headers{driver.ArgMatch: "all", "a": int64(1), "b": "x"}},
		driver.Binding{Args: driver.Headers{driver.ArgMatch: "any", "a": int64(1), "b": "x"}},
		driver.Binding{Args: driver.Headers{"a": "1"}},
		driver.Binding{Args: driver.Headers{"yes": true, "f": 1.5, "at": at, "raw": []byte{0, 1}}},
	)
	for i, c := range []struct {
		h    driver.Headers
		want []int
	}{
		{nil, nil},
		{driver.Headers{"a": int64(1)}, []int{2}},
		{driver.Headers{"b": "x", "c": "more"}, []int{2}},
		{driver.Headers{"a": int64(1), "b": "x"}, []int{0, 1, 2}},
		{driver.Headers{"a": int64(1), "b": "x", "c": true}, []int{0, 1, 2}},
		{driver.Headers{"a": int64(2), "b": "y"}, nil},
		{driver.Headers{"a": int64(1), "b": "X"}, []int{2}},
		{driver.Headers{"a": "1"}, []int{3}},
		{driver.Headers{"a": "1", "b": "x"}, []int{2, 3}},
		{driver.Headers{"yes": true, "f": 1.5, "at": at, "raw": []byte{0, 1}}, []int{4}},
		{driver.Headers{"yes": true, "f": 1.5, "at": at.Add(time.Second), "raw": []byte{0, 1}}, nil},
		{driver.Headers{"yes": true, "f": 1.5, "at": at, "raw": []byte{0, 2}}, nil},
		{driver.Headers{"yes": "true", "f": 1.5, "at": at, "raw": []byte{0, 1}}, nil},
		{driver.Headers{driver.ArgMatch: "any"}, nil},
	} {
		s.reaches(fmt.Sprintf("headers, case %d: %v", i, c.h), driver.Route{Exchange: e, Key: "ignored"}, c.h, qs, func(i int) bool {
			for _, w := range c.want {
				if w == i {
					return true
				}
			}
			return false
		})
	}
}

func routeDefault(s *suite) {
	q, other := s.queue("q"), s.queue("other")
	s.bodies(to(q), "a")
	s.none(other)
	d := s.want(q, "a")[0]
	if d.Route != to(q) {
		s.Errorf("it was delivered with the route %+v", d.Route)
	}
	_, err := s.conn.Declare(s.ctx, &driver.Topology{Bindings: []driver.Binding{{Queue: q, Key: "x"}}}, false)
	s.field(err, "a binding from the default exchange")
}

func routeNowhere(s *suite) {
	e, qs := s.bind(driver.Direct, driver.Binding{Key: "a"})
	routes := []driver.Route{{Exchange: e, Key: "b"}, {Key: s.name("nobody")}}
	for _, r := range routes {
		rs := s.send(false, r, body("optional"))
		if rs[0].Err != nil || rs[0].Queues != 0 {
			s.Errorf("an optional message to %+v: %+v, want no error and no queue", r, rs[0])
		}
		if !s.caps.Mandatory {
			rs, err := s.conn.Publish(s.ctx, []driver.Publishing{{Route: r, Message: body("m"), Mandatory: true}})
			if err == nil && len(rs) == 1 {
				err = rs[0].Err
			}
			s.is(err, lease.ErrUnsupported, "a mandatory message")
			continue
		}
		// Those around an unroutable one are stored all the same.
		ps := []driver.Publishing{
			{Route: driver.Route{Exchange: e, Key: "a"}, Message: body("before"), Mandatory: true},
			{Route: r, Message: body("lost"), Mandatory: true},
			{Route: driver.Route{Exchange: e, Key: "a"}, Message: body("after"), Mandatory: true},
		}
		rs, err := s.conn.Publish(s.ctx, ps)
		s.must(err, "Publish")
		if rs[0].Err != nil || !errors.Is(rs[1].Err, driver.ErrUnroutable) || rs[2].Err != nil {
			s.Errorf("to %+v: receipts %+v, want the second ErrUnroutable", r, rs)
		}
		s.want(qs[0], "before", "after")
	}
}

func routeUnknown(s *suite) {
	q := s.queue("q")
	rs, err := s.conn.Publish(s.ctx, []driver.Publishing{
		{Route: driver.Route{Exchange: s.name("unknown"), Key: q}, Message: body("x")},
		{Route: to(q), Message: body("y")},
	})
	s.must(err, "Publish")
	s.is(rs[0].Err, lease.ErrNotFound, "to an unknown exchange")
	s.must(rs[1].Err, "to a known one")
	s.want(q, "y")
}

func routeTwice(s *suite) {
	q := s.queue("q")
	e := s.name("e")
	s.declare(driver.Topology{
		Exchanges: []driver.Exchange{{Name: e, Kind: driver.Topic}},
		Bindings:  []driver.Binding{{Exchange: e, Queue: q, Key: "a.*"}, {Exchange: e, Queue: q, Key: "*.b"}},
	})
	rs := s.publish(driver.Route{Exchange: e, Key: "a.b"}, body("once"))
	if rs[0].Queues != 1 {
		s.Errorf("the receipt says %d queues, want 1", rs[0].Queues)
	}
	s.want(q, "once")
}
