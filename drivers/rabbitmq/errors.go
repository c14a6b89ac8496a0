package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// codes says what a broker's refusal means. A refused request was not carried
// out.
var codes = map[int]error{
	amqp.NotFound:           lease.ErrNotFound,
	amqp.AccessRefused:      lease.ErrDenied,
	amqp.ResourceLocked:     driver.ErrExclusive,
	amqp.PreconditionFailed: lease.ErrConflict,
	amqp.NotImplemented:     lease.ErrUnsupported,
	amqp.ConnectionForced:   lease.ErrUnavailable,
	amqp.ContentTooLarge:    lease.ErrLimit,
	amqp.ResourceError:      lease.ErrLimit,
}

// classify gives an error of the client the sentinel that says what became of
// the request; lost is what it is if the connection went away.
func classify(err, lost error) error {
	if err == nil {
		return nil
	}
	for _, known := range [...]error{
		lease.ErrUnavailable, lease.ErrUnknown, lease.ErrClosed, lease.ErrNotFound, lease.ErrConflict, lease.ErrInvalid,
		lease.ErrUnsupported, lease.ErrDenied, lease.ErrLimit, lease.ErrNotHeld, driver.ErrInUse, driver.ErrExclusive,
	} {
		if errors.Is(err, known) {
			return err
		}
	}
	var e *amqp.Error
	if errors.As(err, &e) && e.Server {
		if kind := codes[e.Code]; kind != nil {
			return fmt.Errorf("%w: %s", kind, e.Reason)
		}
	}
	return fmt.Errorf("%w: %w", lost, err)
}

// has reports whether err is a refusal of the broker with that code.
func has(err error, code int) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Code == code
}

// dialFailed says why there is no connection.
func dialFailed(err error) error {
	var e *amqp.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	}
	switch {
	case e.Code == amqp.NotAllowed && strings.Contains(e.Reason, "not found"):
		return fmt.Errorf("%w: %s", lease.ErrNotFound, e.Reason)
	case e.Code == amqp.NotAllowed, e.Code == amqp.AccessRefused:
		return fmt.Errorf("%w: %s", lease.ErrDenied, e.Reason)
	}
	return fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
}

// ended says that the caller's ctx ended before anything was sent.
func ended(ctx context.Context) error {
	return fmt.Errorf("%w: %w", lease.ErrUnavailable, context.Cause(ctx))
}

func isNotFound(err error) bool { return errors.Is(err, lease.ErrNotFound) }
