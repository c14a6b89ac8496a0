package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// refusals says what a broker's refusal means. A refused request was not
// carried out.
var refusals = []struct{ err, means error }{
	{kerr.UnknownTopicOrPartition, lease.ErrNotFound},
	{kerr.UnknownTopicID, lease.ErrNotFound},
	{kerr.TopicAuthorizationFailed, lease.ErrDenied},
	{kerr.GroupAuthorizationFailed, lease.ErrDenied},
	{kerr.ClusterAuthorizationFailed, lease.ErrDenied},
	{kerr.SaslAuthenticationFailed, lease.ErrDenied},
	{kerr.UnsupportedSaslMechanism, lease.ErrDenied},
	{kerr.IllegalSaslState, lease.ErrDenied},
	{kerr.MessageTooLarge, lease.ErrLimit},
	{kerr.RecordListTooLarge, lease.ErrLimit},
	{kerr.PolicyViolation, lease.ErrDenied},
	{kerr.InvalidTopicException, lease.ErrInvalid},
	{kerr.InvalidReplicationFactor, lease.ErrInvalid},
	{kerr.InvalidSessionTimeout, lease.ErrInvalid},
	{kerr.UnsupportedVersion, lease.ErrUnsupported},
	{kgo.ErrClientClosed, lease.ErrClosed},
}

// classify gives an error of the client the sentinel that says what became of
// the request; lost is what it is if that is not known.
func classify(err, lost error) error {
	if err == nil {
		return nil
	}
	for _, known := range [...]error{
		lease.ErrUnavailable, lease.ErrUnknown, lease.ErrClosed, lease.ErrNotFound, lease.ErrConflict, lease.ErrInvalid,
		lease.ErrUnsupported, lease.ErrDenied, lease.ErrLimit, lease.ErrNotHeld, driver.ErrInUse,
	} {
		if errors.Is(err, known) {
			return err
		}
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return fmt.Errorf("%w: %w", r.means, err)
		}
	}
	return fmt.Errorf("%w: %w", lost, err)
}

// ended says that the caller's ctx ended before anything was sent.
func ended(ctx context.Context) error {
	return fmt.Errorf("%w: %w", lease.ErrUnavailable, context.Cause(ctx))
}

func named(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q: %w", what, name, err)
}

func isNotFound(err error) bool { return errors.Is(err, lease.ErrNotFound) }
