package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Receive implements driver.Conn. One that does not wait asks the brokers what
// there is, and answers when that was read.
func (c *conn) Receive(ctx context.Context, r *driver.ReceiveRequest) ([]driver.Delivery, error) {
	own := *r
	if err := own.Validate(&c.caps); err != nil {
		return nil, err
	}
	for {
		if c.isClosed() {
			return nil, lease.ErrClosed
		}
		s, err := c.source(ctx, own.Queue)
		if err != nil {
			return nil, err
		}
		ds, err := s.receive(ctx, &own)
		if errors.Is(err, errLeft) { // the last consumer has detached meanwhile
			continue
		}
		return ds, err
	}
}

func (s *source) receive(ctx context.Context, r *driver.ReceiveRequest) ([]driver.Delivery, error) {
	w := s.enter(r.Consumer)
	defer s.leave(w)
	if s.share != nil {
		if err := s.share.ask(w, r); err != nil {
			return nil, err
		}
	}
	if r.Wait == 0 {
		if err := s.sync(ctx, w); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return s.deliver(r)
	}
	timer := time.NewTimer(r.Wait)
	defer timer.Stop()
	for {
		ds, err := s.deliver(r)
		if len(ds) > 0 || err != nil {
			return ds, err
		}
		more, err := s.await(ctx, w, timer.C)
		if !more {
			return nil, err
		}
	}
}

// await waits until there may be something; more is false if it is not to be
// looked for.
func (s *source) await(ctx context.Context, w *waiter, over <-chan time.Time) (more bool, err error) {
	select {
	case <-w.wake:
		s.mu.Lock()
		defer s.mu.Unlock()
		return !w.gone, nil
	case <-over:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-s.c.ctx.Done():
		return false, lease.ErrClosed
	}
}

func (s *source) enter(consumer string) *waiter {
	w := &waiter{consumer: consumer, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters[w] = struct{}{}
	s.consumers[consumer] = true
	s.heard = time.Now()
	return w
}

func (s *source) leave(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiters, w)
	s.heard = time.Now()
}

// sync waits until all is read that is there now, in the partitions of this
// client. It gives up where others keep the group from deciding which those are.
func (s *source) sync(ctx context.Context, w *waiter) error {
	ctx, cancel := context.WithTimeout(ctx, s.c.o.Timeout)
	defer cancel()
	topics, err := s.awaitJoined(ctx, w)
	if topics == nil {
		return err
	}
	if s.share != nil {
		return s.share.sync(ctx, w)
	}
	ends, err := s.c.ends(ctx, topics...)
	if err != nil {
		if ctx.Err() != nil && context.Cause(ctx) != context.DeadlineExceeded { //nolint:errorlint // of this very context
			return context.Cause(ctx)
		}
		return s.failed(err)
	}
	over := time.NewTimer(s.c.o.Timeout)
	defer over.Stop()
	for !s.hasRead(ends) {
		if more, err := s.await(ctx, w, over.C); !more {
			if errors.Is(err, context.DeadlineExceeded) {
				return nil
			}
			return err
		}
	}
	return nil
}

// failed is why the source is of no use, or what went wrong otherwise.
func (s *source) failed(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return s.why
	}
	return named("queue", s.spec.Name, classify(err, lease.ErrUnavailable))
}

// awaitJoined waits until the group has decided, and returns the topics of which
// this client has partitions; none and no error if it did not decide in time.
func (s *source) awaitJoined(ctx context.Context, w *waiter) ([]string, error) {
	for {
		s.mu.Lock()
		joined, why := s.joined, s.why
		seen := map[string]bool{}
		var topics []string
		for at := range s.parts {
			if !seen[at.topic] {
				seen[at.topic] = true
				topics = append(topics, at.topic)
			}
		}
		s.mu.Unlock()
		if why != nil {
			return nil, why
		}
		if joined {
			return topics, nil
		}
		if more, err := s.await(ctx, w, nil); !more {
			if errors.Is(err, context.DeadlineExceeded) {
				err = nil
			}
			return nil, err
		}
	}
}

// hasRead reports whether what is before the ends was read, as far as there is
// room for it.
func (s *source) hasRead(ends map[string][]int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil || s.full {
		return true
	}
	for at, p := range s.parts {
		if es := ends[at.topic]; int(at.id) < len(es) && p.next < es[at.id] && !p.paused {
			return false
		}
	}
	return true
}

// deliver leases what is ready.
func (s *source) deliver(r *driver.ReceiveRequest) ([]driver.Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return nil, s.why
	}
	if s.ctx.Err() != nil {
		return nil, errLeft
	}
	var ds []driver.Delivery
	now := time.Now()
	size := 0
	for len(ds) < r.Max {
		e := s.next()
		if e == nil {
			break
		}
		if size += len(e.message.Body); size > r.MaxBytes && len(ds) > 0 {
			break
		}
		s.ready.drop()
		s.lend(e, r.Lease, now)
		ds = append(ds, driver.Delivery{
			Ref:     driver.Ref{Queue: s.spec.Name, Seq: uint64(e.token), Token: e.token},
			Message: e.message, Route: e.route, Attempt: e.attempts + 1, TTL: e.ttl, Age: max(0, now.Sub(e.published)),
		})
	}
	return ds, nil
}
