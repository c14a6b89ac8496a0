package queuetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var priorityChecks = []check{
	{"higher ones first, those of one priority in order", priorityOrder},
	{"one above the highest counts as that", priorityCapped},
	{"one that comes back keeps its place", priorityBack},
	{"an order key is refused, and the message is in no queue", priorityKey},
	{"a queue without priorities keeps the order", priorityNone},
	{"peek, statistics and purge see all priorities", priorityInspect},
	{"a dead letter keeps its priority", priorityDead},
	{"thousands of each", priorityMany},
}

// ranked declares a queue with priorities, or asserts ErrUnsupported.
func (s *suite) ranked(n string, highest uint8, change ...func(*driver.Queue)) (string, bool) {
	s.Helper()
	if s.caps.Priorities {
		return s.queue(n, append(change, func(q *driver.Queue) { q.MaxPriority = highest })...), true
	}
	_, err := s.conn.Declare(s.ctx, &driver.Topology{Queues: []driver.Queue{{Name: s.name(n), MaxPriority: highest}}}, false)
	s.unsupported(err, "MaxPriority")
	return "", false
}

func ranked(priority uint8, b string) *driver.Message {
	return &driver.Message{Priority: priority, Body: []byte(b)}
}

func priorityOrder(s *suite) {
	q, ok := s.ranked("q", driver.MaxPriority)
	if !ok {
		return
	}
	s.publish(to(q), ranked(0, "0a"), ranked(9, "9a"), ranked(5, "5a"), ranked(0, "0b"))
	s.publish(to(q), ranked(5, "5b"), ranked(9, "9b"), ranked(1, "1a"))
	s.ack(s.one(q, "9a"))
	s.publish(to(q), ranked(9, "9c"))
	s.want(q, "9b", "9c", "5a", "5b", "1a", "0a", "0b")
}

func priorityCapped(s *suite) {
	q, ok := s.ranked("q", 3)
	if !ok {
		return
	}
	s.publish(to(q), ranked(2, "2"), ranked(3, "3"), ranked(9, "9"), ranked(3, "3 again"))
	s.want(q, "3", "9", "3 again", "2")
}

func priorityBack(s *suite) {
	q, ok := s.ranked("q", 2)
	if !ok {
		return
	}
	s.publish(to(q), ranked(1, "1a"), ranked(1, "1b"), ranked(0, "0"), ranked(2, "2"))
	ds := s.receive(q, 2)
	for _, d := range ds {
		s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Release})
	}
	s.want(q, "2", "1a", "1b", "0")
}

func priorityKey(s *suite) {
	q, ok := s.ranked("q", 1)
	if !ok {
		return
	}
	plain := s.queue("plain")
	s.declare(driver.Topology{
		Exchanges: []driver.Exchange{{Name: s.name("all"), Kind: driver.Fanout}},
		Bindings:  []driver.Binding{{Exchange: s.name("all"), Queue: plain}, {Exchange: s.name("all"), Queue: q}},
	})
	rs, err := s.conn.Publish(s.ctx, []driver.Publishing{
		{Route: driver.Route{Exchange: s.name("all")}, Message: key("k", "keyed")},
		{Route: driver.Route{Exchange: s.name("all")}, Message: body("plain")},
	})
	s.must(err, "Publish")
	if s.caps.OrderKey {
		s.field(rs[0].Err, "an order key in a queue with priorities")
	} else {
		s.unsupported(rs[0].Err, "an order key")
	}
	var f *lease.FieldError
	if errors.As(rs[0].Err, &f) && f.Field != "message.order_key" {
		s.Errorf("the error names field %q", f.Field)
	}
	s.must(rs[1].Err, "the message beside it")
	s.want(q, "plain")
	s.want(plain, "plain")
}

func priorityNone(s *suite) {
	q := s.queue("q")
	s.publish(to(q), ranked(0, "a"), ranked(9, "b"), ranked(5, "c"))
	if ds := s.want(q, "a", "b", "c"); ds[1].Message.Priority != 9 {
		s.Errorf("priority 9 came as %d", ds[1].Message.Priority)
	}
}

