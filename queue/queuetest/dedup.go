package queuetest

import (
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var dedupChecks = []check{
	{"an ID is stored once within the window", dedupOnce},
	{"within one batch too", dedupBatch},
	{"an acked message is remembered", dedupAfterAck},
	{"each queue for itself", dedupPerQueue},
	{"a fan-out with partial duplicates", dedupPartial},
	{"without a window, or without ID, nothing is dropped", dedupNot},
	{"after the window it is new", dedupWindow},
}

func dedupHour(q *driver.Queue) { q.DedupWindow = time.Hour }

// dedups asserts ErrUnsupported where there is no dedup.
func (s *suite) dedups() bool {
	s.Helper()
	if s.caps.Dedup {
		return true
	}
	_, err := s.conn.Declare(s.ctx, &driver.Topology{Queues: []driver.Queue{{Name: s.name("q"), DedupWindow: time.Hour}}}, false)
	s.unsupported(err, "a dedup window")
	return false
}

func id(id, b string) *driver.Message { return &driver.Message{ID: id, Body: []byte(b)} }

func (s *suite) receipt(r driver.Receipt, queues int, duplicate bool) {
	s.Helper()
	if r.Err != nil || r.Duplicate != duplicate || r.Queues != queues {
		s.Errorf("receipt %+v, want %d queues, duplicate %v", r, queues, duplicate)
	}
}

func dedupOnce(s *suite) {
	if !s.dedups() {
		return
	}
	q := s.queue("q", dedupHour)
	s.receipt(s.publish(to(q), id("1", "a"))[0], 1, false)
	s.receipt(s.publish(to(q), id("1", "again"))[0], 1, true)
	s.receipt(s.publish(to(q), id("2", "b"))[0], 1, false)
	s.want(q, "a", "b")
	s.counted(q, func(st driver.QueueStats) {
		if st.Duplicates != 1 || st.Published != 2 {
			s.Errorf("%d published, %d duplicates, want 2 and 1", st.Published, st.Duplicates)
		}
	})
}

func dedupBatch(s *suite) {
	if !s.dedups() {
		return
	}
	q := s.queue("q", dedupHour)
	rs := s.publish(to(q), id("1", "a"), id("1", "again"), id("2", "b"))
	for i, dup := range []bool{false, true, false} {
		s.receipt(rs[i], 1, dup)
	}
	s.want(q, "a", "b")
}

func dedupAfterAck(s *suite) {
	if !s.dedups() {
		return
	}
	q := s.queue("q", dedupHour)
	s.publish(to(q), id("1", "a"))
	s.want(q, "a")
	s.receipt(s.publish(to(q), id("1", "again"))[0], 1, true)
	s.none(q)
}

func dedupPerQueue(s *suite) {
	if !s.dedups() {
		return
	}
	a, b := s.queue("a", dedupHour), s.queue("b", dedupHour)
	s.receipt(s.publish(to(a), id("1", "x"))[0], 1, false)
	s.receipt(s.publish(to(b), id("1", "x"))[0], 1, false)
	s.want(a, "x")
	s.want(b, "x")
}

func dedupPartial(s *suite) {
	if !s.dedups() {
		return
	}
	a, b, c := s.queue("a", dedupHour), s.queue("b", dedupHour), s.queue("c")
	e := s.name("e")
	s.declare(driver.Topology{
		Exchanges: []driver.Exchange{{Name: e, Kind: driver.Fanout}},
		Bindings:  []driver.Binding{{Exchange: e, Queue: a}, {Exchange: e, Queue: b}},
	})
	s.publish(to(a), id("1", "a"))
	// Queues counts those that had the message before: it is theirs too.
	s.receipt(s.publish(driver.Route{Exchange: e}, id("1", "fan"))[0], 2, false) // b had not seen it
	s.receipt(s.publish(driver.Route{Exchange: e}, id("1", "fan"))[0], 2, true)  // both have
	s.declare(driver.Topology{Bindings: []driver.Binding{{Exchange: e, Queue: c}}})
	s.receipt(s.publish(driver.Route{Exchange: e}, id("1", "fan"))[0], 3, false) // c never does
	s.want(a, "a")
	s.want(b, "fan")
	s.want(c, "fan")
}

func dedupNot(s *suite) {
	q := s.queue("q")
	for range 2 {
		s.receipt(s.publish(to(q), id("1", "a"))[0], 1, false)
	}
	s.want(q, "a", "a")
	if !s.dedups() {
		return
	}
	w := s.queue("w", dedupHour)
	s.publish(to(w), body("a"), body("a"))
	s.want(w, "a", "a")
}

func dedupWindow(s *suite) {
	if !s.dedups() {
		return
	}
	const window = 300 * time.Millisecond
	q := s.queue("q", func(q *driver.Queue) { q.DedupWindow = window })
	began := time.Now()
	s.receipt(s.publish(to(q), id("1", "a"))[0], 1, false)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.publish(to(q), id("1", "a"))[0].Duplicate {
		if time.Since(began) > s.h.Patience {
			s.Fatalf("a window of %v still refuses after %v", window, s.h.Patience)
		}
		<-tick.C
	}
	if took := time.Since(began); took < window {
		s.Errorf("a window of %v took the ID again after %v", window, took)
	}
}
