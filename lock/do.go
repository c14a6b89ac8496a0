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
func (l *Locker) Do(ctx context.Context, name string, o *Options, fn func(ctx context.Context, l *Lease) error) (err error) {
	le, err := l.Acquire(ctx, name, o)
	if err != nil {
		return err
	}
	fnCtx, cancel := context.WithCancelCause(le.Context())
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer func() {
		stop()
		cancel(context.Canceled)
		lost := le.finish(ctx)
		switch {
		case err == nil:
			err = lost
		case lost != nil:
			err = errors.Join(err, lost)
		}
	}()
	return fn(fnCtx, le)
}

// finish releases the lease at the end of Do and returns an error if it was
// lost before. That fn released it by itself is no loss, and neither is a
// release that goes on in the background: the lease was held all the while.
func (le *Lease) finish(ctx context.Context) error {
	if errors.Is(le.Check(), ErrReleased) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	err := le.Release(ctx)
	if errors.Is(err, ErrNotHeld) {
		return err
	}
	if err != nil {
		le.locker.logger.Warn("release of a lock failed", "name", le.Name(), "err", err)
	}
	return nil
}
