package queuetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var consumerChecks = []check{
	{"what comes at once is split evenly among those who wait", fairSplit},
	{"who asks for little leaves the rest to the others", fairRest},
	{"consumers take turns, not their receives", fairTurns},
	{"Detach ends the consumer's receives", detachReceives},
	{"single active: the first to come gets everything", singleFirst},
	{"single active: the next waits for what is in flight", singleInFlight},
	{"single active: what is handed back comes first", singleOrder},
	{"single active: a silent consumer is gone after the queue's lease", singleSilent},
	{"single active: a waiting receive or a delivery is no silence", singleBusy},
	{"auto-delete: with the last consumer", autoDelete},
	{"auto-delete: not before deliveries are settled", autoDeleteInFlight},
	{"auto-delete: a silent consumer is gone after the queue's lease", autoDeleteSilent},
	{"expires: after its time without consumers", expiresUnused},
	{"expires: not while it is used or declared again", expiresUsed},
	{"exclusive: others are refused", exclusiveRefuses},
	{"exclusive: deleted with its connection", exclusiveCloses},
}

// can declares a queue that needs a power and returns its name; ok is false
// where the backend lacks it, which it then has to say.
func (s *suite) can(has bool, change func(*driver.Queue)) (q string, ok bool) {
	s.Helper()
	if has {
		return s.queue("q", change), true
	}
	spec := driver.Queue{Name: s.name("q")}
	change(&spec)
	_, err := s.conn.Declare(s.ctx, &driver.Topology{Queues: []driver.Queue{spec}}, false)
	s.unsupported(err, "Declare")
	return "", false
}

// as receives as some consumer what there is now.
func (s *suite) as(consumer, q string, most int) []driver.Delivery {
	s.Helper()
	r := s.request(q, most)
	r.Consumer = consumer
	return s.fetch(r)
}

// noneFor asserts that there is nothing for that consumer now.
func (s *suite) noneFor(consumer, q string) {
	s.Helper()
	if ds := s.as(consumer, q, 10); len(ds) > 0 {
		s.Fatalf("consumer %s got %d messages, want none; the first is %q", consumer, len(ds), ds[0].Message.Body)
	}
}

// oneFor waits for one message of that consumer.
func (s *suite) oneFor(consumer, q, want string) driver.Delivery {
	s.Helper()
	r := s.request(q, 1)
	r.Consumer, r.Wait = consumer, s.h.Patience
	ds := s.fetch(r)
	if len(ds) != 1 || string(ds[0].Message.Body) != want {
		s.Fatalf("consumer %s got %+v, want one message %q", consumer, ds, want)
	}
	return ds[0]
}

// waiting begins a receive that waits; what it gets comes on the channel.
func (s *suite) waiting(consumer, q string, most int) <-chan []driver.Delivery {
	got := make(chan []driver.Delivery, 1)
	go func() {
		r := s.request(q, most)
		r.Consumer, r.Wait = consumer, s.h.Patience
		ds, err := s.conn.Receive(s.ctx, &r)
		if err != nil && !errors.Is(err, lease.ErrNotFound) {
			s.Errorf("Receive of consumer %s: %v", consumer, err)
		}
		got <- ds
	}()
	return got
}

// waits returns when that many receives wait at the queue. That consumers have
// come is not enough: between two looks of one receive nobody waits.
func (s *suite) waits(q string, receives int) {
	s.Helper()
	s.until(fmt.Sprintf("%d receives wait at %s", receives, q), func() bool {
		st, err := s.conn.Stats(s.ctx, &driver.StatsRequest{Queue: q})
		s.must(err, "Stats")
		return st[0].Waiting == receives
	})
}

