package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

const (
	// DefaultDrainTimeout is how long handlers may go on after Serve's
	// context ended.
	DefaultDrainTimeout = 30 * time.Second
	// MaxConcurrency bounds ServeOptions.Concurrency.
	MaxConcurrency = 10_000
)

// errDraining is why handlers that outlast the drain are cancelled.
var errDraining = fmt.Errorf("drain timeout passed: %w", ErrClosed)

// Handler handles one delivery. ctx is the delivery's: it carries the trace
// context of the message and ends when the lease is lost, and also when the
// drain of Serve takes too long.
//
// What it returns settles the delivery, unless the handler has settled it
// itself: nil acks; RetryAfter asks for another attempt after a time; Reject
// dead-letters at once; ErrRelease hands the message back uncounted; any
// other error, and a panic, asks for another attempt after the queue's
// backoff, or dead-letters after the last. On a backend that cannot delay
// what failed (Caps.DelayedNack) the next attempt is made at once.
type Handler func(ctx context.Context, d *Delivery) error

// ServeOptions of Serve; nil and zero values work.
type ServeOptions struct {
	Concurrency  int           // handlers at once, up to MaxConcurrency; 0: 1
	Prefetch     int           // leased ahead, at least Concurrency; 0: 2 x Concurrency
	Lease        time.Duration // of a delivery, extended while its handler runs; 0: the queue's
	Consumer     string        // id, for the operator's eye; "": made
	DrainTimeout time.Duration // how long handlers may go on after ctx ended; 0: DefaultDrainTimeout
}

// Serve handles the messages of a queue until ctx ends. It then hands back
// what no handler has, lets the running handlers finish for DrainTimeout,
// cancels those that are left, releases the messages of those that return
// an error then, and returns nil. It waits for every handler: releasing the
// message of one that ignores its context would have it handled twice at
// once.
//
// Failures that may pass are waited out and logged. One that cannot, such as
// ErrNotFound, ends Serve in the same way, and is returned.
func (b *Broker) Serve(ctx context.Context, queue string, h Handler, o *ServeOptions) error {
	if o == nil {
		o = &ServeOptions{}
	}
	n := orDefault(o.Concurrency, 1)
	if h == nil {
		return wrap("serve", queue, lease.Invalidf("handler", "is missing"))
	}
	if n > MaxConcurrency {
		return wrap("serve", queue, lease.Invalidf("concurrency", "must be at most %d, is %d", MaxConcurrency, n))
	}
	c, err := b.Consumer(ctx, queue, &ConsumerOptions{
		Prefetch: max(orDefault(o.Prefetch, 2*n), n),
		Lease:    o.Lease,
		Consumer: o.Consumer,
	})
	if err != nil {
		return err
	}
	s := &serving{b: b, c: c, handler: h}
	s.drained, s.cancel = context.WithCancelCause(context.Background())
	defer s.cancel(nil)
	var workers sync.WaitGroup
	s.hands = make([]hand, n)
	for i := range s.hands {
		workers.Go(func() { s.work(ctx, &s.hands[i]) })
	}
	select {
	case <-ctx.Done():
	case <-c.failed:
	}
	drain := o.DrainTimeout
	if drain <= 0 {
		drain = DefaultDrainTimeout
	}
	timer := time.AfterFunc(drain, s.tooLong)
	defer timer.Stop()
	if err := c.Close(); err != nil {
		b.log.Warn("could not hand back; leases run out instead", "queue", queue, "error", err)
	}
	workers.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return wrap("serve", queue, c.failure())
}

// failure returns why no more deliveries come, once that is known.
func (c *Consumer) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// serving is one Serve.
type serving struct {
	b       *Broker
	c       *Consumer
	handler Handler
	drained context.Context // ends when the drain has taken too long
	cancel  context.CancelCauseFunc
	hands   []hand // of the workers
}

// hand is what a worker has in it: the delivery whose handler runs. It is put
// there and taken out again for next to nothing; waiting on drained for each,
// or a context between its own and the handler's, would cost more than all the
// rest.
type hand struct {
	mu sync.Mutex
	d  *Delivery // nil: no handler runs
}

func (h *hand) hold(d *Delivery) {
	h.mu.Lock()
	h.d = d
	h.mu.Unlock()
}

// tooLong cancels the handlers that run, and those that begin later.
func (s *serving) tooLong() {
	s.cancel(errDraining)
	for i := range s.hands {
		h := &s.hands[i]
		h.mu.Lock()
		if h.d != nil {
			h.d.held.Interrupt(errDraining)
		}
		h.mu.Unlock()
	}
}

// work handles one delivery after another until there are no more.
func (s *serving) work(ctx context.Context, h *hand) {
	one := make([]*Delivery, 0, 1)
	for {
		ds, err := s.c.receive(ctx, one, 1)
		if err != nil {
			return // Serve knows why, from ctx or from the consumer
		}
		d := ds[0]
		ds[0] = nil // or who waits for the next one keeps this one
		s.handle(d, h)
	}
}

func (s *serving) handle(d *Delivery, h *hand) {
	h.hold(d)
	defer h.hold(nil)
	if s.drained.Err() != nil { // before the hand had it
		d.held.Interrupt(context.Cause(s.drained))
	}
	err := s.call(d.Context(), d)
	v := verdictOf(err)
	if !s.b.caps.DelayedNack {
		v.delay, v.backoff = 0, false
	}
	if err != nil && s.drained.Err() != nil {
		v = ReleaseVerdict() // it failed because we made it
	}
	if d.state.Load() == deliverySettled && d.settledByOwner() {
		return
	}
	s.settle(d, v)
}

// settledByOwner reports whether the lease ended because it was settled here,
// as opposed to lost.
func (d *Delivery) settledByOwner() bool {
	return errors.Is(d.held.Check(), ErrReleased)
}

// call runs the handler and turns a panic into an error.
func (s *serving) call(ctx context.Context, d *Delivery) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
			s.b.log.Error("handler panicked", "queue", d.Queue, "seq", d.ref.Seq, "attempt", d.Attempt,
				"panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	return s.handler(ctx, d)
}

// settle settles d, again while the outcome is unknown: the token makes a
// repeat harmless. What cannot be settled, each attempt being bounded by
// Config.RetryFor and the repeats by the drain, is let go: it comes back when
// its lease has run out.
func (s *serving) settle(d *Delivery, v Verdict) {
	var p pauses
	for first := true; ; first = false {
		err := d.Settle(context.Background(), v)
		switch {
		case err == nil:
			return
		case errors.Is(err, ErrNotHeld):
			if first { // otherwise an earlier attempt was carried out, most likely
				s.b.log.Warn("handled, but no longer held: it is delivered again",
					"queue", d.Queue, "seq", d.ref.Seq, "attempt", d.Attempt, "error", err)
			}
			return
		case (errors.Is(err, ErrUnknown) || errors.Is(err, ErrUnavailable)) && sleep(s.drained, s.b.closing, p.next()):
			continue
		}
		s.b.log.Error("could not settle: it is delivered again", "queue", d.Queue, "seq", d.ref.Seq,
			"verdict", v.String(), "error", err)
		d.end(err)
		return
	}
}
