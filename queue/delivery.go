package queue

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Delivery is a lease on a message: the right to handle it, until it is
// settled or lost. Settle it once.
type Delivery struct {
	Message *Message // not to be changed
	Route   Route    // as it was published
	Queue   string
	Attempt int           // 1 at first; hand-backs do not count
	Age     time.Duration // since it was published, when it was received

	b     *Broker
	c     *Consumer
	ref   driver.Ref
	held  lease.Held[driver.Ref]
	state atomic.Uint32
}

// owned is a Delivery as its lease sees it.
type owned Delivery

// States of a delivery. It leaves deliverySettled never.
const (
	deliveryOpen     = iota
	deliverySettling // a Settle is under way
	deliverySettled  // or lost: it does not count against the prefetch any more
)

// Token returns the fencing token: larger for every later delivery of the
// same message.
func (d *Delivery) Token() Token { return d.ref.Token }

// Seq returns the message's number within its queue.
func (d *Delivery) Seq() uint64 { return d.ref.Seq }

// Context returns the context of the lease: it has the values of the context
// that the consumer was made with and the trace context of the message, and
// ends when the delivery is settled or lost, and under Serve also when its
// drain takes too long. context.Cause says why.
func (d *Delivery) Context() context.Context { return d.held.Context() }

// Check returns nil while the delivery is held, and otherwise why it ended. It
// reads the clock and does no I/O: a process that was stopped for a while
// learns of a loss from Check before its context has had the time to end.
func (d *Delivery) Check() error { return d.held.Check() }

// Ack is Settle with AckVerdict.
func (d *Delivery) Ack(ctx context.Context) error { return d.Settle(ctx, AckVerdict()) }

// Settle ends the delivery. If it is not held any more the error is
// ErrNotHeld and nothing was changed. An attempt that was certainly not
// carried out is made again while the delivery is held, until ctx ends or
// Config.RetryFor has passed. After ErrUnknown, or when ctx ended first, the
// delivery may be settled again with the same verdict: if the first attempt
// was carried out after all, that is ErrNotHeld. While one Settle is under
// way another is ErrConflict.
func (d *Delivery) Settle(ctx context.Context, v Verdict) error {
	st := v.settlement(d.ref)
	if st.Verb == driver.Extend {
		st.Verb = 0
	}
	if err := st.Validate(&d.b.caps); err != nil {
		return wrap(v.String(), d.Queue, err)
	}
	if !d.state.CompareAndSwap(deliveryOpen, deliverySettling) {
		if d.state.Load() == deliverySettling {
			return wrap(v.String(), d.Queue, fmt.Errorf("%w: another call is settling it", ErrConflict))
		}
		return wrap(v.String(), d.Queue, d.notHeld())
	}
	err := d.b.retry(ctx, d.b.retryFor, func() error {
		if d.held.Check() != nil {
			return d.notHeld()
		}
		return d.b.settler.settle(ctx, st).Err
	})
	switch {
	case err == nil:
		d.end(ErrReleased)
	case errors.Is(err, ErrNotHeld):
		d.end(ErrLost)
	default:
		d.state.CompareAndSwap(deliverySettling, deliveryOpen)
	}
	return wrap(v.String(), d.Queue, err)
}

// notHeld is ErrNotHeld with the reason for which the lease ended, if that
// has been noticed.
func (d *Delivery) notHeld() error {
	if err := d.held.Check(); err != nil && !errors.Is(err, ErrNotHeld) {
		return fmt.Errorf("%w: %w", ErrNotHeld, err)
	}
	return ErrNotHeld
}

// Extend leases the delivery anew for t, counted from now, and for t at each
// extension after that; 0 keeps the lease's own length. Deliveries are
// extended by themselves unless ConsumerOptions.NoExtend says otherwise.
// ErrNotHeld if the delivery is not held any more; after any other error it
// is still held until its deadline.
func (d *Delivery) Extend(ctx context.Context, t time.Duration) error {
	st := driver.Settlement{Ref: d.ref, Verb: driver.Extend, TTL: t}
	if err := st.Validate(&d.b.caps); err != nil {
		return wrap("extend", d.Queue, err)
	}
	if !d.b.caps.Extend {
		return wrap("extend", d.Queue, ErrUnsupported)
	}
	if d.held.Check() != nil {
		return wrap("extend", d.Queue, d.notHeld())
	}
	if t > 0 {
		d.held.SetTTL(t)
	}
	err := d.held.RenewNow(ctx)
	if err != nil && d.held.Check() != nil {
		err = d.notHeld()
	}
	return wrap("extend", d.Queue, err)
}

// end ends the lease on this side and makes room for another delivery.
func (d *Delivery) end(cause error) {
	if d.state.Swap(deliverySettled) != deliverySettled {
		d.c.leave()
	}
	d.held.End(cause)
}

// LeaseEnded is called when the lease has ended, but for end. It is not in the
// API of a Delivery: that is what owned is for.
func (d *owned) LeaseEnded(cause error) {
	if d.state.Swap(deliverySettled) == deliverySettled {
		return
	}
	d.c.leave()
	d.b.log.Warn("delivery lost", "queue", d.Queue, "seq", d.ref.Seq, "token", d.ref.Token,
		"attempt", d.Attempt, "cause", cause)
}
