package lock

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// tryAttempts is how often TryAcquire asks a backend that does not answer.
const tryAttempts = 3

// Acquire waits for its turn and returns the lease. ctx bounds the waiting and
// not the lease, and lends the lease's context its values.
//
// When ctx ends, the error matches what ctx says; the request is withdrawn in
// the background. ErrInvalid, ErrConflict, ErrAlreadyHeld, ErrLimit,
// ErrUnsupported, ErrDenied and ErrNoSpace are final; a backend that is away is
// tried again until ctx ends.
func (l *Locker) Acquire(ctx context.Context, name string, o *Options) (*Lease, error) {
	le, err := l.acquire(ctx, name, o, true)
	return le, wrap("acquire lock", name, err)
}

// TryAcquire returns the lease if the name is free, and ErrHeld otherwise. It
// does not wait in line. A backend that is away is tried a few times: then the
// error matches ErrUnavailable, or ErrUnknown if the request may have reached
// it; it is withdrawn in the background.
func (l *Locker) TryAcquire(ctx context.Context, name string, o *Options) (*Lease, error) {
	le, err := l.acquire(ctx, name, o, false)
	return le, wrap("try to acquire lock", name, err)
}

func (l *Locker) acquire(ctx context.Context, name string, o *Options, queue bool) (*Lease, error) {
	if o == nil {
		o = &Options{}
	}
	r, err := o.request(name, l.nextID(), &l.caps)
	if err != nil {
		return nil, err
	}
	r.Queue = queue
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	for {
		if ctx.Err() != nil {
			return nil, ended(ctx)
		}
		a := attempt{l: l, r: r}
		grant, deadline, err := a.run(ctx)
		if err != nil {
			return nil, err
		}
		le, err := l.take(ctx, r, grant, deadline, o)
		if le != nil || err != nil {
			return le, err
		}
		// The grant had run out before it was known here. It is given up:
		// the next request is a new one.
		again := *r
		again.ID, again.Ticket = l.nextID(), nil
		if o.Holder == "" {
			again.Holder = again.ID
		}
		r = &again
	}
}

// take makes a Lease of a grant. One whose deadline has passed is renewed
// first; if that fails it is withdrawn, and the result is nil and nil.
func (l *Locker) take(ctx context.Context, r *driver.Request, g *driver.Grant, deadline lease.Instant, o *Options) (*Lease, error) {
	ref := driver.Ref{Name: r.Name, Holder: r.Holder, Token: g.Token, TTL: r.TTL}
	ttl := g.TTL
	if l.clock.Now() >= deadline {
		sent := l.clock.Now()
		outcomes, err := l.conn.Renew(ctx, []driver.Ref{ref})
		if err != nil || len(outcomes) != 1 || outcomes[0].Err != nil {
			return nil, l.giveUp(ctx, r)
		}
		ttl = outcomes[0].TTL
		deadline = lease.Deadline(sent, l.clock.Now(), 0, ttl)
	}
	le := &Lease{locker: l, resumed: g.Resumed}
	le.held = l.keeper.Hold(ctx, ref, ttl, deadline, !o.NoRenew)
	switch err := le.held.Check(); {
	case err == nil:
		return le, nil
	case errors.Is(err, ErrClosed):
		l.withdraw(r)
		return nil, err
	default:
		return nil, l.giveUp(ctx, r)
	}
}

// giveUp cancels a request whose grant came too late, so that another can be
// made in its place. Like the request, it outlasts a backend that is away.
func (l *Locker) giveUp(ctx context.Context, r *driver.Request) error {
	err := l.conn.Cancel(ctx, r)
	for failures := 1; err != nil && transient(err) && (r.Queue || failures < tryAttempts); failures++ {
		if !backoff(ctx, failures-1) {
			break
		}
		err = l.conn.Cancel(ctx, r)
	}
	if err == nil {
		return nil
	}
	l.withdraw(r)
	if ctx.Err() != nil {
		err = ended(ctx)
	}
	return fmt.Errorf("%w: granted too late, and not yet withdrawn: %w", ErrUnknown, err)
}

// withdraw cancels a request in the background.
func (l *Locker) withdraw(r *driver.Request) {
	l.undo.add(undo{what: "request", name: r.Name, do: func(ctx context.Context) error {
		return l.conn.Cancel(ctx, r)
	}})
}