// until polls a condition.
func (s *suite) until(what string, is func() bool) {
	s.Helper()
	end := time.Now().Add(s.h.Patience)
	for !is() {
		if time.Now().After(end) {
			s.Fatalf("after %v it is not yet that %s", s.h.Patience, what)
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // the backend may be another process: there is no event
	}
}

// has reports whether a queue is there.
func (s *suite) has(q string) bool {
	s.Helper()
	for _, spec := range s.own().Queues {
		if spec.Name == q {
			return true
		}
	}
	return false
}

// goes waits until a queue is gone, and asserts that it is so for everyone.
func (s *suite) goes(q string) {
	s.Helper()
	s.until(q+" is gone", func() bool { return !s.has(q) })
	r := s.request(q, 1)
	_, err := s.conn.Receive(s.ctx, &r)
	s.is(err, lease.ErrNotFound, "Receive from a queue that is gone")
	for _, b := range s.own().Bindings {
		if b.Queue == q {
			s.Errorf("the queue is gone, and its binding %+v is not", b)
		}
	}
}

// notBefore asserts that something took that long.
func (s *suite) notBefore(what string, since time.Time, d time.Duration) {
	s.Helper()
	if took := time.Since(since); took < d*9/10 {
		s.Errorf("%s after %v, want %v at least", what, took, d)
	}
}

// pass lets time go by.
func (s *suite) pass(q string, d time.Duration) {
	s.Helper()
	r := s.request(q, 1)
	r.Wait = d
	if ds := s.fetch(r); len(ds) > 0 {
		s.Fatalf("got %d messages from %s, want none", len(ds), q)
	}
}

func numbers(n int) (bs []string) {
	for i := range n {
		bs = append(bs, fmt.Sprint(i))
	}
	return bs
}

func fairSplit(s *suite) {
	if !s.caps.FairDispatch || !s.caps.Stats {
		return // nothing is promised, or it cannot be seen who waits
	}
	q := s.queue("q")
	var got []<-chan []driver.Delivery
	for i := range 3 {
		got = append(got, s.waiting(fmt.Sprint("c", i), q, 100))
	}
	s.waits(q, 3)
	s.bodies(to(q), numbers(31)...)
	total := 0
	for i := range got {
		ds := <-got[i]
		if total += len(ds); len(ds) != 10 && len(ds) != 11 {
			s.Errorf("consumer %d of 3 got %d of 31 messages, want 10 or 11", i, len(ds))
		}
		for k := 1; k < len(ds); k++ {
			if ds[k].Seq <= ds[k-1].Seq {
				s.Errorf("consumer %d got message %d after %d", i, ds[k].Seq, ds[k-1].Seq)
			}
		}
	}
	if total != 31 {
		s.Errorf("together they got %d of 31 messages", total)
	}
}

func fairRest(s *suite) {
	if !s.caps.FairDispatch || !s.caps.Stats {
		return
	}
	q := s.queue("q")
	little, much := s.waiting("little", q, 2), s.waiting("much", q, 100)
	s.waits(q, 2)
	s.bodies(to(q), numbers(10)...)
	if l, m := len(<-little), len(<-much); l != 2 || m != 8 {
		s.Errorf("who asked for 2 got %d, who asked for 100 got %d of 10 messages", l, m)
	}
}

func fairTurns(s *suite) {
	if !s.caps.FairDispatch || !s.caps.Stats {
		return
	}
	q := s.queue("q")
	var many []<-chan []driver.Delivery
	for range 4 {
		many = append(many, s.waiting("many", q, 1))
	}
	s.waits(q, 4)
	one := s.waiting("one", q, 1)
	s.waits(q, 5)
	s.bodies(to(q), numbers(2)...)
	if n := len(<-one); n != 1 {
		s.Errorf("the consumer with one receive got %d messages, want 1", n)
	}
	s.bodies(to(q), numbers(3)...)
	for _, got := range many {
		if n := len(<-got); n != 1 {
			s.Errorf("a receive of the consumer with four got %d messages, want 1", n)
		}
	}
}

func detachReceives(s *suite) {
	if !s.caps.Stats {
		return // it cannot be seen who waits
	}
	q := s.queue("q")
	got := s.waiting("leaves", q, 1)
	s.waits(q, 1)
	began := time.Now()
	s.must(s.conn.Detach(s.ctx, q, "leaves"), "Detach")
	if ds := <-got; len(ds) != 0 || time.Since(began) > s.h.Patience/2 {
		s.Errorf("its receive returned %d messages after %v", len(ds), time.Since(began))
	}
	s.waits(q, 0)
	s.bodies(to(q), "a")
	s.want(q, "a")
}

func singleActive(q *driver.Queue) { q.SingleActive = true }

func singleFirst(s *suite) {
	q, ok := s.can(s.caps.SingleActive, singleActive)
	if !ok {
		return
	}
	s.noneFor("a", q)
	s.bodies(to(q), "1", "2", "3")
	s.noneFor("b", q)
	s.counted(q, func(st driver.QueueStats) {
		if st.Active != "a" {
			s.Errorf("the statistics say that %q is active, want a", st.Active)
		}
	})
	for _, want := range []string{"1", "2"} {
		s.ack(s.oneFor("a", q, want))
		s.noneFor("b", q)
	}
	s.must(s.conn.Detach(s.ctx, q, "a"), "Detach")
	d := s.oneFor("b", q, "3")
	s.noneFor("a", q)
	s.ack(d)
	s.bodies(to(q), "4")
	s.noneFor("a", q) // it lost its place
	s.ack(s.oneFor("b", q, "4"))
}

func singleInFlight(s *suite) {
	q, ok := s.can(s.caps.SingleActive, singleActive)
	if !ok {
		return
	}
	s.bodies(to(q), "1", "2", "3")
	first, second := s.oneFor("a", q, "1"), s.oneFor("a", q, "2")
	s.must(s.conn.Detach(s.ctx, q, "a"), "Detach")
	s.noneFor("b", q)
	s.ack(first)
	s.noneFor("b", q)
	s.ack(second)
	s.ack(s.oneFor("b", q, "3"))
}

func singleOrder(s *suite) {
	q, ok := s.can(s.caps.SingleActive, singleActive)
	if !ok {
		return
	}
	s.bodies(to(q), "1", "2", "3")
	d := s.oneFor("a", q, "1")
	s.must(s.conn.Detach(s.ctx, q, "a"), "Detach")
	got := s.waiting("b", q, 1)
	if s.caps.Stats {
		s.waits(q, 1)
	}
	s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Release})
	ds := <-got
	if len(ds) != 1 || string(ds[0].Message.Body) != "1" {
		s.Fatalf("the next consumer got %+v first, want message 1", ds)
	}
	s.ack(ds[0])
	s.ack(s.oneFor("b", q, "2"))
	s.ack(s.oneFor("b", q, "3"))
}

