package queuetest

import (
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var inspectChecks = []check{
	{"statistics tell the truth", inspectStats},
	{"statistics page by name", inspectStatsPages},
	{"peek sees everything and takes nothing", inspectPeek},
	{"peek pages", inspectPeekPages},
	{"purge drops all but what is in flight", inspectPurge},
}

func inspectStats(s *suite) {
	q := s.queue("q")
	if !s.caps.Stats {
		_, err := s.conn.Stats(s.ctx, &driver.StatsRequest{Queue: q})
		s.unsupported(err, "Stats")
		return
	}
	s.bodies(to(q), "aa", "bb", "cc", "dd", "ee")
	ds := s.receive(q, 4)
	s.ack(ds[0])
	if s.caps.DelayedNack {
		s.settle(driver.Settlement{Ref: ds[1].Ref, Verb: driver.Nack, Delay: time.Hour})
	} else {
		s.settle(driver.Settlement{Ref: ds[1].Ref, Verb: driver.Nack})
	}
	s.settle(driver.Settlement{Ref: ds[2].Ref, Verb: driver.Reject})
	if s.caps.Delay {
		s.publish(to(q), &driver.Message{Body: []byte("ff"), Delay: time.Hour})
	}
	want := driver.QueueStats{
		Name: q, Ready: 1, InFlight: 1, Consumers: 1,
		Published: 5, Delivered: 4, Acked: 1, Nacked: 1, Dropped: 1,
	}
	if s.caps.Delay {
		want.Delayed++
		want.Published++
	}
	if s.caps.DelayedNack {
		want.Delayed++
	} else {
		want.Ready++
	}
	idle := s.request(s.queue("idle"), 1)
	idle.Wait = 5 * time.Millisecond // for an age that whole milliseconds can say
	s.fetch(idle)
	s.counted(q, func(st driver.QueueStats) {
		if st.Bytes <= 0 || st.OldestAge <= 0 || st.OldestAge > time.Hour {
			s.Errorf("%d bytes, the oldest of age %v", st.Bytes, st.OldestAge)
		}
		st.Bytes, st.OldestAge = 0, 0 // approximate
		if st != want {
			s.Errorf("got  %+v\nwant %+v", st, want)
		}
	})
}

func inspectStatsPages(s *suite) {
	if !s.caps.Stats {
		_, err := s.conn.Stats(s.ctx, &driver.StatsRequest{Prefix: s.prefix})
		s.unsupported(err, "Stats of a prefix")
		return
	}
	var names []string
	for i := range 7 {
		names = append(names, s.queue(fmt.Sprint("q", i)))
	}
	var got []string
	r := driver.StatsRequest{Prefix: s.prefix, Max: 3}
	for range len(names) + 1 {
		page, err := s.conn.Stats(s.ctx, &r)
		s.must(err, "Stats")
		for _, st := range page {
			got = append(got, st.Name)
		}
		if len(page) < r.Max {
			break
		}
		r.After = page[len(page)-1].Name
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		s.Errorf("got %v, want %v", got, names)
	}
}

func (s *suite) peek(r driver.PeekRequest) []driver.Peeked {
	s.Helper()
	ps, err := s.conn.Peek(s.ctx, &r)
	s.must(err, "Peek")
	return ps
}

func inspectPeek(s *suite) {
	q := s.queue("q")
	if !s.caps.Peek {
		_, err := s.conn.Peek(s.ctx, &driver.PeekRequest{Queue: q})
		s.unsupported(err, "Peek")
		return
	}
	s.bodies(to(q), "acked", "flying", "failed", "ready")
	ds := s.receive(q, 3)
	s.ack(ds[0])
	failed := driver.Delayed
	if s.caps.DelayedNack {
		s.settle(driver.Settlement{Ref: ds[2].Ref, Verb: driver.Nack, Delay: time.Hour})
	} else {
		s.settle(driver.Settlement{Ref: ds[2].Ref, Verb: driver.Nack})
		failed = driver.Ready
	}
	if s.caps.Delay {
		s.publish(to(q), &driver.Message{Body: []byte("scheduled"), Delay: time.Hour})
	}
	want := []struct {
		body     string
		state    driver.State
		attempts int
	}{{"flying", driver.InFlight, 1}, {"failed", failed, 1}, {"ready", driver.Ready, 0}, {"scheduled", driver.Delayed, 0}}
	if !s.caps.Delay {
		want = want[:3]
	}
	for range 2 { // looking changes nothing
		ps := s.peek(driver.PeekRequest{Queue: q})
		if len(ps) != len(want) {
			s.Fatalf("got %d messages, want %d", len(ps), len(want))
		}
		for i, p := range ps {
			w := want[i]
			if string(p.Message.Body) != w.body || p.State != w.state || p.Attempts != w.attempts || p.Route != to(q) || p.Age < 0 {
				s.Errorf("message %d: got %q %+v, want %+v", i, p.Message.Body, p, w)
			}
		}
	}
	s.ack(ds[1])
	if failed == driver.Ready {
		s.ack(s.one(q, "failed"))
	}
	s.ack(s.one(q, "ready"))
}

func inspectPeekPages(s *suite) {
	q := s.queue("q")
	if !s.caps.Peek {
		_, err := s.conn.Peek(s.ctx, &driver.PeekRequest{Queue: q, After: 1, Max: 10})
		s.unsupported(err, "Peek behind a message")
		return
	}
	var all, got []string
	for i := range 25 {
		all = append(all, fmt.Sprint(i))
	}
	s.bodies(to(q), all...)
	after := uint64(0)
	for range len(all) {
		page := s.peek(driver.PeekRequest{Queue: q, After: after, Max: 10})
		for _, p := range page {
			if p.Seq <= after {
				s.Fatalf("message %d follows %d", p.Seq, after)
			}
			after = p.Seq
			got = append(got, string(p.Message.Body))
		}
		if len(page) < 10 {
			break
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(all) {
		s.Errorf("got %v, want %v", got, all)
	}
}

func inspectPurge(s *suite) {
	q := s.queue("q")
	if !s.caps.Purge {
		_, err := s.conn.Purge(s.ctx, q)
		s.unsupported(err, "Purge")
		return
	}
	s.bodies(to(q), "flying", "a", "b")
	d := s.one(q, "flying")
	n := int64(2)
	if s.caps.Delay && s.caps.CancelScheduled { // what cannot be cancelled is out of reach
		s.publish(to(q), &driver.Message{Delay: time.Hour})
		n++
	}
	if s.caps.OrderKey {
		s.publish(to(q), key("k", "1"), key("k", "2"))
		n += 2
	}
	dropped, err := s.conn.Purge(s.ctx, q)
	s.must(err, "Purge")
	if dropped != n {
		s.Errorf("Purge dropped %d, want %d", dropped, n)
	}
	s.none(q)
	s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Nack}) // still its holder's
	s.ack(s.one(q, "flying"))
	s.bodies(to(q), "after")
	s.want(q, "after")
}
