package queuetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var receiveChecks = []check{
	{"first in, first out", receiveFIFO},
	{"of nothing, returns nothing at once", receiveNothing},
	{"waits no longer than asked", receiveWait},
	{"a publish wakes it", receiveWakes},
	{"MaxBytes bounds it", receiveMaxBytes},
	{"an ended context leaks nothing", receiveCancelled},
	{"consumers share the work", receiveShared},
	{"a leased message is nobody else's", receiveExclusive},
	{"Detach leaves the deliveries leased", receiveDetach},
	{"after Close everything is ErrClosed", receiveClosed},
	{"Close ends a wait", receiveCloseWakes},
}

func receiveFIFO(s *suite) {
	q := s.queue("q")
	var all []string
	for i := range 50 {
		var batch []string
		for j := range 10 {
			batch = append(batch, fmt.Sprintf("%d.%d", i, j))
		}
		s.bodies(to(q), batch...)
		all = append(all, batch...)
	}
	var last driver.Delivery
	for i, d := range s.receive(q, len(all)) {
		if s.caps.FIFO && string(d.Message.Body) != all[i] {
			s.Fatalf("message %d is %q, want %q", i, d.Message.Body, all[i])
		}
		if s.caps.FIFO && i > 0 && d.Seq <= last.Seq {
			s.Fatalf("message %d has number %d after %d", i, d.Seq, last.Seq)
		}
		if d.Attempt != 1 || d.Token == 0 || d.Queue != q || d.TTL <= 0 || d.Age < 0 || d.Waited < 0 {
			s.Fatalf("message %d: %+v", i, d)
		}
		last = d
		s.ack(d)
	}
	s.none(q)
}

func receiveNothing(s *suite) {
	q := s.queue("q")
	began := time.Now()
	s.none(q)
	if took := time.Since(began); took > s.h.Patience/3 {
		s.Errorf("a Receive without Wait took %v", took)
	}
}

func receiveWait(s *suite) {
	q := s.queue("q")
	r := s.request(q, 1)
	r.Wait = 200 * time.Millisecond
	began := time.Now()
	if ds := s.fetch(r); len(ds) != 0 {
		s.Fatalf("got %d messages from an empty queue", len(ds))
	}
	if took := time.Since(began); took < r.Wait/2 || took > r.Wait+s.h.Patience/3 {
		s.Errorf("a Receive with a Wait of %v took %v", r.Wait, took)
	}
}

func receiveWakes(s *suite) {
	q := s.queue("q")
	publisher := s.open()
	quick := 0
	const rounds = 5
	for i := range rounds {
		type result struct {
			ds  []driver.Delivery
			at  time.Time
			err error
		}
		got := make(chan result, 1)
		go func() {
			r := s.request(q, 1)
			r.Wait = s.h.Patience
			ds, err := s.conn.Receive(s.ctx, &r)
			got <- result{ds, time.Now(), err}
		}()
		_, err := publisher.Publish(s.ctx, []driver.Publishing{{Route: to(q), Message: body(fmt.Sprint(i))}})
		s.must(err, "Publish")
		sent := time.Now()
		r := <-got
		s.must(r.err, "Receive")
		if len(r.ds) != 1 || string(r.ds[0].Message.Body) != fmt.Sprint(i) {
			s.Fatalf("a waiting Receive returned %d messages", len(r.ds))
		}
		if r.at.Sub(sent) < 250*time.Millisecond {
			quick++
		}
		s.ack(r.ds[0])
	}
	// A loaded machine may be late now and then; one that polls always is.
	if quick == 0 {
		s.Errorf("none of %d publishes woke a waiting Receive within 250 ms", rounds)
	}
}

func receiveMaxBytes(s *suite) {
	q := s.queue("q")
	for range 4 {
		s.publish(to(q), &driver.Message{Body: make([]byte, 100)})
	}
	for _, c := range []struct{ maxBytes, want int }{{1, 1}, {99, 1}, {100, 1}, {101, 1}, {199, 1}, {200, 2}, {201, 2}, {0, 4}} {
		r := s.request(q, 10)
		r.MaxBytes = c.maxBytes
		ds := s.fetch(r)
		if len(ds) != c.want {
			s.Errorf("MaxBytes %d returned %d messages of 100 bytes, want %d", c.maxBytes, len(ds), c.want)
		}
		for _, d := range ds {
			s.settle(driver.Settlement{Ref: d.Ref, Verb: driver.Release})
		}
	}
}

