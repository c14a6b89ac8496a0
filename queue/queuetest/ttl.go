package queuetest

import (
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var ttlChecks = []check{
	{"a message is dropped when its TTL has passed, without a receiver", ttlDrops},
	{"the shorter of message and queue counts", ttlShorter},
	{"a short TTL behind a long one", ttlBehind},
	{"what is in flight times out when it comes back", ttlInFlight},
	{"an expired message is dead-lettered, and stays there", ttlDead},
	{"a circle of dead letters does not grow", ttlCircle},
	{"a rejected message may go the same way again", ttlRetried},
	{"an expired message does not block its key", ttlKey},
	{"the TTL of what is scheduled counts from its time", ttlScheduled},
	{"a whole queue empties by itself", ttlMany},
}

// mortal declares a queue whose messages live for ttl, or asserts
// ErrUnsupported. 0: as long as each says.
func (s *suite) mortal(n string, ttl time.Duration, change ...func(*driver.Queue)) (string, bool) {
	s.Helper()
	if s.caps.MessageTTL {
		return s.queue(n, append(change, func(q *driver.Queue) { q.MessageTTL = ttl })...), true
	}
	_, err := s.conn.Declare(s.ctx, &driver.Topology{Queues: []driver.Queue{{Name: s.name(n), MessageTTL: time.Minute}}}, false)
	s.unsupported(err, "MessageTTL")
	return "", false
}

func living(ttl time.Duration, b string) *driver.Message {
	return &driver.Message{TTL: ttl, Body: []byte(b)}
}

// empties waits until so many messages are left in q.
func (s *suite) empties(q string, left int64) driver.QueueStats {
	s.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(s.h.Patience); ; <-tick.C {
		st, err := s.conn.Stats(s.ctx, &driver.StatsRequest{Queue: q})
		s.must(err, "Stats")
		if n := st[0].Ready + st[0].Delayed + st[0].InFlight; n == left {
			return st[0]
		} else if time.Now().After(end) {
			s.Fatalf("%d messages are left after %v, want %d", n, s.h.Patience, left)
		}
	}
}

func ttlDrops(s *suite) {
	q, ok := s.mortal("q", 0)
	if !ok {
		return
	}
	s.publish(to(q), living(s.unit/2, "short"), living(time.Hour, "long"), body("for ever"))
	if st := s.empties(q, 2); st.TimedOut != 1 || st.Dropped != 1 || st.Bytes != 12 {
		s.Errorf("statistics %+v", st)
	}
	s.want(q, "long", "for ever")
}

func ttlShorter(s *suite) {
	q, ok := s.mortal("q", s.unit)
	if !ok {
		return
	}
	long, _ := s.mortal("long", time.Hour)
	s.publish(to(q), living(time.Hour, "a"), body("b"))
	s.publish(to(long), living(s.unit, "c"), body("d"))
	if st := s.empties(q, 0); st.TimedOut != 2 {
		s.Errorf("%d timed out, want 2", st.TimedOut)
	}
	s.empties(long, 1)
	s.want(long, "d")
}

func ttlBehind(s *suite) {
	q, ok := s.mortal("q", 0)
	if !ok {
		return
	}
	s.publish(to(q), living(time.Hour, "a"), living(s.unit, "b"), living(s.unit, "c"), living(time.Hour, "d"))
	began := time.Now()
	for time.Since(began) <= s.unit { // what has timed out is never delivered
		r := s.request(q, 1)
		r.Wait = s.h.Patience
		ds := s.fetch(r)
		if len(ds) != 1 || string(ds[0].Message.Body) != "a" {
			s.Fatalf("got %d messages", len(ds))
		}
		s.settle(driver.Settlement{Ref: ds[0].Ref, Verb: driver.Release})
	}
	s.want(q, "a", "d")
}

func ttlInFlight(s *suite) {
	q, ok := s.mortal("q", 2*s.unit)
	if !ok {
		return
	}
	s.bodies(to(q), "a", "b", "c")
	ds := s.receiveFor(q, 3, time.Minute)
	s.bodies(to(q), "later")
	s.empties(q, 3) // "later" has timed out, and so would the others have
	s.ack(ds[0])
	s.settle(driver.Settlement{Ref: ds[1].Ref, Verb: driver.Release})
	s.settle(driver.Settlement{Ref: ds[2].Ref, Verb: driver.Nack})
	if st := s.empties(q, 0); st.TimedOut != 3 || st.Acked != 1 {
		s.Errorf("%d timed out, %d acked, want 3 and 1", st.TimedOut, st.Acked)
	}
	s.none(q)
}

func ttlDead(s *suite) {
	if !s.caps.DeadLetter {
		return // there are none, see DeadLetter
	}
	dead := s.queue("dead")
	q, ok := s.mortal("q", 0, func(spec *driver.Queue) { spec.DeadLetter = &driver.Route{Key: dead} })
	if !ok {
		return
	}
	s.publish(to(q), living(s.unit/4, "a"))
	d := s.one(dead, "a")
	h := d.Message.Headers
	if d.Message.TTL != 0 || h[driver.HeaderDeathReason] != driver.ReasonExpired || h[driver.HeaderDeathQueue] != q {
		s.Errorf("TTL %v, headers %v", d.Message.TTL, h)
	}
	s.counted(q, func(st driver.QueueStats) {
		if st.TimedOut != 1 || st.DeadLettered != 1 || st.Dropped != 0 {
			s.Errorf("statistics %+v", st)
		}
	})
}

// letters declares a fan-out exchange that leads to queues, for dead letters.
func (s *suite) letters(qs ...string) *driver.Route {
	s.Helper()
	t := driver.Topology{Exchanges: []driver.Exchange{{Name: s.name("letters"), Kind: driver.Fanout}}}
	for _, q := range qs {
		t.Bindings = append(t.Bindings, driver.Binding{Exchange: s.name("letters"), Queue: q})
	}
	s.declare(t)
	return &driver.Route{Exchange: s.name("letters")}
}

func ttlCircle(s *suite) {
	if !s.caps.DeadLetter {
		return // there are none, see DeadLetter
	}
	other := s.queue("other")
	way := s.letters(other)
	q, ok := s.mortal("q", s.unit/4, func(spec *driver.Queue) { spec.DeadLetter = way })
	if !ok {
		return
	}
	s.declare(driver.Topology{Bindings: []driver.Binding{{Exchange: way.Exchange, Queue: q}}})
	s.bodies(to(q), "a", "b")
	s.empties(q, 0) // what came back would be there for the next time
	s.want(other, "a", "b")
	s.none(other)
}

func ttlRetried(s *suite) {
	if !s.caps.DeadLetter {
		return // there are none, see DeadLetter
	}
	log := s.queue("log")
	way := s.letters(log)
	work := s.queue("work", func(spec *driver.Queue) { spec.DeadLetter = way })
	retry, ok := s.mortal("retry", s.unit/4, func(spec *driver.Queue) { spec.DeadLetter = &driver.Route{Key: work} })
	if !ok {
		return
	}
	s.declare(driver.Topology{Bindings: []driver.Binding{{Exchange: way.Exchange, Queue: retry}}})
	s.bodies(to(work), "a")
	for range 3 {
		s.settle(driver.Settlement{Ref: s.one(work, "a").Ref, Verb: driver.Reject})
		s.want(log, "a")
	}
	s.want(work, "a")
}

func ttlKey(s *suite) {
	q, ok := s.mortal("q", 0)
	if !ok || !s.orders(q) {
		return
	}
	keyed := func(b string, ttl time.Duration) *driver.Message {
		return &driver.Message{OrderKey: "k", TTL: ttl, Body: []byte(b)}
	}
	s.publish(to(q), keyed("1", 0), keyed("2", s.unit/2), keyed("3", 0))
	d := s.one(q, "1")
	s.empties(q, 2)
	s.ack(d)
	s.want(q, "3")
}

func ttlScheduled(s *suite) {
	q, ok := s.mortal("q", 0)
	if !ok || !s.caps.Delay {
		return
	}
	s.publish(to(q), &driver.Message{Body: []byte("a"), Delay: s.unit, TTL: s.unit / 2})
	r := s.request(q, 1)
	r.Wait = s.h.Patience
	if ds := s.fetch(r); len(ds) != 1 {
		s.Errorf("got %d messages", len(ds))
	}
}

func ttlMany(s *suite) {
	q, ok := s.mortal("q", s.unit)
	if !ok {
		return
	}
	const n = 20_000
	ms := make([]*driver.Message, driver.MaxBatch)
	for i := range ms {
		ms[i] = body(fmt.Sprint(i))
	}
	for range n / len(ms) {
		s.publish(to(q), ms...)
	}
	if st := s.empties(q, 0); st.TimedOut != n || st.Bytes != 0 {
		s.Errorf("statistics %+v", st)
	}
	s.none(q)
}

func restartTTL(s *suite) {
	q, ok := s.mortal("q", 0)
	if !ok {
		return
	}
	s.publish(to(q), living(s.unit, "a"), living(time.Hour, "b"), living(s.unit, "held"))
	s.restart()
	s.empties(q, 1) // with nobody who receives
	s.want(q, "b")
}
