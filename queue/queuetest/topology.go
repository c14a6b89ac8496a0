package queuetest

import (
	"reflect"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var topologyChecks = []check{
	{"declaring again changes nothing", declareAgain},
	{"a mismatch is a conflict", declareMismatch},
	{"declare is all or nothing", declareAllOrNothing},
	{"a dry run changes nothing", declareDryRun},
	{"unknown names are not found", declareUnknown},
	{"delete queue", deleteQueue},
	{"delete exchange", deleteExchange},
	{"delete binding", deleteBinding},
	{"a deleted queue is made anew, empty", deleteAndRemake},
}

// small is a topology with a bit of everything that the backend has.
func (s *suite) small() driver.Topology {
	q := driver.Queue{Name: s.name("q")}
	if s.caps.DeadLetter {
		q.DeadLetter = &driver.Route{Key: s.name("dead")}
	}
	if s.caps.Dedup {
		q.DedupWindow = time.Hour
	}
	return driver.Topology{
		Exchanges: []driver.Exchange{{Name: s.name("e"), Kind: driver.Topic}},
		Queues:    []driver.Queue{{Name: s.name("dead")}, q},
		Bindings:  []driver.Binding{{Exchange: s.name("e"), Queue: s.name("q"), Key: "a.*"}},
	}
}

// own returns the part of the backend's topology that this check declared.
func (s *suite) own() driver.Topology {
	s.Helper()
	t, err := s.conn.Topology(s.ctx)
	s.must(err, "Topology")
	var own driver.Topology
	for _, e := range t.Exchanges {
		if strings.HasPrefix(e.Name, s.prefix) {
			own.Exchanges = append(own.Exchanges, e)
		}
	}
	for _, q := range t.Queues {
		if strings.HasPrefix(q.Name, s.prefix) {
			own.Queues = append(own.Queues, q)
		}
	}
	for _, b := range t.Bindings {
		if strings.HasPrefix(b.Exchange, s.prefix) {
			own.Bindings = append(own.Bindings, b)
		}
	}
	return own
}

func declareAgain(s *suite) {
	changes := s.declare(s.small())
	if len(changes) != 4 {
		s.Errorf("the first Declare of four things made %d changes: %v", len(changes), changes)
	}
	for _, c := range changes {
		if c.Action == "" || c.What == "" || c.Name == "" {
			s.Errorf("a change says too little: %+v", c)
		}
	}
	before := s.own()
	for range 2 {
		t := s.small()
		changes, err := s.conn.Declare(s.ctx, &t, false)
		s.must(err, "Declare again")
		if len(changes) != 0 {
			s.Errorf("an equal Declare made changes: %v", changes)
		}
	}
	// What it says can be declared again as it is.
	changes, err := s.conn.Declare(s.ctx, &before, false)
	s.must(err, "Declare of Topology")
	if len(changes) != 0 {
		s.Errorf("declaring what Topology returned made changes: %v", changes)
	}
	want := s.small()
	s.must(want.Validate(&s.caps), "Validate") // fills in the defaults
	if !reflect.DeepEqual(before, want) {
		s.Errorf("Topology returned\n%+v, want\n%+v", before, want)
	}
}

func declareMismatch(s *suite) {
	s.declare(s.small())
	before := s.own()
	differences := map[string]func(*driver.Topology){
		"kind":    func(t *driver.Topology) { t.Exchanges[0].Kind = driver.Direct },
		"lease":   func(t *driver.Topology) { t.Queues[0].Lease = s.caps.MinLease + 50*time.Second },
		"backoff": func(t *driver.Topology) { t.Queues[0].Backoff.Max = time.Hour },
	}
	if s.caps.DeadLetter {
		differences["delivery limit"] = func(t *driver.Topology) { t.Queues[1].DeliveryLimit = 7 }
		differences["dead letter"] = func(t *driver.Topology) { t.Queues[1].DeadLetter = nil }
		differences["dead key"] = func(t *driver.Topology) { t.Queues[1].DeadLetter = &driver.Route{Exchange: s.name("e")} }
	}
	if s.caps.Dedup {
		differences["dedup"] = func(t *driver.Topology) { t.Queues[1].DedupWindow = 2 * time.Hour }
	}
	for name, change := range differences {
		t := s.small()
		change(&t)
		_, err := s.conn.Declare(s.ctx, &t, false)
		s.is(err, lease.ErrConflict, "Declare with another "+name)
		_, err = s.conn.Declare(s.ctx, &t, true)
		s.is(err, lease.ErrConflict, "dry run with another "+name)
	}
	if after := s.own(); !reflect.DeepEqual(before, after) {
		s.Errorf("a refused Declare changed\n%+v to\n%+v", before, after)
	}
}

func declareAllOrNothing(s *suite) {
	s.declare(driver.Topology{Exchanges: []driver.Exchange{{Name: s.name("e"), Kind: driver.Topic}}})
	t := driver.Topology{
		Exchanges: []driver.Exchange{{Name: s.name("fresh"), Kind: driver.Direct}, {Name: s.name("e"), Kind: driver.Fanout}},
		Queues:    []driver.Queue{{Name: s.name("q")}},
		Bindings:  []driver.Binding{{Exchange: s.name("e"), Queue: s.name("q")}},
	}
	_, err := s.conn.Declare(s.ctx, &t, false)
	s.is(err, lease.ErrConflict, "Declare")
	if own := s.own(); len(own.Exchanges) != 1 || len(own.Queues) != 0 || len(own.Bindings) != 0 {
		s.Errorf("a refused Declare left %+v behind", own)
	}
}

func declareDryRun(s *suite) {
	t := s.small()
	planned, err := s.conn.Declare(s.ctx, &t, true)
	s.must(err, "dry run")
	if own := s.own(); len(own.Exchanges)+len(own.Queues)+len(own.Bindings) != 0 {
		s.Fatalf("a dry run made %+v", own)
	}
	if made := s.declare(s.small()); !reflect.DeepEqual(planned, made) {
		s.Errorf("the dry run said %v, the Declare made %v", planned, made)
	}
	planned, err = s.conn.Declare(s.ctx, &t, true)
	s.must(err, "second dry run")
	if len(planned) != 0 {
		s.Errorf("a dry run of what exists says %v", planned)
	}
}

func declareUnknown(s *suite) {
	q, e := s.name("q"), s.name("e")
	for name, t := range map[string]driver.Topology{
		"binding from an unknown exchange": {
			Queues:   []driver.Queue{{Name: q}},
			Bindings: []driver.Binding{{Exchange: e, Queue: q}},
		},
		"binding to an unknown queue": {
			Exchanges: []driver.Exchange{{Name: e, Kind: driver.Direct}},
			Bindings:  []driver.Binding{{Exchange: e, Queue: q}},
		},
		"dead letter to an unknown exchange": {Queues: []driver.Queue{{Name: q, DeadLetter: &driver.Route{Exchange: e}}}},
		"dead letter to an unknown queue":    {Queues: []driver.Queue{{Name: q, DeadLetter: &driver.Route{Key: s.name("dead")}}}},
	} {
		_, err := s.conn.Declare(s.ctx, &t, false)
		s.notFound(s.caps.DeadLetter || t.Queues == nil || t.Queues[0].DeadLetter == nil, err, name)
	}
	if own := s.own(); len(own.Exchanges)+len(own.Queues) != 0 {
		s.Errorf("refused Declares left %+v behind", own)
	}
	unknown := s.name("unknown")
	r := s.request(unknown, 1)
	_, err := s.conn.Receive(s.ctx, &r)
	s.is(err, lease.ErrNotFound, "Receive from an unknown queue")
	_, err = s.conn.Stats(s.ctx, &driver.StatsRequest{Queue: unknown})
	s.notFound(s.caps.Stats, err, "Stats of an unknown queue")
	_, err = s.conn.Peek(s.ctx, &driver.PeekRequest{Queue: unknown})
	s.notFound(s.caps.Peek, err, "Peek into an unknown queue")
	_, err = s.conn.Purge(s.ctx, unknown)
	s.notFound(s.caps.Purge, err, "Purge of an unknown queue")
	_, err = s.conn.Redrive(s.ctx, &driver.RedriveRequest{Queue: unknown})
	s.notFound(s.caps.Redrive, err, "Redrive of an unknown queue")
	for name, r := range map[string]driver.DeleteRequest{
		"queue":    {Queue: unknown},
		"exchange": {Exchange: unknown},
		"binding":  {Binding: &driver.Binding{Exchange: unknown, Queue: unknown}},
	} {
		s.is(s.conn.Delete(s.ctx, &r), lease.ErrNotFound, "Delete of an unknown "+name)
	}
}

func deleteQueue(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	if !s.caps.IfEmpty {
		s.unsupported(s.conn.Delete(s.ctx, &driver.DeleteRequest{Queue: q, IfEmpty: true}), "Delete IfEmpty")
		s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Queue: q}), "Delete of a queue with a message")
		s.deleted(q)
		return
	}
	s.is(s.conn.Delete(s.ctx, &driver.DeleteRequest{Queue: q, IfEmpty: true}), driver.ErrInUse, "Delete IfEmpty of a queue with a message")
	d := s.one(q, "a")
	s.is(s.conn.Delete(s.ctx, &driver.DeleteRequest{Queue: q, IfEmpty: true}), driver.ErrInUse, "Delete IfEmpty of a queue with a message in flight")
	s.ack(d)
	s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Queue: q, IfEmpty: true}), "Delete IfEmpty of an empty queue")
	s.deleted(q)
}

