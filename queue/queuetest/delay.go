package queuetest

import (
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var delayChecks = []check{
	{"delayed messages come when they are due, in that order", delayOrder},
	{"not before a time", delayNotBefore},
	{"a time that has passed is no delay", delayPast},
	{"a delayed message is in nobody's way", delayAside},
	{"a waiting Receive wakes for it", delayWakes},
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
	for _, b := range []string{"late", "soon", "then"} {
		s.publish(to(q), &driver.Message{Body: []byte(b), Delay: delays[b]})
	}
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
