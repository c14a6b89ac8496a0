package lock

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Lease is a lock that is held. All methods may be called concurrently.
type Lease struct {
	locker  *Locker
	held    *lease.Held[driver.Ref]
	around  holding   // in the lease's context; unused in a LeaseSet
	set     *LeaseSet // that it is in, nil if none
	resumed bool
	given   atomic.Bool // Release was called
}

// Name returns the name of the lock.
func (le *Lease) Name() string { return le.held.Ref().Name }

// Holder returns the holder's id, named in the Options or made.
func (le *Lease) Holder() string { return le.held.Ref().Holder }

// Token returns the fencing token: larger than those of all grants of this
// name before.
func (le *Lease) Token() Token { return le.held.Ref().Token }

// Resumed reports whether Options.Resume found the holder's own grant.
func (le *Lease) Resumed() bool { return le.resumed }

// Context ends when the lease does; context.Cause says why: ErrReleased,
// ErrExpired, ErrLost, ErrRevoked, ErrBroken or ErrClosed. It has the values of
// the context given to Acquire, but does not end with it.
func (le *Lease) Context() context.Context { return le.held.Context() }

// Check returns nil while the lease is held, and otherwise why it ended. It
// reads the clock and does no I/O. It is right also just after the process was
// stopped or the machine suspended, when Context could not yet be ended.
func (le *Lease) Check() error { return le.held.Check() }

// Remaining returns the time to the local deadline, 0 once the lease has
// ended. A renewal moves the deadline.
func (le *Lease) Remaining() time.Duration {
	if le.held.Check() != nil {
		return 0
	}
	return max(0, le.held.Deadline().Sub(le.locker.clock.Now()))
}

// Renew gives the lease its TTL anew, in one attempt. The error matches the
// cause if the lease has ended; otherwise the lease goes on until its deadline
// and Renew may be called again.
func (le *Lease) Renew(ctx context.Context) error {
	if err := le.held.Check(); err != nil {
		return wrap("renew lock", le.Name(), err)
	}
	ctx, leave, err := le.locker.enter(ctx)
	if err == nil {
		defer leave()
		err = le.held.RenewNow(ctx)
	}
	return wrap("renew lock", le.Name(), err)
}

// Release ends the lease at once and gives the lock back. It is tried again
// until ctx ends; then the error matches ErrUnknown and it goes on in the
// background, as it does if ctx has ended before the call. ctx may be the
// lease's own, or come from it.
//
// The error matches ErrNotHeld, and the cause, if the lease had ended before:
// what was done under it may have overlapped with another holder's work.
func (le *Lease) Release(ctx context.Context) error {
	return wrap("release lock", le.Name(), le.release(ctx))
}

func (le *Lease) release(ctx context.Context) error {
	before := le.held.Check()
	live := ctx.Err() == nil
	if !le.held.End(ErrReleased) && before == nil {
		before = le.held.Check() // it ended in between
	}
	if le.set != nil {
		le.set.settle() // at once, for ctx may come from it
	}
	if !le.given.CompareAndSwap(false, true) {
		return notHeldFor(ErrReleased)
	}
	ctx, done := afterRelease(ctx, live)
	defer done()
	l := le.locker
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return notHeldFor(ErrClosed) // Close released it
	}
	defer leave()
	switch {
	case errors.Is(before, ErrLost) || errors.Is(before, ErrBroken):
		return notHeldFor(before) // the backend said so
	case before != nil:
		// The backend may hold it still: spare the next one the wait, but
		// do not pretend that it was held.
		l.releaseLater(le.held.Ref())
		return notHeldFor(before)
	}
	return l.giveBack(ctx, []driver.Ref{le.held.Ref()})
}

// afterRelease returns a context for giving back what has just ended. One that
// was live before, and hangs on the lease's own context, as that of Do's
// function does, has ended with it: another takes its place.
func afterRelease(ctx context.Context, live bool) (context.Context, context.CancelFunc) {
	if live && errors.Is(context.Cause(ctx), ErrReleased) {
		return context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	}
	return ctx, func() {}
}

// Committing says that a commit of package queue is under way that releases
// the lease at the backend if it is carried out. It is for that package to
// call. Until done is called, once, a renewal that finds the lease gone does
// not end it. With released the lease ends here as by Release; repeated says
// that the commit had been carried out before, maybe with an earlier lease of
// the name, so that this one is released in the background.
func (le *Lease) Committing() (done func(released, repeated bool)) {
	resolved := le.held.Doubt()
	return func(released, repeated bool) {
		if released {
			le.held.End(ErrReleased)
			if le.given.CompareAndSwap(false, true) && repeated {
				le.releaseAgain()
			}
		}
		resolved()
	}
}

// releaseAgain releases in the background what a commit of before may have
// left held.
func (le *Lease) releaseAgain() {
	_, leave, err := le.locker.enter(context.Background())
	if err != nil {
		return // Close has released it
	}
	defer leave()
	le.locker.releaseLater(le.held.Ref())
}

// releaseOnce releases one lease in one attempt.
func (l *Locker) releaseOnce(ctx context.Context, ref driver.Ref) error {
	outcomes, err := l.conn.Release(ctx, []driver.Ref{ref})
	if err == nil && len(outcomes) != 1 {
		err = fmt.Errorf("release of one lease got %d outcomes: %w", len(outcomes), ErrUnknown)
	}
	if err != nil {
		return err
	}
	return outcomes[0].Err
}

// releaseLater releases a lease in the background.
func (l *Locker) releaseLater(ref driver.Ref) {
	l.undo.add(undo{what: "grant", name: ref.Name, do: func(ctx context.Context) error {
		err := l.releaseOnce(ctx, ref)
		if errors.Is(err, ErrNotHeld) {
			return nil
		}
		return err
	}})
}
