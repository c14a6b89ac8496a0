package queuetest

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var restartChecks = []check{
	{"topology and confirmed messages survive", restartMessages},
	{"acks survive", restartAcks},
	{"a delivery in flight stays its holder's", restartInFlight},
	{"a delivery in flight ends with its lease", restartExpires},
	{"a late ack from before is refused after redelivery", restartLate},
	{"attempts and their delays survive", restartAttempts},
	{"tokens go on growing", restartTokens},
	{"schedules survive", restartDelay},
	{"a cancelled schedule stays cancelled", restartCancel},
	{"priorities survive", restartPriorities},
	{"each tick of a schedule comes once", restartSchedule},
	{"a stream, its numbers and its offsets survive", restartStream},
	{"bounds survive", restartLength},
	{"TTLs go on", restartTTL},
	{"dedup survives", restartDedup},
	{"dead letters survive", restartDeadLetter},
	{"a key is not run twice at once", restartKey},
	{"bindings between exchanges and alternates survive", restartExchanges},
	{"what was committed stays, and its ID is known", restartCommit},
	{"the active consumer stays with its deliveries", restartSingleActive},
	{"the time of a queue that expires begins anew", restartQueueTTL},
	{"an auto-delete queue goes when it has had consumers", restartAutoDelete},
	{"an exclusive queue does not survive", restartExclusive},
}

func restartMessages(s *suite) {
	s.declare(s.small())
	before := s.own()
	q := s.queue("kept")
	var all []string
	for i := range 100 {
		all = append(all, fmt.Sprint(i))
	}
	s.bodies(to(q), all...)
	s.restart()
	s.want(q, all...)
	for _, want := range before.Queues {
		found := false
		for _, got := range s.own().Queues {
			found = found || reflect.DeepEqual(got, want)
		}
		if !found {
			s.Errorf("queue %+v is gone", want)
		}
	}
	if got := s.own(); !reflect.DeepEqual(got.Bindings, before.Bindings) || !reflect.DeepEqual(got.Exchanges, before.Exchanges) {
		s.Errorf("after the restart %+v, want %+v", got, before)
	}
}

func restartExchanges(s *suite) {
	es, qs, ok := s.exchanges(map[int]int{0: 1}, driver.Direct, driver.Fanout, driver.Fanout)
	if !ok || !s.link(driver.Binding{Exchange: es[1], ToExchange: es[2]}, driver.Binding{Exchange: es[2], ToExchange: es[0]}) {
		return
	}
	before := s.own()
	s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Binding: &driver.Binding{Exchange: es[2], ToExchange: es[0]}}), "Delete of a binding")
	s.restart()
	s.reachesOnly("after a restart", driver.Route{Exchange: es[0], Key: "other"}, qs, 1, 2)
	s.link(driver.Binding{Exchange: es[2], ToExchange: es[0]})
	if got := s.own(); !reflect.DeepEqual(got, before) {
		s.Errorf("after the restart %+v, want %+v", got, before)
	}
	s.is(s.conn.Delete(s.ctx, &driver.DeleteRequest{Exchange: es[1]}), driver.ErrInUse, "Delete of an alternate after a restart")
}

func restartAcks(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a", "b", "c")
	ds := s.receive(q, 2)
	s.ack(ds[1])
	s.ack(ds[0])
	s.restart()
	s.want(q, "c")
	s.refused(ds[0].Ref)
}

func restartInFlight(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a", "b")
	d := s.one(q, "a")
	s.restart()
	s.ack(s.one(q, "b"))
	s.none(q)
	s.ack(d)
	s.none(q)
}

func restartExpires(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	began := time.Now()
	d := s.receiveFor(q, 1, s.unit)[0]
	s.restart()
	again := s.one(q, "a")
	if took := time.Since(began); took < s.unit*9/10 {
		s.Errorf("a lease of %v ended after %v", s.unit, took)
	}
	if again.Attempt != 2 || again.Token <= d.Token {
		s.Errorf("first %+v, then %+v", d, again)
	}
	s.refused(d.Ref)
	s.ack(again)
}

func restartLate(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	first := s.receiveFor(q, 1, s.unit)[0]
	second := s.one(q, "a")
	s.restart()
	s.refused(first.Ref)
	s.none(q)
	s.settle(driver.Settlement{Ref: second.Ref, Verb: driver.Release})
	s.restart()
	s.refused(first.Ref)
	s.refused(second.Ref)
	s.ack(s.one(q, "a"))
	s.restart()
	s.refused(second.Ref)
	s.none(q)
}

func restartAttempts(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	s.settle(driver.Settlement{Ref: s.one(q, "a").Ref, Verb: driver.Nack})
	s.settle(driver.Settlement{Ref: s.one(q, "a").Ref, Verb: driver.Nack})
	s.restart()
	d := s.one(q, "a")
	if d.Attempt != 3 {
		s.Errorf("after two failures and a restart it is attempt %d", d.Attempt)
	}
	if !s.caps.DelayedNack {
		s.unsupported(s.try(driver.Settlement{Ref: d.Ref, Verb: driver.Nack, Delay: time.Hour}).Err, "a nack with a delay")
		return
	}
	s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Nack, Delay: time.Hour})
	s.restart()
	s.none(q)
	s.counted(q, func(st driver.QueueStats) {
		if st.Delayed != 1 {
			s.Errorf("%d are delayed, want 1", st.Delayed)
		}
	})
}

func restartTokens(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	d := s.one(q, "a")
	for range 3 {
		s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Release})
		s.restart()
		next := s.one(q, "a")
		if next.Token <= d.Token {
			s.Fatalf("token %d after %d", next.Token, d.Token)
		}
		d = next
	}
}

