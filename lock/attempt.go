package lock

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// attempt is one request on its way to a grant.
type attempt struct {
	l       *Locker
	r       *driver.Request
	waiting bool // it has a place in the line, and waits next
	left    bool // the backend may know of it
	unknown bool // whether it is in the line or granted is not known
}

// run asks and waits until the request is granted or has failed for good. It
// returns the grant and its local deadline.
func (a *attempt) run(ctx context.Context) (*driver.Grant, lease.Instant, error) {
	for failures := 0; ; {
		sent := a.l.clock.Now()
		waits := a.waiting
		g, err := a.step(ctx)
		switch {
		case err == nil && g != nil:
			return g, lease.Deadline(sent, a.l.clock.Now(), g.Waited, g.TTL), nil
		case ctx.Err() != nil:
			return nil, 0, a.fail(ended(ctx))
		case err == nil:
			failures = 0
		case !transient(err) && !a.forgotten(err) && !(waits && displaced(err)):
			return nil, 0, a.fail(err)
		default:
			a.l.logger.Debug("request for a lock failed", "name", a.r.Name, "err", err)
			if failures++; !a.r.Queue && failures == tryAttempts {
				return nil, 0, a.fail(err)
			}
			if !backoff(ctx, failures-1) {
				return nil, 0, a.fail(ended(ctx))
			}
		}
	}
}

// step makes one call: Wait if there is a place to wait in, and otherwise, or
// after a Wait without a grant, Acquire with the ticket. Neither result means
// that the next step is due.
func (a *attempt) step(ctx context.Context) (*driver.Grant, error) {
	if a.waiting {
		a.waiting = false
		return a.l.conn.Wait(ctx, a.r, a.r.Ticket)
	}
	g, ticket, err := a.l.conn.Acquire(ctx, a.r)
	switch {
	case err != nil:
		if !nothingDone(err) {
			a.left, a.unknown = true, true
		}
	case ticket != nil:
		a.r.Ticket = ticket
		a.waiting, a.left, a.unknown = true, true, false
	case g == nil:
		a.left = true
		err = fmt.Errorf("driver returned neither grant nor ticket: %w", ErrUnknown)
	}
	return g, err
}

// forgotten reports whether err refuses the request's ticket. The store that
// recorded the place is not there any more (a memory that was lost, another
// store under the same URL): the ticket is dropped, so that the next attempt
// gets in line anew.
func (a *attempt) forgotten(err error) bool {
	var f *lease.FieldError
	if a.r.Ticket == nil || !errors.As(err, &f) || f.Field != "ticket" {
		return false
	}
	a.r.Ticket, a.waiting = nil, false
	return true
}

// displaced reports whether err says that a wait was ended by another one of
// the same request: one that was thought lost with its connection and reached
// the backend late. The place is there still, and the next attempt finds it, or
// finds out that it belongs to somebody else.
func displaced(err error) bool { return errors.Is(err, ErrAlreadyHeld) }

// fail withdraws what may be left and returns err with a word on that.
func (a *attempt) fail(err error) error {
	if !a.left {
		return err
	}
	a.l.withdraw(a.r)
	if a.unknown {
		return fmt.Errorf("%w (%w; the request is being withdrawn)", err, ErrUnknown)
	}
	return fmt.Errorf("%w (the request is being withdrawn)", err)
}
