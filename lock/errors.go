package lock

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Errors; compare with errors.Is. Package lease says more about the shared
// ones.
var (
	ErrHeld        = driver.ErrHeld        // TryAcquire: the name is not free
	ErrAlreadyHeld = driver.ErrAlreadyHeld // this holder, or a lease around this call, holds or awaits the name already
	ErrDeadlock    = driver.ErrDeadlock    // it waited in a circle; a *DeadlockError says in which
	ErrInvalid     = lease.ErrInvalid      // the request breaks a documented rule; nothing was done
	ErrUnsupported = lease.ErrUnsupported  // this backend cannot do it
	ErrNotFound    = lease.ErrNotFound     // Info: nobody holds or awaits the name
	ErrConflict    = lease.ErrConflict     // the name is in use with another number of permits
	ErrNotHeld     = lease.ErrNotHeld      // the lease is not the live one; nothing was changed
	ErrLimit       = lease.ErrLimit        // a bound on what may exist at once is reached
	ErrUnknown     = lease.ErrUnknown      // it may or may not have been carried out
	ErrUnavailable = lease.ErrUnavailable  // the backend cannot serve; it was not carried out
	ErrNoSpace     = lease.ErrNoSpace      // the store's disk is full
	ErrDenied      = lease.ErrDenied       // credentials refused
	ErrClosed      = lease.ErrClosed       // the Locker was closed

	// Causes for which a lease's context ends, besides ErrClosed.
	ErrReleased = lease.ErrReleased // Release was called
	ErrExpired  = lease.ErrExpired  // its local deadline passed without a renewal
	ErrLost     = lease.ErrLost     // the backend said that it is not held any more
	ErrRevoked  = lease.ErrRevoked  // an operator refused its further renewal
	ErrBroken   = lease.ErrBroken   // an operator gave the name away at once
)

// wrap adds the operation and the name: the one place where errors of drivers
// get their context.
func wrap(op, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case name == "":
		return fmt.Errorf("%s: %w", op, err)
	default:
		return fmt.Errorf("%s %q: %w", op, name, err)
	}
}

// transient reports whether the same request may succeed if it is repeated.
func transient(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown)
}

// nothingDone reports whether err says that the request left no trace.
func nothingDone(err error) bool {
	for _, target := range [...]error{
		ErrHeld, ErrAlreadyHeld, ErrDeadlock, ErrInvalid, ErrUnsupported, ErrConflict, ErrLimit,
		ErrUnavailable, ErrNoSpace, ErrDenied,
	} {
		if errors.Is(err, target) && !errors.Is(err, ErrUnknown) {
			return true
		}
	}
	return false
}

// ended returns why a context did, as both its Err and its cause.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(cause, ErrClosed):
		return ErrClosed
	case errors.Is(cause, err):
		return cause
	default:
		return fmt.Errorf("%w: %w", err, cause)
	}
}

// notHeldFor is ErrNotHeld with the cause for which a lease has ended.
func notHeldFor(cause error) error { return fmt.Errorf("%w: %w", ErrNotHeld, cause) }