// deleted asserts that a queue is gone.
func (s *suite) deleted(q string) {
	s.Helper()
	r := s.request(q, 1)
	_, err := s.conn.Receive(s.ctx, &r)
	s.is(err, lease.ErrNotFound, "Receive after Delete")
}

func deleteExchange(s *suite) {
	s.declare(s.small())
	e := s.name("e")
	s.is(s.conn.Delete(s.ctx, &driver.DeleteRequest{Exchange: e, IfUnused: true}), driver.ErrInUse, "Delete IfUnused of a bound exchange")
	s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Exchange: e}), "Delete of a bound exchange")
	if own := s.own(); len(own.Bindings) != 0 || len(own.Exchanges) != 0 {
		s.Errorf("deleting the exchange left %+v", own)
	}
}

func deleteBinding(s *suite) {
	s.declare(s.small())
	s.is(s.conn.Delete(s.ctx, &driver.DeleteRequest{Binding: &driver.Binding{Exchange: s.name("e"), Queue: s.name("q"), Key: "other"}}),
		lease.ErrNotFound, "Delete of a binding with another key")
	s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Binding: &driver.Binding{Exchange: s.name("e"), Queue: s.name("q"), Key: "a.*"}}), "Delete of a binding")
	s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Exchange: s.name("e"), IfUnused: true}), "Delete IfUnused after that")
}

func deleteAndRemake(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a", "b")
	d := s.one(q, "a")
	s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Queue: q}), "Delete")
	if out := s.try(driver.Settlement{Ref: d.Ref, Verb: driver.Ack}); out.Err == nil {
		s.Error("a delivery of a deleted queue was acked")
	}
	s.queue("q")
	s.none(q)
	s.bodies(to(q), "c")
	s.refused(d.Ref)
	s.want(q, "c")
}