func priorityInspect(s *suite) {
	q, ok := s.ranked("q", 2)
	if !ok {
		return
	}
	s.publish(to(q), ranked(0, "0"), ranked(1, "1"), ranked(2, "2"), ranked(0, "0 again"))
	s.one(q, "2") // stays in flight
	if s.caps.Peek {
		var got []string
		var after uint64
		for range 4 { // page by page
			ps, err := s.conn.Peek(s.ctx, &driver.PeekRequest{Queue: q, After: after, Max: 1})
			s.must(err, "Peek")
			if len(ps) != 1 {
				s.Fatalf("behind %d: %d messages", after, len(ps))
			}
			got = append(got, string(ps[0].Message.Body))
			after = ps[0].Seq
		}
		if want := []string{"2", "1", "0", "0 again"}; !slices.Equal(got, want) {
			s.Errorf("peeked %q, want %q", got, want)
		}
	}
	s.counted(q, func(st driver.QueueStats) {
		if st.Ready != 3 || st.InFlight != 1 || st.Published != 4 {
			s.Errorf("statistics %+v", st)
		}
		// Ages may come in whole milliseconds, and this takes less.
		s.until("the oldest message has an age", func() bool {
			all, err := s.conn.Stats(s.ctx, &driver.StatsRequest{Queue: q})
			s.must(err, "Stats")
			return all[0].OldestAge > 0
		})
	})
	if s.caps.Purge {
		n, err := s.conn.Purge(s.ctx, q)
		s.must(err, "Purge")
		if n != 3 {
			s.Errorf("purged %d, want 3", n)
		}
		s.publish(to(q), ranked(0, "low"), ranked(2, "high"))
		s.want(q, "high", "low")
	}
}

func priorityDead(s *suite) {
	if !s.caps.DeadLetter {
		return // there are no dead letters, see DeadLetter
	}
	dead, ok := s.ranked("dead", 9)
	if !ok {
		return
	}
	q := s.queue("q", func(spec *driver.Queue) { spec.DeadLetter = &driver.Route{Key: dead} })
	s.publish(to(q), ranked(1, "1"), ranked(8, "8"))
	for _, d := range s.receive(q, 2) {
		s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Reject})
	}
	s.want(dead, "8", "1")
}

// priorityMany: as many of each priority as a backend may keep together.
func priorityMany(s *suite) {
	q, ok := s.ranked("q", 2)
	if !ok {
		return
	}
	const n = 5000 // of each
	var ms []*driver.Message
	for i := range n {
		for _, p := range []uint8{1, 0, 2} {
			ms = append(ms, ranked(p, fmt.Sprintf("%d.%d", p, i)))
		}
	}
	for part := range slices.Chunk(ms, driver.MaxBatch) {
		s.publish(to(q), part...)
	}
	for i := 0; i < 3*n; {
		r := s.request(q, driver.MaxReceive)
		r.Wait, r.Ahead = s.h.Patience, driver.MaxReceive
		ds := s.fetch(r)
		if len(ds) == 0 {
			s.Fatalf("only %d of %d came", i, 3*n)
		}
		ss := make([]driver.Settlement, len(ds))
		for j, d := range ds {
			if want := fmt.Sprintf("%d.%d", 2-i/n, i%n); string(d.Message.Body) != want {
				s.Fatalf("message %d is %q, want %q", i, d.Message.Body, want)
			}
			ss[j] = driver.Settlement{Ref: d.Ref, Verb: driver.Ack}
			i++
		}
		out, err := s.conn.Settle(s.ctx, ss)
		s.must(err, "Settle")
		for _, o := range out {
			s.must(o.Err, "Settle: outcome")
		}
	}
	s.none(q)
}

func restartPriorities(s *suite) {
	q, ok := s.ranked("q", 2)
	if !ok {
		return
	}
	s.publish(to(q), ranked(0, "0a"), ranked(2, "2a"), ranked(1, "1a"))
	held := s.one(q, "2a")
	first := s.receiveFor(q, 1, time.Minute)[0]
	s.ack(first)
	s.restart()
	s.publish(to(q), ranked(2, "2b"), ranked(1, "1b"), ranked(0, "0b"))
	s.settle(driver.Settlement{Ref: held.Ref, Verb: driver.Release})
	s.want(q, "2a", "2b", "1b", "0a", "0b")
}
