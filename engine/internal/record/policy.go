package record

import (
	"math/bits"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Fields of a queue's record since version 2, by their bit in the mask before
// them: one that is not there costs nothing. They are encoded in this order.
// New fields get new bits at the end; a program that does not know a bit
// refuses the record.
const (
	policyType = 1 << iota
	policyMaxPriority
	policyMessageTTL
	policyExpires
	policyMaxLength
	policyMaxBytes
	policyOverflow
	policySingleActive
	policyExclusive
	policyAutoDelete
	policyRetentionAge
	policyRetentionMessages
	policyRetentionBytes
	policyUnknownPolicy
)

// policyNumber is a field of a queue that is a number.
type policyNumber struct {
	bit  uint64
	name string
	at   *int64
}

func policyNumbers(s *queuedriver.Queue) [7]policyNumber {
	return [...]policyNumber{
		{policyMessageTTL, "message_ttl", (*int64)(&s.MessageTTL)},
		{policyExpires, "expires", (*int64)(&s.Expires)},
		{policyMaxLength, "max_length", &s.MaxLength},
		{policyMaxBytes, "max_bytes", &s.MaxBytes},
		{policyRetentionAge, "retention.age", (*int64)(&s.Retention.Age)},
		{policyRetentionMessages, "retention.messages", &s.Retention.Messages},
		{policyRetentionBytes, "retention.bytes", &s.Retention.Bytes},
	}
}

// policyFlag is a field of a queue that is there or not.
type policyFlag struct {
	bit uint64
	at  *bool
}

func policyFlags(s *queuedriver.Queue) [3]policyFlag {
	return [...]policyFlag{
		{policySingleActive, &s.SingleActive},
		{policyExclusive, &s.Exclusive},
		{policyAutoDelete, &s.AutoDelete},
	}
}

func policyMask(s *queuedriver.Queue) (mask uint64) {
	for _, f := range policyNumbers(s) {
		if *f.at != 0 {
			mask |= f.bit
		}
	}
	for _, f := range policyFlags(s) {
		if *f.at {
			mask |= f.bit
		}
	}
	if s.Type != "" {
		mask |= policyType
	}
	if s.MaxPriority != 0 {
		mask |= policyMaxPriority
	}
	if s.Overflow != "" {
		mask |= policyOverflow
	}
	return mask
}

// appendPolicy appends the mask, the texts and the priority, and the numbers.
func appendPolicy(b []byte, mask uint64, s *queuedriver.Queue) []byte {
	b = appendUint(b, mask)
	if mask&policyType != 0 {
		b = appendString(b, string(s.Type))
	}
	if mask&policyMaxPriority != 0 {
		b = append(b, s.MaxPriority)
	}
	if mask&policyOverflow != 0 {
		b = appendString(b, string(s.Overflow))
	}
	for _, f := range policyNumbers(s) {
		if mask&f.bit != 0 {
			b = appendInt(b, *f.at)
		}
	}
	return b
}

func (d *decoder) policy(s *queuedriver.Queue) {
	mask := d.uint("policy")
	if mask >= policyUnknownPolicy {
		d.failf("policy", "has field %d, which is not known to this program", bits.Len64(mask))
	}
	if mask&policyType != 0 {
		s.Type = queuedriver.QueueType(d.string("type"))
	}
	if mask&policyMaxPriority != 0 {
		s.MaxPriority = d.byte("max_priority")
	}
	if mask&policyOverflow != 0 {
		s.Overflow = queuedriver.Overflow(d.string("overflow"))
	}
	for _, f := range policyNumbers(s) {
		if mask&f.bit != 0 {
			*f.at = d.int(f.name)
		}
	}
	for _, f := range policyFlags(s) {
		*f.at = mask&f.bit != 0
	}
	if d.err == nil && (mask == 0 || policyMask(s) != mask) {
		d.failf("policy", "has a field that is there but empty")
	}
}
