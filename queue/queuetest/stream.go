package queuetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var streamChecks = []check{
	{"messages stay and are read again and again", streamStays},
	{"reading begins where it is asked to", streamFrom},
	{"reading begins at a time", streamTime},
	{"Max and MaxBytes bound a batch", streamBounds},
	{"a batch says where to go on, though it is empty", streamGoesOn},
	{"all waiting readers are woken, each with everything", streamWakes},
	{"a reader whose context ends is let go", streamEnded},
	{"a reader that waits is told that the stream was deleted", streamDeleted},
	{"an offset past the end is refused", streamPastEnd},
	{"nothing of a stream is leased, and nothing else is read", streamLeasesNothing},
	{"retention by number keeps what it says", streamKeepsNumber},
	{"retention by bytes keeps what it says", streamKeepsBytes},
	{"retention by age drops what is older", streamKeepsAge},
	{"dedup, delays and bindings are those of a queue", streamIsQueue},
	{"purge drops all and the offsets go on", streamPurge},
	{"a consumer's offset is remembered, also one that goes back", streamOffsets},
	{"offsets are remembered for MaxOffsets consumers", streamOffsetLimit},
	{"requests are checked", streamFields},
}

// stream declares a stream. ok is false where the backend has none, which is
// asserted.
func (s *suite) stream(n string, change ...func(*driver.Queue)) (name string, ok bool) {
	s.Helper()
	q := driver.Queue{Name: s.name(n), Type: driver.Stream}
	if !s.caps.Streams {
		_, err := s.conn.Declare(s.ctx, &driver.Topology{Queues: []driver.Queue{q}}, false)
		s.unsupported(err, "a stream")
		_, err = s.conn.ReadStream(s.ctx, &driver.StreamRequest{Queue: q.Name, From: driver.FromFirst, Max: 1})
		s.unsupported(err, "ReadStream")
		s.unsupported(s.conn.SaveOffset(s.ctx, q.Name, "c", 1), "SaveOffset")
		_, err = s.conn.Offsets(s.ctx, q.Name, "")
		s.unsupported(err, "Offsets")
		s.unsupported(s.conn.DeleteOffset(s.ctx, q.Name, "c"), "DeleteOffset")
		return "", false
	}
	for _, c := range change {
		c(&q)
	}
	s.declare(driver.Topology{Queues: []driver.Queue{q}})
	return q.Name, true
}

func reading(q string, from driver.From) driver.StreamRequest {
	return driver.StreamRequest{Queue: q, From: from, Max: driver.MaxReceive}
}

func at(q string, offset uint64) driver.StreamRequest {
	r := reading(q, driver.FromOffset)
	r.Offset = offset
	return r
}

func (s *suite) read(r driver.StreamRequest) *driver.StreamBatch {
	s.Helper()
	b, err := s.conn.ReadStream(s.ctx, &r)
	s.must(err, "ReadStream")
	return b
}

// reads asserts that a batch has exactly these bodies, from an offset on.
func (s *suite) reads(b *driver.StreamBatch, offset uint64, bodies ...string) {
	s.Helper()
	var got []string
	for i, m := range b.Messages {
		got = append(got, string(m.Message.Body))
		if want := offset + uint64(i); m.Offset != want {
			s.Errorf("message %q has offset %d, want %d", m.Message.Body, m.Offset, want)
		}
	}
	if !slices.Equal(got, bodies) {
		s.Fatalf("read %q, want %q", got, bodies)
	}
	if want := offset + uint64(len(bodies)); b.Next != want {
		s.Errorf("Next is %d, want %d", b.Next, want)
	}
}

func streamStays(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	before := time.Now()
	s.bodies(to(q), "a", "b")
	s.publish(to(q), &driver.Message{Body: []byte("c"), ID: "id", Headers: driver.Headers{"h": int64(7)}})
	for range 3 {
		b := s.read(reading(q, driver.FromFirst))
		s.reads(b, 1, "a", "b", "c")
		if b.First != 1 || b.End != 4 {
			s.Errorf("First %d and End %d, want 1 and 4", b.First, b.End)
		}
		m := b.Messages[2]
		if m.Message.ID != "id" || m.Message.Headers["h"] != int64(7) || m.Route != to(q) {
			s.Errorf("the message came as %+v, %+v", m.Route, m.Message)
		}
		if d := m.Stored.Sub(before); d < -time.Minute || d > time.Minute || m.Stored.Location() != time.UTC {
			s.Errorf("it was stored at %v, published at %v", m.Stored, before)
		}
	}
	s.counted(q, func(st driver.QueueStats) {
		if st.Ready != 3 || st.InFlight != 0 || st.Bytes != 3 || st.Published != 3 {
			s.Errorf("the statistics say %+v", st)
		}
	})
}

