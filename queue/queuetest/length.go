package queuetest

import (
	"errors"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var lengthChecks = []check{
	{"a full queue refuses, exactly", lengthReject},
	{"a full queue knows what it has had", lengthDuplicate},
	{"what is in flight counts", lengthInFlight},
	{"refused by one queue, in none", lengthNone},
	{"bytes are bounded too", lengthBytes},
	{"what is scheduled waits for room", lengthScheduled},
	{"dead letters wait for room", lengthDead},
	{"a redrive into a full queue leaves what has no room", lengthRedrive},
	{"drop_head drops the oldest", lengthDrop},
	{"drop_head leaves what is in flight", lengthDropInFlight},
	{"drop_head dead-letters", lengthDropDead},
	{"drop_head drops the lowest priority", lengthDropPriority},
}

// bounded declares a queue with bounds, or asserts ErrUnsupported.
func (s *suite) bounded(n string, change func(*driver.Queue)) (string, bool) {
	s.Helper()
	if s.caps.MaxLength {
		return s.queue(n, change), true
	}
	q := driver.Queue{Name: s.name(n)}
	change(&q)
	if q.DeadLetter != nil && !s.caps.DeadLetter {
		q.DeadLetter = nil
	}
	_, err := s.conn.Declare(s.ctx, &driver.Topology{Queues: []driver.Queue{q}}, false)
	s.unsupported(err, "MaxLength")
	return "", false
}

func longest(n int64) func(*driver.Queue) { return func(q *driver.Queue) { q.MaxLength = n } }
func dropping(n int64) func(*driver.Queue) {
	return func(q *driver.Queue) { q.MaxLength, q.Overflow = n, driver.DropHead }
}

// outcomes publishes a message for each body in one batch, and asserts for
// which of them there was no room.
func (s *suite) outcomes(q string, refused []string, bs ...string) {
	s.Helper()
	ms := make([]*driver.Message, len(bs))
	for i, b := range bs {
		ms[i] = body(b)
	}
	for i, r := range s.send(s.caps.Mandatory, to(q), ms...) {
		if full := errors.Is(r.Err, driver.ErrQueueFull); full != slices.Contains(refused, bs[i]) || !full && r.Err != nil {
			s.Errorf("receipt of %q: %+v", bs[i], r)
		}
	}
}

func lengthReject(s *suite) {
	q, ok := s.bounded("q", longest(2))
	if !ok {
		return
	}
	s.outcomes(q, []string{"c", "d"}, "a", "b", "c", "d")
	s.outcomes(q, []string{"e"}, "e")
	s.counted(q, func(st driver.QueueStats) {
		if st.Refused != 3 || st.Ready != 2 || st.Published != 2 {
			s.Errorf("statistics %+v", st)
		}
	})
	s.ack(s.one(q, "a"))
	s.outcomes(q, []string{"g"}, "f", "g")
	s.want(q, "b", "f")
}

func lengthDuplicate(s *suite) {
	q, ok := s.bounded("q", func(q *driver.Queue) {
		q.MaxLength = 1
		if s.caps.Dedup {
			q.DedupWindow = time.Hour
		}
	})
	if !ok || !s.caps.Dedup {
		return // see Dedup
	}
	s.receipt(s.publish(to(q), id("1", "a"))[0], 1, false)
	rs := s.send(s.caps.Mandatory, to(q), id("2", "b"), id("1", "a"))
	s.is(rs[0].Err, driver.ErrQueueFull, "a new one")
	s.receipt(rs[1], 1, true)
	s.want(q, "a")
	s.receipt(s.publish(to(q), id("2", "b"))[0], 1, false) // what was refused is not remembered
	s.counted(q, func(st driver.QueueStats) {
		if st.Refused != 1 || st.Duplicates != 1 || st.Published != 2 {
			s.Errorf("statistics %+v", st)
		}
	})
}

func lengthInFlight(s *suite) {
	q, ok := s.bounded("q", longest(1))
	if !ok {
		return
	}
	s.outcomes(q, nil, "a")
	d := s.one(q, "a")
	s.outcomes(q, []string{"b"}, "b")
	s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Release})
	s.outcomes(q, []string{"c"}, "c")
	s.ack(s.one(q, "a"))
	s.outcomes(q, nil, "d")
	s.want(q, "d")
}

