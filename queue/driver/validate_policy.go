package driver

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
)

// needs returns lease.ErrUnsupported, naming the field, if it is used and the
// backend lacks the power.
func needs(has bool, field string, used bool) error {
	if has || !used {
		return nil
	}
	return fmt.Errorf("%s: %w", field, lease.ErrUnsupported)
}

// validatePolicy checks what bounds the life of messages and of the queue,
// and who may consume, and completes it.
func (q *Queue) validatePolicy(field string, c *Caps) error {
	for _, n := range [...]struct {
		has   bool
		field string
		used  bool
	}{
		{c.Priorities, ".max_priority", q.MaxPriority != 0},
		{c.MessageTTL, ".message_ttl", q.MessageTTL != 0},
		{c.QueueTTL, ".expires", q.Expires != 0},
		{c.MaxLength, ".max_length", q.MaxLength != 0},
		{c.MaxLength, ".max_bytes", q.MaxBytes != 0},
		{c.SingleActive, ".single_active", q.SingleActive},
		{c.Exclusive, ".exclusive", q.Exclusive},
		{c.AutoDelete, ".auto_delete", q.AutoDelete},
	} {
		if err := needs(n.has, field+n.field, n.used); err != nil {
			return err
		}
	}
	if q.MaxPriority > MaxPriority {
		return lease.Invalidf(field+".max_priority", "must be 0 to %d, is %d", MaxPriority, q.MaxPriority)
	}
	if err := validDuration(field+".message_ttl", q.MessageTTL, 0, MaxDelay); err != nil {
		return err
	}
	if q.Expires != 0 {
		if err := validDuration(field+".expires", q.Expires, MinExpires, MaxDelay); err != nil {
			return err
		}
	}
	return q.validateLength(field)
}

func (q *Queue) validateLength(field string) error {
	if err := validCount(field+".max_length", q.MaxLength); err != nil {
		return err
	}
	if err := validCount(field+".max_bytes", q.MaxBytes); err != nil {
		return err
	}
	bounded := q.MaxLength > 0 || q.MaxBytes > 0
	switch q.Overflow {
	case "":
		if bounded {
			q.Overflow = RejectPublish
		}
	case RejectPublish, DropHead:
		if !bounded {
			return lease.Invalidf(field+".overflow", "needs max_length or max_bytes")
		}
	default:
		return lease.Invalidf(field+".overflow", "must be reject or drop_head, is %q", q.Overflow)
	}
	return nil
}

func validCount(field string, n int64) error {
	if n < 0 || n > MaxQueueLength {
		return lease.Invalidf(field, "must be 0 to %d, is %d", int64(MaxQueueLength), n)
	}
	return nil
}

// validateStream refuses what a stream does not do: it leases nothing.
func (q *Queue) validateStream(field string, c *Caps) error {
	if err := needs(c.Streams, field+".type", true); err != nil {
		return err
	}
	for _, n := range [...]struct {
		field string
		used  bool
	}{
		{"lease", q.Lease != 0},
		{"delivery_limit", q.DeliveryLimit != 0},
		{"dead_letter", q.DeadLetter != nil},
		{"backoff", q.Backoff != Backoff{}},
		{"max_priority", q.MaxPriority != 0},
		{"message_ttl", q.MessageTTL != 0},
		{"max_length", q.MaxLength != 0},
		{"max_bytes", q.MaxBytes != 0},
		{"overflow", q.Overflow != ""},
		{"single_active", q.SingleActive},
		{"expires", q.Expires != 0},
		{"exclusive", q.Exclusive},
		{"auto_delete", q.AutoDelete},
	} {
		if n.used {
			return lease.Invalidf(field+"."+n.field, "is not for streams: they keep messages as retention says, and lease nothing")
		}
	}
	if err := validDuration(field+".dedup_window", q.DedupWindow, 0, MaxDedupWindow); err != nil {
		return err
	}
	if err := validDuration(field+".retention.age", q.Retention.Age, 0, MaxRetentionAge); err != nil {
		return err
	}
	if err := validCount(field+".retention.messages", q.Retention.Messages); err != nil {
		return err
	}
	return validCount(field+".retention.bytes", q.Retention.Bytes)
}
