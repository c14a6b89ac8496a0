package kafka

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// sourceAlone is a source that reads nothing, with one partition.
func sourceAlone(span int64) (*source, *partition) {
	const topic = "alone"
	c := &conn{o: &Options{Span: span, Buffer: minBuffer}}
	s := &source{
		c: c, spec: &driver.Queue{Name: topic, Lease: time.Hour}, topic: topic, feeds: map[string]*feed{topic: {}},
		parts: map[place]*partition{}, lanes: map[string]*lane{}, held: map[lease.Token]*entry{},
		room: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
	}
	s.leases.init()
	s.assigned(context.Background(), nil, map[string][]int32{topic: {0}})
	return s, s.parts[place{topic, 0}]
}

// readSome has a source read so many messages from its partition.
func (s *source) readSome(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rs := make([]*kgo.Record, n)
	for i := range rs {
		rs[i] = &kgo.Record{Topic: s.topic, Offset: int64(i), Value: []byte("body")}
	}
	s.take(s.topic, 0, rs)
}

// TestNoBurialWhileGivenUp: a message that waits to be dead-lettered when its
// partition is given up is left to who gets that: what is in flight only
// becomes less.
func TestNoBurialWhileGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p := sourceAlone(minSpan)
		s.c.work.Close() // nothing is sent
		s.readSome(1)
		s.mu.Lock()
		e := s.pickOne()
		e.bury = driver.ReasonDeliveryLimit
		s.again(e, time.Second)
		p.idle = make(chan struct{}) // as revoked does
		close(p.idle)
		s.mu.Unlock()
		time.Sleep(time.Minute) //nolint:forbidigo // of the test's own clock
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.held != 0 {
			t.Errorf("%d in flight of a partition that is given up", p.held)
		}
		s.dropParts([]*partition{p}) // it would tell twice that nothing is in flight
	})
}

// pickOne takes the entry that is ready; mu is held.
func (s *source) pickOne() *entry {
	e := s.next()
	s.ready.drop()
	return e
}

// TestPausedPartitionComesBack: a partition that was paused when it went to
// others is read again when it comes back: the client remembers what is paused
// whoever has it.
func TestPausedPartitionComesBack(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(*source, map[string][]int32){
		"lost": func(s *source, parts map[string][]int32) { s.lost(t.Context(), nil, parts) },
		"drop": func(s *source, _ map[string][]int32) { s.abandon(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := sourceAlone(1)
			cl, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1")) // nothing is asked of it
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			s.cl = cl
			s.readSome(3)
			if !p.paused || len(cl.PauseFetchPartitions(nil)) != 1 {
				t.Fatal("the partition is not paused past its span")
			}
			give(s, map[string][]int32{p.topic: {p.id}})
			if paused := cl.PauseFetchPartitions(nil); len(paused) > 0 {
				t.Errorf("paused still: %v", paused)
			}
		})
	}
}

// TestNothingIsKeptOfLostPartition: what was read and not delivered takes no
// memory any more when its partition is gone, also if nobody receives.
func TestNothingIsKeptOfLostPartition(t *testing.T) {
	t.Parallel()
	s, p := sourceAlone(minSpan)
	for range 10 {
		s.readSome(20)
		s.mu.Lock()
		first, second := s.pickOne(), s.pickOne()
		s.offer(second)
		s.offer(first) // they come back
		s.mu.Unlock()
		s.lost(t.Context(), nil, map[string][]int32{p.topic: {p.id}})
		if n := len(s.ready.line) - s.ready.head + len(s.ready.back); n > 0 || s.size != 0 {
			t.Fatalf("%d entries of %d bytes are kept", n, s.size)
		}
		s.assigned(t.Context(), nil, map[string][]int32{p.topic: {p.id}})
	}
}
