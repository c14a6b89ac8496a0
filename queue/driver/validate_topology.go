package driver

import (
	"strconv"
	"strings"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Validate checks everything about a topology that does not depend on the
// state of the backend, and fills in defaults, so that equal declarations
// compare equal.
func (t *Topology) Validate(c *Caps) error {
	if n := len(t.Exchanges) + len(t.Queues) + len(t.Bindings); n > MaxDeclare {
		return lease.Invalidf("topology", "must have at most %d parts, has %d", MaxDeclare, n)
	}
	for i := range t.Exchanges {
		if err := t.Exchanges[i].validate("exchanges["+strconv.Itoa(i)+"]", c); err != nil {
			return err
		}
	}
	if err := t.validateAlternates(); err != nil {
		return err
	}
	for i := range t.Queues {
		if err := t.Queues[i].validate("queues["+strconv.Itoa(i)+"]", c); err != nil {
			return err
		}
	}
	for i := range t.Bindings {
		field := "bindings[" + strconv.Itoa(i) + "]"
		if err := t.Bindings[i].validate(field); err != nil {
			return err
		}
		if err := needs(c.ExchangeBindings, field+".to_exchange", t.Bindings[i].ToExchange != ""); err != nil {
			return err
		}
	}
	return nil
}

// validateAlternates refuses circles: none of them could be deleted. They are
// within one declaration, for an alternate exists before its exchange does.
func (t *Topology) validateAlternates() error {
	next := make(map[string]string)
	for i := range t.Exchanges {
		if e := &t.Exchanges[i]; e.Alternate != "" {
			next[e.Name] = e.Alternate
		}
	}
	walk := make(map[string]int) // exchanges by which walk came to them first
	for i := range t.Exchanges {
		for name := t.Exchanges[i].Name; next[name] != ""; name = next[name] {
			if walk[name] == i+1 {
				return lease.Invalidf("exchanges["+strconv.Itoa(i)+"].alternate", "leads back to exchange %q", name)
			}
			if walk[name] != 0 {
				break
			}
			walk[name] = i + 1
		}
	}
	return nil
}

func (e *Exchange) validate(field string, c *Caps) error {
	if err := lease.ValidateText(field+".name", e.Name, 1, MaxName); err != nil {
		return err
	}
	if strings.HasPrefix(e.Name, ReservedExchangeNames) {
		return lease.Invalidf(field+".name", "must not begin with %q, which is reserved", ReservedExchangeNames)
	}
	if e.Alternate != "" {
		if err := lease.ValidateText(field+".alternate", e.Alternate, 1, MaxName); err != nil {
			return err
		}
		if e.Alternate == e.Name {
			return lease.Invalidf(field+".alternate", "must be another exchange")
		}
		if err := needs(c.Alternate, field+".alternate", true); err != nil {
			return err
		}
	}
	switch e.Kind {
	case Direct, Fanout, Topic, HeadersKind:
		return nil
	}
	return lease.Invalidf(field+".kind", "must be direct, fanout, topic or headers, is %q", e.Kind)
}

func (q *Queue) validate(field string, c *Caps) error {
	if err := ValidateQueueName(field+".name", q.Name); err != nil {
		return err
	}
	if q.Type == Stream {
		return q.validateStream(field, c)
	}
	if q.Type != WorkQueue {
		return lease.Invalidf(field+".type", `must be "" or stream, is %q`, q.Type)
	}
	if q.Retention != (Retention{}) {
		return lease.Invalidf(field+".retention", "is for streams: give type stream, or max_length and message_ttl")
	}
	if err := q.validateLeases(field, c); err != nil {
		return err
	}
	return q.validatePolicy(field, c)
}

// validateLeases checks what is about deliveries and their ends.
func (q *Queue) validateLeases(field string, c *Caps) error {
	if q.Lease == 0 {
		q.Lease = min(max(DefaultLease, c.MinLease), c.MaxLease)
	}
	if err := validDuration(field+".lease", q.Lease, c.MinLease, c.MaxLease); err != nil {
		return err
	}
	if q.DeliveryLimit < 0 || q.DeliveryLimit > MaxDeliveryLimit {
		return lease.Invalidf(field+".delivery_limit", "must be 0 to %d, is %d", MaxDeliveryLimit, q.DeliveryLimit)
	}
	if q.DeadLetter == nil && q.DeliveryLimit > 0 {
		return lease.Invalidf(field+".delivery_limit", "needs a dead_letter: without one, messages past the limit would be lost")
	}
	if q.DeadLetter != nil {
		if err := q.DeadLetter.validate(field + ".dead_letter"); err != nil {
			return err
		}
		if q.DeadLetter.Exchange == "" && (q.DeadLetter.Key == "" || q.DeadLetter.Key == q.Name) {
			return lease.Invalidf(field+".dead_letter", "must name another queue by its key when the exchange is the default one")
		}
		if q.DeliveryLimit == 0 {
			q.DeliveryLimit = DefaultDeliveryLimit
		}
	}
	if q.Backoff.Min == 0 {
		q.Backoff.Min = DefaultBackoffMin
		if q.Backoff.Max > 0 {
			q.Backoff.Min = min(q.Backoff.Min, q.Backoff.Max)
		}
	}
	if q.Backoff.Max == 0 {
		q.Backoff.Max = max(DefaultBackoffMax, q.Backoff.Min)
	}
	if err := validDuration(field+".backoff.max", q.Backoff.Max, 0, MaxDelay); err != nil {
		return err
	}
	if err := validDuration(field+".backoff.min", q.Backoff.Min, 0, q.Backoff.Max); err != nil {
		return err
	}
	return validDuration(field+".dedup_window", q.DedupWindow, 0, MaxDedupWindow)
}

func (b *Binding) validate(field string) error {
	if b.Exchange == DefaultExchange {
		return lease.Invalidf(field+".exchange", "must be named: every queue is bound to the default exchange already")
	}
	if err := lease.ValidateText(field+".exchange", b.Exchange, 1, MaxName); err != nil {
		return err
	}
	switch {
	case b.ToExchange == "":
		if err := ValidateQueueName(field+".queue", b.Queue); err != nil {
			return err
		}
	case b.Queue != "":
		return lease.Invalidf(field+".to_exchange", "excludes queue: a binding leads to one of them")
	default:
		if err := lease.ValidateText(field+".to_exchange", b.ToExchange, 1, MaxName); err != nil {
			return err
		}
	}
	if err := lease.ValidateText(field+".key", b.Key, 0, MaxKey); err != nil {
		return err
	}
	b.Args = b.Args.Normalize()
	if len(b.Args) == 0 {
		b.Args = nil
		return nil
	}
	if m, ok := b.Args[ArgMatch]; ok && m != "all" && m != "any" {
		return lease.Invalidf(field+".args["+ArgMatch+"]", `must be "all" or "any"`)
	}
	return b.Args.Validate(field + ".args")
}