func streamFrom(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	for _, from := range []driver.From{driver.FromFirst, driver.FromLast, driver.FromNext} {
		s.reads(s.read(reading(q, from)), 1)
	}
	s.bodies(to(q), "a", "b", "c")
	s.reads(s.read(reading(q, driver.FromFirst)), 1, "a", "b", "c")
	s.reads(s.read(reading(q, driver.FromLast)), 3, "c")
	s.reads(s.read(reading(q, driver.FromNext)), 4)
	s.reads(s.read(at(q, 1)), 1, "a", "b", "c")
	s.reads(s.read(at(q, 2)), 2, "b", "c")
	s.reads(s.read(at(q, 4)), 4)
}

func streamTime(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	since := func(t time.Time) driver.StreamRequest {
		r := reading(q, driver.FromTime)
		r.Time = t
		return r
	}
	var stored []time.Time
	for i := range 5 {
		s.bodies(to(q), fmt.Sprint(i))
		stored = append(stored, s.read(reading(q, driver.FromLast)).Messages[0].Stored)
	}
	all := []string{"0", "1", "2", "3", "4"}
	s.reads(s.read(since(time.Unix(1, 0))), 1, all...)
	for i := range all {
		first := slices.IndexFunc(stored, func(t time.Time) bool { return !t.Before(stored[i]) })
		s.reads(s.read(since(stored[i])), uint64(first+1), all[first:]...)
	}
	// What is not as late yet is waited for; what is stored before is not it.
	ahead := since(time.Now().Add(time.Hour))
	if b := s.read(ahead); len(b.Messages) != 0 || b.Next != 0 {
		s.Errorf("from a time ahead it read %d messages, Next is %d", len(b.Messages), b.Next)
	}
	soon := since(stored[4].Add(300 * time.Millisecond))
	soon.Wait = s.h.Patience
	done := make(chan *driver.StreamBatch, 1)
	go func() {
		b, err := s.conn.ReadStream(s.ctx, &soon)
		if err != nil {
			b = &driver.StreamBatch{}
		}
		done <- b
	}()
	for {
		s.bodies(to(q), "more")
		select {
		case b := <-done:
			if len(b.Messages) == 0 || b.Messages[0].Stored.Before(soon.Time) {
				s.Fatalf("from %v it read %+v", soon.Time, b.Messages)
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func streamBounds(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	s.bodies(to(q), "four", "four", "four")
	r := reading(q, driver.FromFirst)
	r.Max = 2
	s.reads(s.read(r), 1, "four", "four")
	r.Max, r.MaxBytes = 3, 8
	s.reads(s.read(r), 1, "four", "four")
	r.MaxBytes = 7
	s.reads(s.read(r), 1, "four")
	r.MaxBytes = 1
	s.reads(s.read(r), 1, "four") // one is always returned
}

func streamGoesOn(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	s.bodies(to(q), "a")
	r := reading(q, driver.FromNext)
	r.Wait = 20 * time.Millisecond
	b := s.read(r)
	s.bodies(to(q), "between")
	s.reads(s.read(at(q, b.Next)), 2, "between")
}

func streamWakes(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	const readers = 8
	got := make(chan string, readers)
	for i := range readers {
		go func() {
			r := reading(q, driver.FromFirst)
			if i%2 == 1 && s.caps.Stats { // else nobody knows when it waits
				r.From = driver.FromNext
			}
			r.Wait = s.h.Patience
			b, err := s.conn.ReadStream(s.ctx, &r)
			if err != nil {
				got <- err.Error()
				return
			}
			var bs []string
			for _, m := range b.Messages {
				bs = append(bs, fmt.Sprint(m.Offset, string(m.Message.Body)))
			}
			got <- strings.Join(bs, " ")
		}()
	}
	if s.caps.Stats {
		s.eventually("all readers wait", func() bool {
			st, err := s.conn.Stats(s.ctx, &driver.StatsRequest{Queue: q})
			return err == nil && st[0].Consumers == readers
		})
	}
	began := time.Now()
	s.bodies(to(q), "a", "b")
	for range readers {
		if g := <-got; g != "1a 2b" {
			s.Errorf("a reader got %q", g)
		}
	}
	if took := time.Since(began); took > s.h.Patience/2 {
		s.Errorf("they woke after %v", took)
	}
}

// eventually waits until cond holds.
func (s *suite) eventually(what string, cond func() bool) {
	s.Helper()
	for end := time.Now().Add(s.h.Patience); !cond(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("not within %v: %s", s.h.Patience, what)
		}
	}
}

func streamEnded(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	r := reading(q, driver.FromNext)
	r.Wait = s.h.Patience
	ctx, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := s.conn.ReadStream(ctx, &r)
	s.is(err, context.DeadlineExceeded, "ReadStream past its context")
	if took := time.Since(began); took > s.h.Patience/2 {
		s.Errorf("it was let go after %v", took)
	}
	if s.caps.Stats {
		s.eventually("it waits no more", func() bool {
			st, err := s.conn.Stats(s.ctx, &driver.StatsRequest{Queue: q})
			return err == nil && st[0].Consumers == 0
		})
	}
}

func streamDeleted(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	failed := make(chan error, 1)
	go func() {
		r := reading(q, driver.FromNext)
		r.Wait = s.h.Patience
		_, err := s.conn.ReadStream(s.ctx, &r)
		failed <- err
	}()
	s.must(s.conn.Delete(s.ctx, &driver.DeleteRequest{Queue: q}), "Delete")
	s.is(<-failed, lease.ErrNotFound, "ReadStream of what was deleted")
	_, err := s.conn.ReadStream(s.ctx, &driver.StreamRequest{Queue: q, From: driver.FromFirst, Max: 1})
	s.is(err, lease.ErrNotFound, "ReadStream of what is not there")
	s.is(s.conn.SaveOffset(s.ctx, q, "c", 1), lease.ErrNotFound, "SaveOffset of what is not there")
}

func streamPastEnd(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	s.bodies(to(q), "a")
	past := at(q, 3)
	past.Wait = s.h.Patience
	_, err := s.conn.ReadStream(s.ctx, &past)
	s.field(err, "ReadStream past the end")
	s.field(s.conn.SaveOffset(s.ctx, q, "c", 3), "SaveOffset past the end")
	s.must(s.conn.SaveOffset(s.ctx, q, "c", 2), "SaveOffset of the end")
}

func streamLeasesNothing(s *suite) {
	q, ok := s.stream("q")
	if !ok {
		return
	}
	s.bodies(to(q), "a")
	r := s.request(q, 1)
	_, err := s.conn.Receive(s.ctx, &r)
	s.unsupported(err, "Receive from a stream")
	out, err := s.conn.Settle(s.ctx, []driver.Settlement{{Ref: driver.Ref{Queue: q, Seq: 1, Token: 1}, Verb: driver.Ack}})
	s.must(err, "Settle")
	s.unsupported(out[0].Err, "Settle on a stream")
	_, err = s.conn.Redrive(s.ctx, &driver.RedriveRequest{Queue: q})
	s.unsupported(err, "Redrive of a stream")
	s.reads(s.read(reading(q, driver.FromFirst)), 1, "a")

	work := s.queue("work")
	read := reading(work, driver.FromFirst)
	_, err = s.conn.ReadStream(s.ctx, &read)
	s.unsupported(err, "ReadStream of a queue")
	s.unsupported(s.conn.SaveOffset(s.ctx, work, "c", 1), "SaveOffset on a queue")
	if s.caps.Peek {
		peeked, err := s.conn.Peek(s.ctx, &driver.PeekRequest{Queue: q})
		s.must(err, "Peek")
		if len(peeked) != 1 || peeked[0].Seq != 1 || peeked[0].State != driver.Ready || peeked[0].Attempts != 0 {
			s.Errorf("Peek of a stream returned %+v", peeked)
		}
	}
}