func lengthNone(s *suite) {
	q, ok := s.bounded("q", longest(1))
	if !ok {
		return
	}
	plain := s.queue("plain")
	all := driver.Route{Exchange: s.name("all")}
	s.declare(driver.Topology{
		Exchanges: []driver.Exchange{{Name: all.Exchange, Kind: driver.Fanout}},
		Bindings:  []driver.Binding{{Exchange: all.Exchange, Queue: plain}, {Exchange: all.Exchange, Queue: q}},
	})
	rs := s.send(false, all, body("a"), body("b"))
	s.must(rs[0].Err, "the first")
	s.is(rs[1].Err, driver.ErrQueueFull, "the second")
	s.want(plain, "a")
	s.want(q, "a")
}

func lengthBytes(s *suite) {
	q, ok := s.bounded("q", func(q *driver.Queue) { q.MaxBytes = 10 })
	if !ok {
		return
	}
	s.outcomes(q, []string{"no room"}, "123456", "no room", "7890")
	rs := s.send(s.caps.Mandatory, to(q), body("12345678901"), &driver.Message{Body: []byte("12345678901"), Delay: delay(s, time.Hour)})
	for _, r := range rs {
		s.is(r.Err, lease.ErrLimit, "a message larger than the queue may ever hold")
	}
	s.want(q, "123456", "7890")
	s.outcomes(q, nil, "1234567890")
	s.want(q, "1234567890")
}

// delay is d where there are delays.
func delay(s *suite, d time.Duration) time.Duration {
	if s.caps.Delay {
		return d
	}
	return 0
}

func lengthScheduled(s *suite) {
	q, ok := s.bounded("q", longest(1))
	if !ok || !s.caps.Delay {
		return
	}
	s.outcomes(q, nil, "a")
	s.publish(to(q), &driver.Message{Body: []byte("soon"), Delay: time.Millisecond}, &driver.Message{Body: []byte("later"), Delay: time.Hour})
	d := s.one(q, "a") // until here at least one round has gone by
	s.none(q)
	s.ack(d)
	d = s.one(q, "soon")
	s.none(q)
	s.ack(d)
	s.outcomes(q, nil, "b")
	s.want(q, "b")
}

func lengthDead(s *suite) {
	if !s.caps.DeadLetter {
		return // there are none, see DeadLetter
	}
	dead, ok := s.bounded("dead", longest(1))
	if !ok {
		return
	}
	q := s.queue("q", func(spec *driver.Queue) { spec.DeadLetter, spec.DeliveryLimit = &driver.Route{Key: dead}, 1 })
	s.bodies(to(q), "a", "b")
	ds := s.receive(q, 2)
	for i, d := range ds {
		if out := s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Nack}); out.DeadLettered != (i == 0) {
			s.Errorf("message %d is dead-lettered: %v", i, out.DeadLettered)
		}
	}
	d := s.one(dead, "a")
	s.none(dead)
	s.ack(d)
	s.ack(s.one(dead, "b")) // and it was never delivered meanwhile
	s.none(q)
}

func lengthRedrive(s *suite) {
	if !s.caps.DeadLetter || !s.caps.Redrive {
		return // see DeadLetter
	}
	dead := s.queue("dead")
	q, ok := s.bounded("q", func(spec *driver.Queue) { spec.DeadLetter, spec.MaxLength = &driver.Route{Key: dead}, 2 })
	if !ok {
		return
	}
	s.outcomes(q, nil, "a", "b")
	for _, d := range s.receive(q, 2) {
		s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Reject})
	}
	s.outcomes(q, nil, "c")
	n, err := s.conn.Redrive(s.ctx, &driver.RedriveRequest{Queue: dead})
	s.must(err, "Redrive")
	if n != 1 {
		s.Errorf("moved %d, want 1", n)
	}
	s.want(q, "c", "a")
	s.want(dead, "b")
}

