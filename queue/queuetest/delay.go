package queuetest

import (
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var delayChecks = []check{
	{"delayed messages come when they are due, in that order", delayOrder},
	{"not before a time", delayNotBefore},
	{"a time that has passed is no delay", delayPast},
	{"a delayed message is in nobody's way", delayAside},
	{"a waiting Receive wakes for it", delayWakes},
	{"many that are due at once come once each", delayMany},
	{"a cancelled message never comes", delayCancelled},
	{"cancel drops all that have the ID, and no other", delayCancelID},
	{"what came due cannot be cancelled", delayCancelLate},
	{"cancel names its limits", delayCancelLimits},
}

// delays asserts ErrUnsupported where there is no delay.
func (s *suite) delays(q string) bool {
	s.Helper()
	if s.caps.Delay {
		return true
	}
	s.unsupported(s.outcome(driver.Publishing{Route: to(q), Message: &driver.Message{Delay: time.Second}}), "a delay")
	s.unsupported(s.outcome(driver.Publishing{Route: to(q), Message: &driver.Message{NotBefore: time.Now().Add(time.Hour).UTC()}}), "a NotBefore")
	s.none(q)
	return false
}

func delayOrder(s *suite) {
	q := s.queue("q")
	if !s.delays(q) {
		return
	}
	began := time.Now()
	delays := map[string]time.Duration{"late": 3 * s.unit, "soon": s.unit, "then": 2 * s.unit}
	ms := make([]*driver.Message, 0, len(delays))
	for _, b := range []string{"late", "soon", "then"} {
		ms = append(ms, &driver.Message{Body: []byte(b), Delay: delays[b]})
	}
	s.publish(to(q), ms...) // at once, or a slow publish would change the order
	s.noneBefore(q, began.Add(delays["soon"]))
	for _, b := range []string{"soon", "then", "late"} {
		d := s.one(q, b)
		if took := time.Since(began); took < delays[b]*9/10 {
			s.Errorf("%q came after %v, want %v", b, took, delays[b])
		}
		if d.Attempt != 1 {
			s.Errorf("%q came as attempt %d", b, d.Attempt)
		}
		s.ack(d)
	}
}

func delayNotBefore(s *suite) {
	q := s.queue("q")
	if !s.delays(q) {
		return
	}
	at := time.Now().Add(300 * time.Millisecond).UTC()
	s.publish(to(q), &driver.Message{Body: []byte("a"), NotBefore: at})
	s.noneBefore(q, at)
	s.ack(s.one(q, "a"))
	if now := time.Now(); now.Before(at.Add(-10 * time.Millisecond)) {
		s.Errorf("it came %v early", at.Sub(now))
	}
}

func delayPast(s *suite) {
	q := s.queue("q")
	if !s.delays(q) {
		return
	}
	s.publish(to(q), &driver.Message{Body: []byte("a"), NotBefore: time.Now().Add(-time.Hour).UTC()})
	s.one(q, "a")
}

func delayAside(s *suite) {
	q := s.queue("q")
	if !s.delays(q) {
		return
	}
	s.publish(to(q), &driver.Message{Body: []byte("later"), Delay: time.Hour}, body("now"))
	s.want(q, "now")
	s.counted(q, func(st driver.QueueStats) {
		if st.Delayed != 1 || st.Ready != 0 {
			s.Errorf("%d delayed, %d ready, want 1 and 0", st.Delayed, st.Ready)
		}
	})
}

func delayWakes(s *suite) {
	q := s.queue("q")
	if !s.delays(q) {
		return
	}
	s.publish(to(q), &driver.Message{Body: []byte("a"), Delay: 200 * time.Millisecond})
	r := s.request(q, 1)
	r.Wait = s.h.Patience
	began := time.Now()
	if ds := s.fetch(r); len(ds) != 1 {
		s.Fatalf("a waiting Receive returned %d messages", len(ds))
	}
	if took := time.Since(began); took > s.h.Patience/2 {
		s.Errorf("it woke after %v", took)
	}
}

// cancels asserts ErrUnsupported where nothing can be cancelled.
func (s *suite) cancels(q string) bool {
	s.Helper()
	if s.caps.CancelScheduled && s.caps.Delay {
		return true
	}
	s.unsupported(s.conn.CancelScheduled(s.ctx, q, "a"), "CancelScheduled")
	return false
}

func delayMany(s *suite) {
	q := s.queue("q")
	if !s.delays(q) {
		return
	}
	const n = 2500
	at := time.Now().Add(2 * s.unit).UTC()
	ms := make([]*driver.Message, n)
	for i := range ms {
		ms[i] = &driver.Message{Body: []byte(strconv.Itoa(i)), NotBefore: at}
	}
	s.publish(to(q), ms...)
	seen := make(map[string]bool)
	for _, d := range s.receiveMany(q, n) {
		if b := string(d.Message.Body); seen[b] {
			s.Fatalf("%q came twice", b)
		}
		seen[string(d.Message.Body)] = true
	}
	s.none(q)
}

func delayCancelled(s *suite) {
	q := s.queue("q")
	if !s.cancels(q) {
		return
	}
	s.publish(to(q), &driver.Message{ID: "a", Body: []byte("a"), Delay: 3 * s.unit}, &driver.Message{ID: "b", Body: []byte("b"), Delay: 4 * s.unit})
	s.must(s.conn.CancelScheduled(s.ctx, q, "a"), "CancelScheduled")
	s.is(s.conn.CancelScheduled(s.ctx, q, "a"), lease.ErrNotFound, "CancelScheduled for the second time")
	s.counted(q, func(st driver.QueueStats) {
		if st.Delayed != 1 || st.Dropped != 1 {
			s.Errorf("%d delayed, %d dropped, want 1 and 1", st.Delayed, st.Dropped)
		}
	})
	s.want(q, "b") // and "a", which was to come before it, did not
}

func delayCancelID(s *suite) {
	q, other := s.queue("q"), s.queue("other")
	if !s.cancels(q) {
		return
	}
	again := &driver.Message{ID: "a", Delay: time.Hour}
	s.publish(to(q), again, &driver.Message{ID: "b", Delay: time.Hour}, again, &driver.Message{ID: "a", Body: []byte("now")})
	s.publish(to(other), again)
	s.must(s.conn.CancelScheduled(s.ctx, q, "a"), "CancelScheduled")
	s.is(s.conn.CancelScheduled(s.ctx, q, "a"), lease.ErrNotFound, "CancelScheduled of what is gone")
	s.want(q, "now")
	s.must(s.conn.CancelScheduled(s.ctx, q, "b"), "CancelScheduled of the other ID")
	s.must(s.conn.CancelScheduled(s.ctx, other, "a"), "CancelScheduled in the other queue")
}

func delayCancelLate(s *suite) {
	q := s.queue("q")
	if !s.cancels(q) {
		return
	}
	s.publish(to(q), &driver.Message{ID: "a", Body: []byte("a"), Delay: 10 * time.Millisecond})
	d := s.one(q, "a")
	s.is(s.conn.CancelScheduled(s.ctx, q, "a"), lease.ErrNotFound, "CancelScheduled of a delivery")
	s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Release})
	s.is(s.conn.CancelScheduled(s.ctx, q, "a"), lease.ErrNotFound, "CancelScheduled of a message that came due")
	s.want(q, "a")
}

func delayCancelLimits(s *suite) {
	q := s.queue("q")
	if !s.cancels(q) {
		return
	}
	s.field(s.conn.CancelScheduled(s.ctx, "", "a"), "CancelScheduled without a queue")
	s.field(s.conn.CancelScheduled(s.ctx, q, ""), "CancelScheduled without an ID")
	s.field(s.conn.CancelScheduled(s.ctx, q, strings.Repeat("x", driver.MaxID+1)), "CancelScheduled of a long ID")
	s.is(s.conn.CancelScheduled(s.ctx, s.name("nobody"), "a"), lease.ErrNotFound, "CancelScheduled in no queue")
	id := strings.Repeat("x", driver.MaxID)
	s.publish(to(q), &driver.Message{ID: id, Delay: time.Hour})
	s.must(s.conn.CancelScheduled(s.ctx, q, id), "CancelScheduled of the longest ID")
}
