package queuetest

import (
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// segment is how many messages go at once, see driver.Retention.
const segment = 4096

// fill publishes n messages of a size.
func (s *suite) fill(q string, n, size int) {
	s.Helper()
	m := &driver.Message{Body: make([]byte, size)}
	for n > 0 {
		ms := make([]*driver.Message, min(n, 5000))
		for i := range ms {
			ms[i] = m
		}
		s.publish(to(q), ms...)
		n -= len(ms)
	}
}

// kept waits until a stream keeps no more than most messages, and asserts that
// it keeps least, and those without a gap.
func (s *suite) kept(q string, least, most uint64) {
	s.Helper()
	var b *driver.StreamBatch
	s.eventually(fmt.Sprintf("at most %d messages are kept", most), func() bool {
		b = s.read(reading(q, driver.FromFirst))
		return b.End-b.First <= most
	})
	if n := b.End - b.First; n < least {
		s.Errorf("%d messages are kept, want at least %d", n, least)
	}
	for n := b.First; n < b.End; {
		page := s.read(at(q, n))
		if len(page.Messages) == 0 || page.Messages[0].Offset != n {
			s.Fatalf("nothing lies at offset %d of %d to %d", n, b.First, b.End)
		}
		n = page.Next
	}
	// An offset that is gone begins at the oldest that is left.
	if b.First > 1 {
		if got := s.read(at(q, 1)).Messages[0].Offset; got != b.First {
			s.Errorf("from offset 1 it read on at %d, want %d", got, b.First)
		}
	}
	s.counted(q, func(st driver.QueueStats) {
		if st.Ready != int64(b.End-b.First) {
			s.Errorf("the statistics say %d, there are %d", st.Ready, b.End-b.First)
		}
	})
}

func streamKeepsNumber(s *suite) {
	q, ok := s.stream("q", func(q *driver.Queue) { q.Retention.Messages = 100 })
	if !ok {
		return
	}
	s.fill(q, 2*segment+50, 1)
	s.kept(q, 100, 100+segment)
}

func streamKeepsBytes(s *suite) {
	q, ok := s.stream("q", func(q *driver.Queue) { q.Retention.Bytes = 1000 })
	if !ok {
		return
	}
	s.fill(q, 2*segment+50, 10)
	s.kept(q, 100, 100+segment)
}

func streamKeepsAge(s *suite) {
	age := s.unit
	q, ok := s.stream("q", func(q *driver.Queue) { q.Retention.Age = age })
	if !ok {
		return
	}
	s.bodies(to(q), "a", "b")
	b := s.read(reading(q, driver.FromFirst))
	s.eventually("what is too old goes", func() bool {
		return s.read(reading(q, driver.FromFirst)).First == 3
	})
	if len(b.Messages) > 0 {
		if lived := time.Since(b.Messages[0].Stored); lived < age {
			s.Errorf("it went after %v, want %v", lived, age)
		}
	}
	s.bodies(to(q), "c")
	s.reads(s.read(at(q, 1)), 3, "c")
}

func streamIsQueue(s *suite) {
	q, ok := s.stream("q", func(q *driver.Queue) {
		if s.caps.Dedup {
			q.DedupWindow = time.Hour
		}
	})
	if !ok {
		return
	}
	x := s.name("x")
	s.declare(driver.Topology{
		Exchanges: []driver.Exchange{{Name: x, Kind: driver.Fanout}},
		Bindings:  []driver.Binding{{Exchange: x, Queue: q}},
	})
	s.publish(driver.Route{Exchange: x}, &driver.Message{ID: "1", Body: []byte("a")})
	want := []string{"a"}
	if s.caps.Dedup {
		if r := s.publish(to(q), &driver.Message{ID: "1", Body: []byte("a")}); !r[0].Duplicate {
			s.Errorf("the receipt of a repeat is %+v", r[0])
		}
	}
	if s.caps.Delay {
		began := time.Now()
		s.publish(to(q), &driver.Message{Body: []byte("late"), Delay: s.unit})
		s.bodies(to(q), "b")
		r := at(q, 3)
		r.Wait = s.h.Patience
		late := s.read(r)
		s.reads(late, 3, "late")
		if m := late.Messages[0]; m.Stored.Sub(began) < s.unit*9/10 {
			s.Errorf("a message with a delay of %v was stored after %v", s.unit, m.Stored.Sub(began))
		}
		want = append(want, "b", "late")
	}
	s.reads(s.read(reading(q, driver.FromFirst)), 1, want...)
}

func streamPurge(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	s.bodies(to(q), "a", "b")
	n, err := s.conn.Purge(s.ctx, q)
	if !s.caps.Purge {
		s.unsupported(err, "Purge")
		return
	}
	s.must(err, "Purge")
	if n != 2 {
		s.Errorf("Purge dropped %d, want 2", n)
	}
	s.reads(s.read(reading(q, driver.FromFirst)), 3)
	s.bodies(to(q), "c")
	s.reads(s.read(at(q, 1)), 3, "c")
	s.counted(q, func(st driver.QueueStats) {
		if st.Ready != 1 || st.Bytes != 1 || st.Dropped != 2 {
			s.Errorf("the statistics say %+v", st)
		}
	})
}

// restartStream is one of restartChecks.
func restartStream(s *suite) {
	q, ok := s.stream("q", func(q *driver.Queue) { q.Retention.Messages = 10 })
	if !ok {
		return
	}
	s.fill(q, segment+20, 1)
	s.kept(q, 10, 10+segment)
	first := s.read(reading(q, driver.FromFirst)).First
	stored := s.read(reading(q, driver.FromLast)).Messages[0].Stored
	s.must(s.conn.SaveOffset(s.ctx, q, "stays", segment), "SaveOffset")
	s.must(s.conn.SaveOffset(s.ctx, q, "goes", segment), "SaveOffset")
	s.must(s.conn.DeleteOffset(s.ctx, q, "goes"), "DeleteOffset")
	s.restart()
	s.offsets(q, driver.Offset{Consumer: "stays", Offset: segment})
	if b := s.read(reading(q, driver.FromNext)); b.First != first {
		s.Errorf("the first offset was %d, and is %d", first, b.First)
	}
	s.bodies(to(q), "new")
	s.reads(s.read(reading(q, driver.FromLast)), segment+21, "new")
	r := reading(q, driver.FromTime)
	r.Time = stored
	if got := s.read(r).Messages[0].Stored; got.Before(stored) {
		s.Errorf("from %v it read one of %v", stored, got)
	}
	s.fill(q, segment, 1)
	s.kept(q, 10, 10+segment)
}