func lengthDrop(s *suite) {
	q, ok := s.bounded("q", dropping(3))
	if !ok {
		return
	}
	s.outcomes(q, nil, "a", "b", "c", "d")
	s.outcomes(q, nil, "e")
	s.counted(q, func(st driver.QueueStats) {
		if st.Ready != 3 || st.Overflowed != 2 || st.Dropped != 2 || st.Published != 5 || st.Bytes != 3 {
			s.Errorf("statistics %+v", st)
		}
	})
	s.want(q, "c", "d", "e")
	s.outcomes(q, nil, "1", "2", "3", "4", "5", "6", "7", "8") // more than the bound in one batch
	s.want(q, "6", "7", "8")
}

func lengthDropInFlight(s *suite) {
	q, ok := s.bounded("q", dropping(2))
	if !ok {
		return
	}
	s.outcomes(q, nil, "a", "b")
	held := s.one(q, "a")
	s.outcomes(q, nil, "c")
	other := s.one(q, "c")
	s.outcomes(q, nil, "d") // all the others are in flight
	s.none(q)
	s.settle(driver.Settlement{Ref: held.Ref, Verb: driver.Release}) // it is back, and the oldest
	s.outcomes(q, nil, "e")
	s.settle(driver.Settlement{Ref: other.Ref, Verb: driver.Release})
	s.want(q, "c", "e")
}

func lengthDropDead(s *suite) {
	if !s.caps.DeadLetter {
		return // there are none, see DeadLetter
	}
	dead := s.queue("dead")
	q, ok := s.bounded("q", func(spec *driver.Queue) {
		spec.DeadLetter = &driver.Route{Key: dead}
		dropping(2)(spec)
	})
	if !ok {
		return
	}
	s.outcomes(q, nil, "a")
	s.outcomes(q, nil, "b", "c", "d", "e")
	for _, d := range s.want(dead, "a", "b", "c") {
		h := d.Message.Headers
		if h[driver.HeaderDeathReason] != driver.ReasonMaxLength || h[driver.HeaderDeathQueue] != q || h[driver.HeaderOriginalKey] != q {
			s.Errorf("the story of %q is %v", d.Message.Body, h)
		}
	}
	s.counted(q, func(st driver.QueueStats) {
		if st.Overflowed != 3 || st.DeadLettered != 3 || st.Dropped != 0 {
			s.Errorf("statistics %+v", st)
		}
	})
	s.want(q, "d", "e")
}

func lengthDropPriority(s *suite) {
	if !s.caps.Priorities {
		return // see Priority
	}
	q, ok := s.bounded("q", func(spec *driver.Queue) {
		spec.MaxPriority = 2
		dropping(3)(spec)
	})
	if !ok {
		return
	}
	s.publish(to(q), ranked(1, "1a"), ranked(0, "0a"), ranked(2, "2a"), ranked(1, "1b"), ranked(0, "0b"))
	s.publish(to(q), ranked(2, "2b"))
	s.want(q, "2a", "2b", "1b")
}

func restartLength(s *suite) {
	q, ok := s.bounded("q", longest(2))
	if !ok {
		return
	}
	drop, _ := s.bounded("drop", dropping(2))
	s.outcomes(q, nil, "a", "b")
	s.outcomes(drop, nil, "a", "b")
	s.restart()
	s.outcomes(q, []string{"c"}, "c")
	s.outcomes(drop, nil, "c")
	s.want(q, "a", "b")
	s.want(drop, "b", "c")
}
