package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/lockkeeper/lockkeeper/lease"
)

// neverDone are errors after which a request was certainly not carried out.
var neverDone = []error{zk.ErrNoServer, zk.ErrSessionExpired, zk.ErrSessionMoved}

// codes of replies that the client has no name for.
const (
	codeQuota     = "-125"
	codeThrottled = "-127"
)

// classify gives an error of the client the sentinel that says what became of
// the call. writes: it may have changed something.
func classify(err error, writes bool) error {
	kind := lease.ErrUnavailable
	switch {
	case err == nil:
		return nil
	case isOurs(err):
		return err
	case errors.Is(err, zk.ErrNoAuth), errors.Is(err, zk.ErrAuthFailed):
		kind = lease.ErrDenied
	case errors.Is(err, zk.ErrInvalidACL):
		kind = lease.ErrDenied // creator without a user
	case strings.HasSuffix(err.Error(), codeQuota):
		kind = lease.ErrNoSpace
	case isOneOf(err, neverDone), strings.HasSuffix(err.Error(), codeThrottled):
	case writes:
		kind = lease.ErrUnknown
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// isOurs reports whether err has a sentinel already.
func isOurs(err error) bool {
	return isOneOf(err, []error{
		lease.ErrInvalid, lease.ErrUnsupported, lease.ErrConflict, lease.ErrNotHeld, lease.ErrLimit, lease.ErrUnknown,
		lease.ErrUnavailable, lease.ErrNoSpace, lease.ErrDenied, lease.ErrClosed, lease.ErrRevoked, lease.ErrBroken,
		errHeld, errAlreadyHeld,
	})
}

func isOneOf(err error, targets []error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// lost reports whether the connection was, so that what became of the call is
// not known.
func lost(err error) bool { return errors.Is(classify(err, true), lease.ErrUnknown) }

// result is what a task returns.
type result[T any] struct {
	v   T
	err error
}

// do runs f, whose calls take no context, as a task of its own. If ctx ends
// first the task goes on, and what it does is not known to the caller.
func do[T any](ctx context.Context, c *conn, what string, writes bool, f func() (T, error)) (T, error) {
	var none T
	if c.isClosed() {
		return none, lease.ErrClosed
	}
	if ctx.Err() != nil {
		return none, fmt.Errorf("%w: %w", lease.ErrUnavailable, context.Cause(ctx))
	}
	done := make(chan result[T], 1)
	started := c.work.Start(func() {
		v, err := f()
		done <- result[T]{v, err}
	})
	if !started {
		return none, lease.ErrClosed
	}
	select {
	case r := <-done:
		if r.err != nil && c.isClosed() {
			return none, fmt.Errorf("%w: %w", lease.ErrClosed, lease.ErrUnknown)
		}
		return r.v, classify(r.err, writes)
	case <-ctx.Done():
		kind := lease.ErrUnavailable
		if writes {
			kind = lease.ErrUnknown
		}
		err := context.Cause(ctx)
		if c.link != nil && c.link.lastError() != nil {
			err = fmt.Errorf("%w: %w", err, c.link.lastError())
		}
		return none, fmt.Errorf("%w: %s: %w", kind, what, err)
	case <-c.closed:
		return none, fmt.Errorf("%w: %w", lease.ErrClosed, lease.ErrUnknown)
	}
}
