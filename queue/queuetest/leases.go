package queuetest

import (
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var leaseChecks = []check{
	{"an expired delivery is delivered again", leaseExpires},
	{"the queue's lease is the default", leaseDefault},
	{"an overtaken holder changes nothing", leaseOvertaken},
	{"extend keeps it", leaseExtend},
	{"extend with another length", leaseExtendLonger},
	{"expiry counts towards the delivery limit", leaseExpiryDies},
}

func leaseExpires(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	began := time.Now()
	first := s.receiveFor(q, 1, s.unit)[0]
	if first.TTL != s.unit {
		s.Errorf("asked for %v, leased for %v", s.unit, first.TTL)
	}
	second := s.one(q, "a")
	if took := time.Since(began); took < s.unit*9/10 {
		s.Errorf("a lease of %v ended after %v", s.unit, took)
	}
	if second.Attempt != 2 || second.Token <= first.Token || s.caps.Numbered && second.Seq != first.Seq {
		s.Errorf("first %+v, then %+v: want attempt 2 of the same message, with a larger token", first.Ref, second)
	}
	s.ack(second)
	s.none(q)
}

func leaseDefault(s *suite) {
	q := s.queue("q", func(q *driver.Queue) { q.Lease = s.unit })
	s.bodies(to(q), "a")
	if d := s.receive(q, 1)[0]; d.TTL != s.unit {
		s.Errorf("the queue's lease is %v, the delivery's %v", s.unit, d.TTL)
	}
	if d := s.one(q, "a"); d.Attempt != 2 {
		s.Errorf("it came back as attempt %d", d.Attempt)
	}
}

func leaseOvertaken(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	first := s.receiveFor(q, 1, s.unit)[0]
	second := s.one(q, "a") // waits for the expiry
	s.refused(first.Ref)
	s.counted(q, func(st driver.QueueStats) {
		if st.InFlight != 1 {
			s.Errorf("after refused settlements %d are in flight, want 1", st.InFlight)
		}
	})
	s.none(q)
	s.ack(second)
	s.refused(first.Ref)
	s.none(q)
}

func leaseExtend(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a", "b")
	ds := s.receiveFor(q, 2, s.unit)
	if !s.caps.Extend {
		s.unsupported(s.try(driver.Settlement{Ref: ds[0].Ref, Verb: driver.Extend}).Err, "extend")
		return
	}
	// b is not extended, and shows that the time for a has passed too.
	tick := time.NewTicker(s.unit / 4)
	defer tick.Stop()
	var back []driver.Delivery
	for range 40 {
		if out := s.try(driver.Settlement{Ref: ds[0].Ref, Verb: driver.Extend}); out.Err != nil || out.TTL != s.unit {
			s.Fatalf("Extend: %+v, want a TTL of %v", out, s.unit)
		}
		<-tick.C
		if back = append(back, s.fetch(s.request(q, 10))...); len(back) > 0 {
			break
		}
	}
	if len(back) != 1 || string(back[0].Message.Body) != "b" {
		s.Fatalf("got %d messages back, want b only", len(back))
	}
	s.ack(ds[0])
}

func leaseExtendLonger(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a", "b")
	ds := s.receiveFor(q, 2, s.unit)
	long := max(time.Minute, s.caps.MinLease)
	if !s.caps.Extend {
		s.unsupported(s.try(driver.Settlement{Ref: ds[0].Ref, Verb: driver.Extend, TTL: long}).Err, "extend")
		return
	}
	if out := s.settle(driver.Settlement{Ref: ds[0].Ref, Verb: driver.Extend, TTL: long}); out.TTL != long {
		s.Errorf("extended for %v, want %v", out.TTL, long)
	}
	s.one(q, "b") // has expired; a has not
	s.none(q)
	s.ack(ds[0])
}

func leaseExpiryDies(s *suite) {
	q, dead, ok := s.pair(func(q *driver.Queue) { q.DeliveryLimit, q.Lease = 2, s.unit })
	if !ok {
		return
	}
	s.bodies(to(q), "a")
	s.one(q, "a")
	second := s.one(q, "a")
	d := s.one(dead, "a")
	h := d.Message.Headers
	if h[driver.HeaderDeathReason] != driver.ReasonDeliveryLimit || h[driver.HeaderDeathAttempts] != int64(2) || d.Attempt != 1 {
		s.Errorf("the dead letter is attempt %d with headers %v", d.Attempt, h)
	}
	s.refused(second.Ref)
	s.none(q)
}
