package lock

import (
	"context"
	"errors"
	"time"
)

// releaseTime bounds the release at the end of Do. What is not released by
// then is released in the background.
const releaseTime = 5 * time.Second

// Do runs fn while holding name, and releases it when fn returns or panics.
// fn's context ends with the lease, with its cause, and with ctx.
//
// fn's error is returned as it is. If the lease was lost while fn ran, the
// error matches ErrNotHeld and the cause as well, also if fn returned nil: what
// fn did may have overlapped with another holder's work.
func (l *Locker) Do(ctx context.Context, name string, o *Options, fn func(ctx context.Context, l *Lease) error) error {
	le, err := l.Acquire(ctx, name, o)
	if err != nil {
		return err
	}
	return l.during(ctx, le, func(ctx context.Context) error { return fn(ctx, le) })
}

// DoAll is Do for several names at once, see AcquireAll.
func (l *Locker) DoAll(ctx context.Context, names []string, o *Options, fn func(ctx context.Context, s *LeaseSet) error) error {
	set, err := l.AcquireAll(ctx, names, o)
	if err != nil {
		return err
	}
	return l.during(ctx, set, func(ctx context.Context) error { return fn(ctx, set) })
}

// tenure is a Lease or a LeaseSet.
type tenure interface {
	Context() context.Context
	Check() error
	Release(ctx context.Context) error
}

// during runs fn and then releases what was held for it.
func (l *Locker) during(ctx context.Context, held tenure, fn func(ctx context.Context) error) (err error) {
	fnCtx, cancel := context.WithCancelCause(held.Context())
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer func() {
		stop()
		cancel(context.Canceled)
		lost := l.finish(ctx, held)
		switch {
		case err == nil:
			err = lost
		case lost != nil:
			err = errors.Join(err, lost)
		}
	}()
	return fn(fnCtx)
}

// finish releases at the end of Do and returns an error if what was held was
// lost before. That fn released it by itself is no loss, and neither is a
// release that goes on in the background: it was held all the while.
func (l *Locker) finish(ctx context.Context, held tenure) error {
	if errors.Is(held.Check(), ErrReleased) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	err := held.Release(ctx)
	if errors.Is(err, ErrNotHeld) {
		return err
	}
	if err != nil {
		l.logger.Warn("release of a lock failed", "err", err)
	}
	return nil
}