func singleSilent(s *suite) {
	q, ok := s.can(s.caps.SingleActive, func(q *driver.Queue) { q.SingleActive, q.Lease = true, s.unit })
	if !ok {
		return
	}
	began := time.Now()
	s.noneFor("a", q)
	s.bodies(to(q), "1")
	s.ack(s.oneFor("b", q, "1"))
	s.notBefore("the second consumer was active", began, s.unit)
}

func singleBusy(s *suite) {
	q, ok := s.can(s.caps.SingleActive, func(q *driver.Queue) { q.SingleActive, q.Lease = true, s.unit })
	if !ok {
		return
	}
	s.bodies(to(q), "1", "2")
	r := s.request(q, 1)
	r.Consumer, r.Lease = "a", max(time.Minute, s.caps.MinLease)
	d := s.fetch(r)[0]
	s.pass(s.queue("clock"), 2*s.unit)
	s.noneFor("b", q)
	s.ack(d)
	s.ack(s.oneFor("a", q, "2"))
	// The last one was acked; from here on a receive waits.
	got := s.waiting("a", q, 1)
	s.pass(s.queue("clock"), 2*s.unit)
	s.bodies(to(q), "3")
	if ds := <-got; len(ds) != 1 {
		s.Errorf("the active consumer, which waited, got %d messages", len(ds))
	}
}

func autoDelete(s *suite) {
	q, ok := s.can(s.caps.AutoDelete, func(q *driver.Queue) { q.AutoDelete = true })
	if !ok {
		return
	}
	s.declare(driver.Topology{
		Exchanges: []driver.Exchange{{Name: s.name("e"), Kind: driver.Fanout}},
		Bindings:  []driver.Binding{{Exchange: s.name("e"), Queue: q}},
	})
	s.bodies(to(q), "a")
	s.must(s.conn.Detach(s.ctx, q, "nobody"), "Detach")
	if !s.has(q) {
		s.Fatal("it was deleted before it had a consumer")
	}
	d := s.as("a", q, 1)[0]
	s.noneFor("b", q)
	s.ack(d)
	s.must(s.conn.Detach(s.ctx, q, "a"), "Detach")
	s.bodies(driver.Route{Exchange: s.name("e")}, "b")
	if !s.has(q) {
		s.Fatal("it was deleted before its last consumer left")
	}
	s.must(s.conn.Detach(s.ctx, q, "b"), "Detach of the last")
	s.goes(q)
}

func autoDeleteInFlight(s *suite) {
	q, ok := s.can(s.caps.AutoDelete, func(q *driver.Queue) { q.AutoDelete = true })
	if !ok {
		return
	}
	s.bodies(to(q), "a", "b")
	ds := s.as("a", q, 2)
	s.must(s.conn.Detach(s.ctx, q, "a"), "Detach")
	s.ack(ds[0])
	s.ack(ds[1])
	s.goes(q)
}

func autoDeleteSilent(s *suite) {
	q, ok := s.can(s.caps.AutoDelete, func(q *driver.Queue) { q.AutoDelete, q.Lease = true, s.unit })
	if !ok {
		return
	}
	began := time.Now()
	s.noneFor("a", q)
	s.goes(q)
	s.notBefore("it was deleted", began, s.unit)
}