// Whatever a Receive was leased when its context ended is handed back: the
// message is there for others, in its place, at its first attempt.
func receiveCancelled(s *suite) {
	q := s.queue("q")
	for i := range 30 {
		ctx, cancel := context.WithCancel(s.ctx)
		type result struct {
			ds  []driver.Delivery
			err error
		}
		got := make(chan result, 1)
		go func() {
			r := s.request(q, 1)
			r.Wait = s.h.Patience
			ds, err := s.conn.Receive(ctx, &r)
			got <- result{ds, err}
		}()
		want := fmt.Sprint(i)
		if i%2 == 0 {
			cancel() // before the publish; otherwise they race
		} else {
			go cancel()
		}
		s.bodies(to(q), want)
		r := <-got
		cancel()
		if r.err == nil && len(r.ds) == 1 { // the message was first
			s.ack(r.ds[0])
			continue
		}
		if r.err != nil && !errors.Is(r.err, context.Canceled) {
			s.Fatalf("a Receive whose context ended returned %v", r.err)
		}
		d := s.one(q, want)
		if d.Attempt != 1 && d.Attempt != s.handed(true) {
			s.Fatalf("a message that nobody got is delivered as attempt %d", d.Attempt)
		}
		s.ack(d)
	}
}

func receiveShared(s *suite) {
	const consumers, messages = 8, 400
	q := s.queue("q")
	var all []string
	for i := range messages {
		all = append(all, fmt.Sprint(i))
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range consumers {
		conn := s.open()
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				ds, err := conn.Receive(s.ctx, &driver.ReceiveRequest{
					Queue: q, Consumer: fmt.Sprintf("c%d", i), Max: 7, Wait: 50 * time.Millisecond,
				})
				if err != nil {
					s.Errorf("Receive: %v", err)
					return
				}
				for _, d := range ds {
					out, err := conn.Settle(s.ctx, []driver.Settlement{{Ref: d.Ref, Verb: driver.Ack}})
					if err != nil || out[0].Err != nil {
						s.Errorf("Settle: %v %v", out, err)
						return
					}
					mu.Lock()
					seen[string(d.Message.Body)]++
					if len(seen) == messages {
						select {
						case <-done:
						default:
							close(done)
						}
					}
					mu.Unlock()
				}
			}
		})
	}
	s.bodies(to(q), all...)
	select {
	case <-done:
	case <-time.After(s.h.Patience):
		s.Errorf("the consumers got %d of %d messages", len(seen), messages)
		close(done)
	}
	wg.Wait()
	for b, n := range seen {
		if n != 1 {
			s.Errorf("message %s was handled %d times", b, n)
		}
	}
	s.none(q)
}

func receiveExclusive(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	d := s.one(q, "a")
	other := s.open()
	for _, consumer := range []string{"suite", "other"} {
		ds, err := other.Receive(s.ctx, &driver.ReceiveRequest{Queue: q, Consumer: consumer, Max: 10})
		if err != nil || len(ds) != 0 {
			s.Errorf("consumer %q got %d leased messages, error %v", consumer, len(ds), err)
		}
	}
	s.ack(d)
}

func receiveDetach(s *suite) {
	q := s.queue("q")
	s.bodies(to(q), "a")
	d := s.one(q, "a")
	s.must(s.conn.Detach(s.ctx, q, "suite"), "Detach")
	s.none(q)
	s.ack(d)
	s.must(s.conn.Detach(s.ctx, q, "suite"), "second Detach")
}

func receiveClosed(s *suite) {
	q := s.queue("q")
	c := s.h.Open(s.T)
	s.must(c.Close(), "Close")
	s.must(c.Close(), "second Close")
	r := s.request(q, 1)
	_, err := c.Receive(s.ctx, &r)
	s.is(err, lease.ErrClosed, "Receive")
	_, err = c.Publish(s.ctx, []driver.Publishing{{Route: to(q), Message: body("x")}})
	s.is(err, lease.ErrClosed, "Publish")
	_, err = c.Settle(s.ctx, []driver.Settlement{{Ref: driver.Ref{Queue: q, Seq: 1, Token: 1}, Verb: driver.Ack}})
	s.is(err, lease.ErrClosed, "Settle")
	_, err = c.Topology(s.ctx)
	s.is(err, lease.ErrClosed, "Topology")
	s.none(q)
}

func receiveCloseWakes(s *suite) {
	q := s.queue("q")
	c := s.h.Open(s.T)
	got := make(chan error, 1)
	go func() {
		r := s.request(q, 1)
		r.Wait = s.h.Patience
		_, err := c.Receive(s.ctx, &r)
		got <- err
	}()
	began := time.Now()
	s.must(c.Close(), "Close")
	s.is(<-got, lease.ErrClosed, "a Receive under way at Close")
	if took := time.Since(began); took > s.h.Patience/2 {
		s.Errorf("Close left the Receive waiting for %v", took)
	}
}
