package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lockkeeper/lockkeeper/lease"
)

// serverKinds says what an answer of a server means. All of these come before
// it has done anything.
var serverKinds = map[error]error{
	rpctypes.ErrNoSpace: lease.ErrNoSpace, rpctypes.ErrRequestTooLarge: lease.ErrLimit,
	rpctypes.ErrPermissionDenied: lease.ErrDenied, rpctypes.ErrAuthFailed: lease.ErrDenied,
	rpctypes.ErrUserEmpty: lease.ErrDenied, rpctypes.ErrInvalidAuthToken: lease.ErrDenied,
	rpctypes.ErrNoLeader: lease.ErrUnavailable, rpctypes.ErrTooManyRequests: lease.ErrUnavailable,
	rpctypes.ErrNotCapable: lease.ErrUnavailable, rpctypes.ErrAuthOldRevision: lease.ErrUnavailable,
	rpctypes.ErrUnhealthy: lease.ErrUnavailable,
}

// unsent are words of errors of connections that could not be made: nothing
// was sent over them.
var unsent = []string{
	"connection refused", "no connection available", "no address available", "error while dialing",
	"error reading server preface", "authentication handshake failed", "no children to pick from",
	"name resolver", "produced zero addresses",
}

// classify gives an error of the client the sentinel that says what became of
// the call. writes: the call may have changed something.
func classify(err error, writes bool) error {
	if err == nil {
		return nil
	}
	err = rpctypes.Error(err)
	for known, kind := range serverKinds {
		if errors.Is(err, known) {
			return fmt.Errorf("%w: %w", kind, err)
		}
	}
	var answer rpctypes.EtcdError
	if errors.As(err, &answer) && answer.Code() != codes.Unavailable {
		return err
	}
	if status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max") {
		return fmt.Errorf("%w: %w", lease.ErrLimit, err) // the client did not send it
	}
	if !writes || neverSent(err) {
		return fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", lease.ErrUnknown, err)
}

// neverSent reports whether no connection could be had.
func neverSent(err error) bool {
	if s, ok := status.FromError(err); !ok || s.Code() != codes.Unavailable {
		return false
	}
	text := strings.ToLower(err.Error())
	for _, words := range unsent {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// isGone reports whether a lease was not there any more.
func isGone(err error) bool { return errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound) }

// endedBefore says that the caller's ctx ended before a call was sent.
func endedBefore(ctx context.Context) error {
	return fmt.Errorf("%w: %w", lease.ErrUnavailable, context.Cause(ctx))
}

// failed says what an error means, to the conn and to the caller.
func (c *conn) failed(ctx context.Context, err error, writes bool) error {
	switch {
	case err == nil:
		return nil
	case c.isClosed() && writes:
		return fmt.Errorf("%w: %w", lease.ErrClosed, lease.ErrUnknown)
	case c.isClosed():
		return lease.ErrClosed
	case ctx.Err() != nil:
		return classify(fmt.Errorf("%w: %w", context.Cause(ctx), err), writes)
	default:
		return classify(err, writes)
	}
}
