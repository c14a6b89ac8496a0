package queuetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var settleChecks = []check{
	{"ack is for good", settleAck},
	{"a second settlement is refused", settleTwice},
	{"what was never delivered is refused", settleInvented},
	{"nack delivers again and counts", settleNack},
	{"nack with a delay", settleNackDelay},
	{"nack with the queue's backoff", settleNackBackoff},
	{"release hands back uncounted, to its place", settleRelease},
	{"each settlement of a batch has its own outcome", settleBatch},
	{"reject without a dead letter drops", settleRejectDrops},
}

func settleAck(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a", "b")
	d := s.one(q, "a")
	s.ack(d)
	s.want(q, "b")
	s.counted(q, func(st driver.QueueStats) {
		if st.Ready+st.InFlight+st.Delayed != 0 {
			s.Errorf("after acking everything: %+v", st)
		}
	})
}

func settleTwice(s *suite) {
	q := s.queue("q")
	for verb := driver.Ack; verb <= driver.Reject; verb++ {
		s.bodies(to(q), "a")
		d := s.one(q, "a")
		s.settle(driver.Settlement{Ref: d.Ref, Verb: verb})
		s.refused(d.Ref)
		if verb == driver.Nack || verb == driver.Release {
			s.ack(s.one(q, "a")) // the refused ones changed nothing
		}
		s.none(q)
	}
}

func settleInvented(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	d := s.one(q, "a")
	s.refused(driver.Ref{Queue: q, Seq: d.Seq, Token: d.Token + 1})
	s.refused(driver.Ref{Queue: q, Seq: d.Seq + 1000, Token: d.Token})
	if d.Token > 1 {
		s.refused(driver.Ref{Queue: q, Seq: d.Seq, Token: d.Token - 1})
	}
	s.ack(d)
}

func settleNack(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	var token lease.Token
	for attempt := 1; attempt <= 5; attempt++ {
		d := s.one(q, "a")
		if d.Attempt != attempt {
			s.Fatalf("delivery %d is attempt %d", attempt, d.Attempt)
		}
		if d.Token <= token {
			s.Fatalf("attempt %d has token %d after %d", attempt, d.Token, token)
		}
		token = d.Token
		if out := s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Nack, Reason: "not yet"}); out.DeadLettered {
			s.Fatal("a queue without a dead letter dead-lettered")
		}
	}
}

func settleNackDelay(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	d := s.one(q, "a")
	delay := 2 * s.unit
	if !s.caps.DelayedNack {
		s.unsupported(s.try(driver.Settlement{Ref: d.Ref, Verb: driver.Nack, Delay: delay}).Err, "a nack with a delay")
		return
	}
	s.bodies(to(q), "b")
	began := time.Now()
	s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Nack, Delay: delay})
	asked := time.Now()
	var got []string
	for range 2 {
		d := s.receive(q, 1)[0]
		s.ack(d)
		got = append(got, string(d.Message.Body))
		if got[len(got)-1] == "b" {
			continue
		}
		if took := time.Since(began); took < delay*9/10 {
			s.Errorf("it came back after %v, want at least %v", took, delay)
		}
		if d.Attempt != 2 {
			s.Errorf("it came back as attempt %d", d.Attempt)
		}
	}
	// It was in nobody's way, unless the machine slept until its time came.
	if got[0] == got[1] || got[0] == "a" && asked.Sub(began) < s.unit {
		s.Errorf("got %v, want b and then a", got)
	}
}

func settleNackBackoff(s *suite) {
	const least, most = 100 * time.Millisecond, 200 * time.Millisecond
	q := s.queue("q", func(q *driver.Queue) { q.Backoff = driver.Backoff{Min: least, Max: most} })
	s.bodies(to(q), "a")
	d := s.one(q, "a")
	for attempt := 1; attempt <= 3; attempt++ {
		began := time.Now()
		out := s.try(driver.Settlement{Ref: d.Ref, Verb: driver.Nack, Backoff: true})
		if !s.caps.DelayedNack {
			s.unsupported(out.Err, "a nack with backoff")
			return
		}
		s.must(out.Err, "Nack")
		d = s.one(q, "a")
		floor := least / 2 // jitter takes half at most
		if attempt > 1 {
			floor = most / 2
		}
		if took := time.Since(began); took < floor*9/10 {
			s.Errorf("after attempt %d it came back in %v, want at least %v", attempt, took, floor)
		}
	}
}

func settleRelease(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a", "b", "c")
	ds := s.receive(q, 2)
	s.settle(driver.Settlement{Ref: ds[1].Ref, Verb: driver.Release})
	s.settle(driver.Settlement{Ref: ds[0].Ref, Verb: driver.Release})
	again := s.receive(q, 3)
	got := ""
	for i, d := range again {
		got += string(d.Message.Body)
		if attempt := s.handed(string(d.Message.Body) != "c"); d.Attempt != attempt {
			s.Errorf("message %d came back as attempt %d, want %d", i, d.Attempt, attempt)
		}
		s.ack(d)
	}
	if s.caps.OrderedRelease && got != "abc" || got != "abc" && got != "bac" {
		s.Errorf("after the releases came %q, want the order of the queue, or that of the releases", got)
	}
	s.none(q)
	if again[0].Token <= ds[0].Token {
		s.Errorf("it came back with token %d after %d", again[0].Token, ds[0].Token)
	}
	// Failed attempts stay counted over a hand-back.
	s.bodies(to(q), "d")
	s.settle(driver.Settlement{Ref: s.one(q, "d").Ref, Verb: driver.Nack})
	s.settle(driver.Settlement{Ref: s.one(q, "d").Ref, Verb: driver.Release})
	if d := s.one(q, "d"); d.Attempt != 1+s.handed(true) {
		s.Errorf("after a nack and a release it is attempt %d, want %d", d.Attempt, 1+s.handed(true))
	}
}

// handed is the attempt that a message comes as, which came once and was handed
// back, or not.
func (s *suite) handed(back bool) int {
	if back && !s.caps.FreeRelease {
		return 2
	}
	return 1
}

func settleBatch(s *suite) {
	q, other := s.queue("q"), s.queue("other")
	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprint(i))
	}
	s.bodies(to(q), all...)
	s.bodies(to(other), "x")
	var ss []driver.Settlement
	for i, d := range s.receive(q, len(all)) {
		if i%2 == 1 {
			d.Token += 1 << 40
		}
		ss = append(ss, driver.Settlement{Ref: d.Ref, Verb: driver.Ack})
	}
	ss = append(ss, driver.Settlement{Ref: s.one(other, "x").Ref, Verb: driver.Ack})
	out, err := s.conn.Settle(s.ctx, ss)
	s.must(err, "Settle")
	if len(out) != len(ss) {
		s.Fatalf("%d outcomes for %d settlements", len(out), len(ss))
	}
	for i := range out {
		if stale := i%2 == 1 && i < len(all); s.caps.DeliveryFence && stale != errors.Is(out[i].Err, lease.ErrNotHeld) || !stale && out[i].Err != nil {
			s.Errorf("outcome %d: %v", i, out[i].Err)
		}
	}
	s.counted(q, func(st driver.QueueStats) {
		if s.caps.DeliveryFence && st.InFlight != int64(len(all)/2) {
			s.Errorf("%d are in flight, want %d", st.InFlight, len(all)/2)
		}
	})
}

func settleRejectDrops(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a", "b")
	if out := s.settle(driver.Settlement{Ref: s.one(q, "a").Ref, Verb: driver.Reject, Reason: "bad"}); out.DeadLettered {
		s.Error("the outcome says dead-lettered, without a dead letter")
	}
	s.want(q, "b")
}