// shortExpiry is long enough that it does not pass between two calls.
const shortExpiry = 1500 * time.Millisecond

func expiresUnused(s *suite) {
	began := time.Now()
	q, ok := s.can(s.caps.QueueTTL, func(q *driver.Queue) { q.Expires = shortExpiry })
	if !ok {
		return
	}
	s.bodies(to(q), "a") // messages do not keep it
	s.goes(q)
	s.notBefore("it was deleted", began, shortExpiry)
}

func expiresUsed(s *suite) {
	if !s.caps.QueueTTL {
		return // refused, see above
	}
	short := max(s.unit, s.caps.MinLease)
	change := func(q *driver.Queue) { q.Expires, q.Lease = shortExpiry, short }
	q := s.queue("q", change)
	s.pass(q, shortExpiry*5/4) // a receive that waits
	if !s.has(q) {
		s.Fatal("it was deleted while a receive waited")
	}
	clock := s.queue("clock")
	for range 4 {
		s.pass(clock, shortExpiry/4)
		s.queue("q", change)
	}
	began := time.Now()
	s.goes(q)
	s.notBefore("it was deleted", began, shortExpiry)
}

// exclusive declares a queue that belongs to a connection of its own; ok is
// false where the backend lacks that.
func (s *suite) exclusive() (q string, owner driver.Conn, ok bool) {
	s.Helper()
	if !s.caps.Exclusive {
		s.can(false, func(q *driver.Queue) { q.Exclusive = true })
		return "", nil, false
	}
	q, owner = s.name("exclusive"), s.h.Open(s.T)
	_, err := owner.Declare(s.ctx, &driver.Topology{Queues: []driver.Queue{{Name: q, Exclusive: true}}}, false)
	s.must(err, "Declare of an exclusive queue")
	return q, owner, true
}

func exclusiveRefuses(s *suite) {
	q, owner, ok := s.exclusive()
	if !ok {
		return
	}
	s.declare(driver.Topology{Exchanges: []driver.Exchange{{Name: s.name("e"), Kind: driver.Fanout}}})
	spec := driver.Topology{Queues: []driver.Queue{{Name: q, Exclusive: true}}}
	bind := driver.Topology{Bindings: []driver.Binding{{Exchange: s.name("e"), Queue: q}}}
	r := s.request(q, 1)
	for what, call := range map[string]func(c driver.Conn) error{
		"Receive": func(c driver.Conn) error { _, err := c.Receive(s.ctx, &r); return err },
		"Declare": func(c driver.Conn) error { _, err := c.Declare(s.ctx, &spec, false); return err },
		"bind":    func(c driver.Conn) error { _, err := c.Declare(s.ctx, &bind, false); return err },
		"unbind": func(c driver.Conn) error {
			_, err := owner.Declare(s.ctx, &bind, false)
			s.must(err, "Declare of a binding by the owner")
			return c.Delete(s.ctx, &driver.DeleteRequest{Binding: &bind.Bindings[0]})
		},
		"Detach":  func(c driver.Conn) error { return c.Detach(s.ctx, q, "suite") },
		"Purge":   func(c driver.Conn) error { _, err := c.Purge(s.ctx, q); return err },
		"Redrive": func(c driver.Conn) error { _, err := c.Redrive(s.ctx, &driver.RedriveRequest{Queue: q}); return err },
	} {
		s.is(call(s.conn), driver.ErrExclusive, what+" by another connection")
		s.must(call(owner), what+" by its own")
	}
	s.is(s.conn.Delete(s.ctx, &driver.DeleteRequest{Queue: q}), driver.ErrExclusive, "Delete by another connection")
	s.bodies(to(q), "published by others")
	ds, err := owner.Receive(s.ctx, &r)
	s.must(err, "Receive by its own")
	if len(ds) != 1 {
		s.Fatalf("its own connection got %d messages", len(ds))
	}
	s.settle(driver.Settlement{Ref: ds[0].Ref, Verb: driver.Ack}) // whoever has its token
	s.must(owner.Delete(s.ctx, &driver.DeleteRequest{Queue: q}), "Delete by its own")
	s.must(owner.Close(), "Close")
}

func exclusiveCloses(s *suite) {
	q, owner, ok := s.exclusive()
	if !ok {
		return
	}
	s.bodies(to(q), "a")
	kept := s.queue("kept")
	s.must(owner.Close(), "Close of its connection")
	s.goes(q)
	if !s.has(kept) {
		s.Error("another queue went with it")
	}
	s.queue("exclusive") // the name is free again
	s.none(q)
}
