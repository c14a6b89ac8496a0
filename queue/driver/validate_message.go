package driver

import (
	"github.com/lockkeeper/lockkeeper/lease"
)

// ValidateBatch checks what is passed to Publish.
func ValidateBatch(ps []Publishing) error {
	if len(ps) > MaxBatch {
		return lease.Invalidf("messages", "must be at most %d, are %d", MaxBatch, len(ps))
	}
	size := 0
	for i := range ps {
		if err := ps[i].Validate(); err != nil {
			return inBatch(err, "messages", i, len(ps))
		}
		size += len(ps[i].Message.Body)
	}
	if size > MaxBatchBytes {
		return lease.Invalidf("messages", "must have bodies of at most %d bytes together, have %d", MaxBatchBytes, size)
	}
	return nil
}

// Validate checks everything about a publishing that does not depend on the
// state of the backend. Headers must have been normalized.
func (p *Publishing) Validate() error {
	if err := p.Route.validate("route"); err != nil {
		return err
	}
	if p.Message == nil {
		return lease.Invalidf("message", "is missing")
	}
	return p.Message.validate()
}

func (r *Route) validate(field string) error {
	// The names are put together where they are needed: this is called for
	// each message.
	if lease.ValidateText("", r.Exchange, 0, MaxName) != nil {
		return lease.ValidateText(field+".exchange", r.Exchange, 0, MaxName)
	}
	if lease.ValidateText("", r.Key, 0, MaxKey) != nil {
		return lease.ValidateText(field+".key", r.Key, 0, MaxKey)
	}
	return nil
}

func (m *Message) validate() error {
	texts := [...]struct {
		field, s string
		most     int
	}{
		{"message.id", m.ID, MaxID},
		{"message.order_key", m.OrderKey, MaxOrderKey},
		{"message.content_type", m.ContentType, MaxProperty},
		{"message.content_encoding", m.ContentEncoding, MaxProperty},
		{"message.correlation_id", m.CorrelationID, MaxProperty},
		{"message.reply_to", m.ReplyTo, MaxProperty},
		{"message.type", m.Type, MaxProperty},
		{"message.app_id", m.AppID, MaxProperty},
		{"message.user_id", m.UserID, MaxProperty},
	}
	for _, t := range texts {
		if t.s == "" {
			continue
		}
		if err := lease.ValidateText(t.field, t.s, 0, t.most); err != nil {
			return err
		}
	}
	if len(m.Body) > MaxBody {
		return lease.Invalidf("message.body", "must be at most %d bytes, has %d", MaxBody, len(m.Body))
	}
	if m.Priority > MaxPriority {
		return lease.Invalidf("message.priority", "must be 0 to %d, is %d", MaxPriority, m.Priority)
	}
	if err := validDuration("message.ttl", m.TTL, 0, MaxDelay); err != nil {
		return err
	}
	if err := validDuration("message.delay", m.Delay, 0, MaxDelay); err != nil {
		return err
	}
	if m.Delay > 0 && !m.NotBefore.IsZero() {
		return lease.Invalidf("message.delay", "excludes message.not_before: set one of them")
	}
	if !m.NotBefore.IsZero() && (m.NotBefore.Year() < 1970 || m.NotBefore.Year() > 2200) {
		return lease.Invalidf("message.not_before", "must be in the years 1970 to 2200, is in %d", m.NotBefore.Year())
	}
	if len(m.Headers) == 0 {
		return nil
	}
	return m.Headers.Validate("message.headers")
}
