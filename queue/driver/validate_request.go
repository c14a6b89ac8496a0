package driver

import (
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Validate checks a request and fills in defaults.
func (r *ReceiveRequest) Validate(c *Caps) error {
	if err := ValidateQueueName("queue", r.Queue); err != nil {
		return err
	}
	if err := ValidateConsumer("consumer", r.Consumer); err != nil {
		return err
	}
	if r.Max < 1 || r.Max > MaxReceive {
		return lease.Invalidf("max", "must be 1 to %d, is %d", MaxReceive, r.Max)
	}
	if r.MaxBytes == 0 {
		r.MaxBytes = MaxReceiveBytes
	}
	if r.MaxBytes < 0 || r.MaxBytes > MaxReceiveBytes {
		return lease.Invalidf("max_bytes", "must be 1 to %d, is %d", MaxReceiveBytes, r.MaxBytes)
	}
	if r.Ahead < 0 || r.Ahead > MaxAhead {
		return lease.Invalidf("ahead", "must be 0 to %d, is %d", MaxAhead, r.Ahead)
	}
	if err := validDuration("wait", r.Wait, 0, MaxWait); err != nil {
		return err
	}
	if r.Lease == 0 {
		return nil
	}
	return validDuration("lease", r.Lease, c.MinLease, c.MaxLease)
}

// ValidateSettlements checks what is passed to Settle.
func ValidateSettlements(ss []Settlement, c *Caps) error {
	if len(ss) > MaxBatch {
		return lease.Invalidf("settlements", "must be at most %d, are %d", MaxBatch, len(ss))
	}
	for i := range ss {
		if err := ss[i].Validate(c); err != nil {
			return inBatch(err, "settlements", i, len(ss))
		}
	}
	return nil
}

// Validate checks a settlement.
func (s *Settlement) Validate(c *Caps) error {
	if s.Verb < Ack || s.Verb > Extend {
		return lease.Invalidf("verb", "must be ack, nack, release, reject or extend")
	}
	if err := ValidateQueueName("queue", s.Ref.Queue); err != nil {
		return err
	}
	if err := validDuration("delay", s.Delay, 0, MaxDelay); err != nil {
		return err
	}
	if len(s.Reason) > MaxReason || !utf8.ValidString(s.Reason) {
		return lease.Invalidf("reason", "must be UTF-8 of at most %d bytes, has %d", MaxReason, len(s.Reason))
	}
	if s.Verb == Extend && s.TTL != 0 {
		return validDuration("ttl", s.TTL, c.MinLease, c.MaxLease)
	}
	return nil
}

// Validate checks a request.
func (r *DeleteRequest) Validate() error {
	named := 0
	if r.Exchange != "" {
		named++
	}
	if r.Queue != "" {
		named++
	}
	if r.Binding != nil {
		named++
	}
	if named != 1 {
		return lease.Invalidf("delete", "must name exactly one exchange, queue or binding, names %d", named)
	}
	if r.Exchange != "" {
		return lease.ValidateText("exchange", r.Exchange, 1, MaxName)
	}
	if r.Queue != "" {
		return ValidateQueueName("queue", r.Queue)
	}
	b := *r.Binding
	return b.validate("binding")
}

// Validate checks a request.
func (r *StatsRequest) Validate() error {
	if r.Queue != "" {
		return ValidateQueueName("queue", r.Queue)
	}
	if err := lease.ValidateText("prefix", r.Prefix, 0, MaxName); err != nil {
		return err
	}
	if err := lease.ValidateText("after", r.After, 0, MaxName); err != nil {
		return err
	}
	return validMax(r.Max, MaxList)
}

// Validate checks a request.
func (r *PeekRequest) Validate() error {
	if err := ValidateQueueName("queue", r.Queue); err != nil {
		return err
	}
	return validMax(r.Max, MaxPeek)
}

// Validate checks a request.
func (r *RedriveRequest) Validate() error {
	if err := ValidateQueueName("queue", r.Queue); err != nil {
		return err
	}
	if r.To != nil {
		if err := r.To.validate("to"); err != nil {
			return err
		}
	}
	return validMax(r.Max, MaxRedrive)
}

func validMax(n, most int) error {
	if n < 0 || n > most {
		return lease.Invalidf("max", "must be 1 to %d, or 0 for the default, is %d", most, n)
	}
	return nil
}

// inBatch names the element of a batch that a FieldError is about.
func inBatch(err error, field string, i, n int) error {
	var f *lease.FieldError
	if n == 1 || !errors.As(err, &f) {
		return err
	}
	return &lease.FieldError{Field: field + "[" + strconv.Itoa(i) + "]." + f.Field, Reason: f.Reason}
}