func restartDelay(s *suite) {
	q := s.queue("q")
	if !s.delays(q) {
		return
	}
	began := time.Now()
	const delay = 500 * time.Millisecond
	s.publish(to(q), &driver.Message{Body: []byte("soon"), Delay: delay})
	s.publish(to(q), &driver.Message{Body: []byte("late"), Delay: time.Hour})
	s.restart()
	s.ack(s.one(q, "soon"))
	if took := time.Since(began); took < delay*9/10 {
		s.Errorf("a delay of %v ended after %v", delay, took)
	}
	s.none(q)
}

func restartDedup(s *suite) {
	if !s.dedups() {
		return
	}
	q := s.queue("q", dedupHour)
	s.publish(to(q), id("1", "a"), id("2", "b"))
	s.ack(s.one(q, "a"))
	s.restart()
	for i, r := range s.publish(to(q), id("1", "again"), id("2", "again"), id("3", "c")) {
		s.receipt(r, 1, i < 2)
	}
	s.want(q, "b", "c")
}

func restartDeadLetter(s *suite) {
	q, dead, ok := s.pair()
	if !ok {
		return
	}
	s.bodies(to(q), "a")
	s.kill(q, "a", "why")
	s.restart()
	s.none(q)
	if d := s.one(dead, "a"); d.Message.Headers[driver.HeaderDeathDetail] != "why" {
		s.Errorf("the dead letter has the headers %v", d.Message.Headers)
	}
}

func restartKey(s *suite) {
	q := s.queue("q")
	if !s.orders(q) {
		return
	}
	s.publish(to(q), key("k", "1"), key("k", "2"), key("l", "3"))
	d := s.one(q, "1")
	s.restart()
	s.ack(s.one(q, "3"))
	s.none(q) // 1 is being handled, and 2 waits for it
	s.ack(d)
	s.ack(s.one(q, "2"))
	s.none(q)
}

func restartCancel(s *suite) {
	q := s.queue("q")
	if !s.cancels(q) {
		return
	}
	later := func(id string, d time.Duration) *driver.Message {
		return &driver.Message{ID: id, Body: []byte(id), Delay: d}
	}
	s.publish(to(q), later("before", s.unit), later("after", 2*s.unit), later("stays", 3*s.unit))
	s.must(s.conn.CancelScheduled(s.ctx, q, "before"), "CancelScheduled")
	s.restart()
	s.is(s.conn.CancelScheduled(s.ctx, q, "before"), lease.ErrNotFound, "CancelScheduled of what was cancelled")
	if err := s.conn.CancelScheduled(s.ctx, q, "after"); errors.Is(err, lease.ErrNotFound) {
		s.want(q, "after", "stays") // the restart took so long
		return
	} else if err != nil {
		s.Fatalf("CancelScheduled: %v", err)
	}
	s.want(q, "stays")
}

func restartCommit(s *suite) {
	if !s.commits() {
		return
	}
	in, out := s.queue("in"), s.queue("out")
	s.bodies(to(in), "1", "2")
	ds := s.receive(in, 2)
	done, free := s.transfer(s.name("done"), ds[0], out), s.transfer(s.name("free"), ds[1], out)
	first := s.commit(done)
	s.restart()
	s.wantResult(done.ID, first)
	if !s.commit(done).Repeated {
		s.Error("a commit from before the restart is not known")
	}
	if s.commit(free).Repeated {
		s.Error("a commit that was not made is known")
	}
	s.restart()
	s.want(out, "x", "y", "x", "y")
	s.none(in)
}

func restartSingleActive(s *suite) {
	q, ok := s.can(s.caps.SingleActive, singleActive)
	if !ok {
		return
	}
	s.bodies(to(q), "1", "2")
	d := s.oneFor("a", q, "1")
	s.restart()
	s.noneFor("b", q)
	s.ack(d)
	s.ack(s.oneFor("a", q, "2"))
	s.must(s.conn.Detach(s.ctx, q, "a"), "Detach")
	s.bodies(to(q), "3")
	s.ack(s.oneFor("b", q, "3"))
}

func restartQueueTTL(s *suite) {
	q, ok := s.can(s.caps.QueueTTL, func(q *driver.Queue) { q.Expires = shortExpiry })
	if !ok {
		return
	}
	s.pass(s.queue("clock"), shortExpiry/2)
	began := time.Now() // the whole time begins anew
	s.restart()
	s.goes(q)
	s.notBefore("it was deleted", began, shortExpiry)
	s.restart()
	if s.has(q) {
		s.Error("it came back")
	}
}

func restartAutoDelete(s *suite) {
	q, ok := s.can(s.caps.AutoDelete, func(q *driver.Queue) { q.AutoDelete = true })
	if !ok {
		return
	}
	s.bodies(to(q), "a")
	d := s.oneFor("a", q, "a")
	s.restart()
	if !s.has(q) {
		s.Fatal("it was deleted while a delivery was live")
	}
	s.ack(d)
	s.noneFor("a", q)
	s.must(s.conn.Detach(s.ctx, q, "a"), "Detach")
	s.goes(q)
	s.restart()
	if s.has(q) {
		s.Error("it came back")
	}
}

func restartExclusive(s *suite) {
	q, owner, ok := s.exclusive()
	if !ok {
		return
	}
	s.bodies(to(q), "a")
	s.restart()
	s.must(owner.Close(), "Close")
	s.until(q+" is gone", func() bool { return !s.has(q) })
	s.queue("exclusive")
	s.none(q)
}
