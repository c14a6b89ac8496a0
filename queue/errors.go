package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Errors; compare with errors.Is. Package lease says more about the shared
// ones.
var (
	ErrInvalid     = lease.ErrInvalid     // a request breaks a documented rule; nothing was done
	ErrUnsupported = lease.ErrUnsupported // this backend cannot do it
	ErrNotFound    = lease.ErrNotFound    // the queue or exchange does not exist
	ErrConflict    = lease.ErrConflict    // what exists differs from what is declared
	ErrNotHeld     = lease.ErrNotHeld     // the delivery is settled, lost or overtaken; nothing was changed
	ErrLimit       = lease.ErrLimit       // a bound on what may exist at once is reached
	ErrUnknown     = lease.ErrUnknown     // it may or may not have been carried out
	ErrUnavailable = lease.ErrUnavailable // the backend cannot serve; it was not carried out
	ErrNoSpace     = lease.ErrNoSpace     // the store's disk is full
	ErrDenied      = lease.ErrDenied      // credentials refused
	ErrClosed      = lease.ErrClosed      // used after its Close
	ErrQueueFull   = driver.ErrQueueFull  // a queue that rejects is full; the message is in none
	ErrUnroutable  = driver.ErrUnroutable // the message matches no queue; it was not published
	ErrExclusive   = driver.ErrExclusive  // the queue belongs to another connection
	ErrInUse       = driver.ErrInUse      // what was to be deleted is not empty, or is bound

	// Causes for which a delivery's context ends, besides ErrClosed.
	ErrReleased = lease.ErrReleased // it was settled
	ErrExpired  = lease.ErrExpired  // its local deadline passed without an extension
	ErrLost     = lease.ErrLost     // the backend said that it is not held any more
)

// wrap adds the operation and the name it was about: the one place where
// errors of drivers get their context.
func wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if name == "" {
		return fmt.Errorf("%s: %w", op, err)
	}
	return fmt.Errorf("%s %q: %w", op, name, err)
}

// permanent reports whether asking again cannot help.
func permanent(err error) bool {
	for _, target := range [...]error{ErrNotFound, ErrDenied, ErrInvalid, ErrUnsupported, ErrClosed, ErrExclusive} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// overdue makes the error of a driver call that we gave up on ErrUnknown,
// unless the driver knows better. A caller that bounds a call with a context
// of its own cannot say whether it was carried out.
func overdue(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) || permanent(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}
