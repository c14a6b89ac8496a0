package driver

import (
	"errors"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Limits of the portable API. Every backend honours at least these, unless
// its Caps say otherwise.
const (
	MaxName             = 255      // bytes of a queue's or an exchange's name
	MaxKey              = 255      // bytes of a routing key or a binding's key
	MaxID               = 128      // bytes of a message's ID
	MaxOrderKey         = 255      // bytes
	MaxConsumer         = 128      // bytes
	MaxProperty         = 255      // bytes of ContentType, ReplyTo and the like
	MaxHeaders          = 64       // entries, nested ones included
	MaxHeaderBytes      = 16 << 10 // bytes of all keys and values together
	MaxHeaderDepth      = 4        // tables within tables
	MaxBody             = 16 << 20 // bytes
	MaxBatch            = 10_000   // messages in one Publish, deliveries in one Settle
	MaxBatchBytes       = 64 << 20 // bodies in one Publish
	MaxReceive          = 1000     // messages
	MaxReceiveBytes     = 32 << 20 // bytes; one message is always returned
	MaxWait             = 5 * time.Minute
	MaxReason           = 1024 // bytes
	MaxPriority         = 9
	MaxDelay            = 366 * 24 * time.Hour
	MaxDeliveryLimit    = 1_000_000
	MaxDedupWindow      = 31 * 24 * time.Hour
	MaxList             = 1000
	DefaultList         = 100
	MaxPeek             = 1000
	MaxRedrive          = 10_000
	MaxDeclare          = 10_000 // exchanges, queues and bindings in one Declare
	MaxBindingsPerQueue = 1000

	DefaultLease         = 30 * time.Second
	DefaultDeliveryLimit = 20
	DefaultBackoffMin    = time.Second
	DefaultBackoffMax    = 5 * time.Minute
)

// ValidateQueueName returns a *lease.FieldError unless s is 1 to MaxName bytes
// of UTF-8 without control characters.
func ValidateQueueName(field, s string) error { return validText(field, s, 1, MaxName) }

// ValidateConsumer does the same for consumers' ids, up to MaxConsumer bytes.
func ValidateConsumer(field, s string) error { return validText(field, s, 1, MaxConsumer) }

func validText(field, s string, least, most int) error {
	if len(s) < least || len(s) > most {
		return lease.Invalidf(field, "must be %d to %d bytes, has %d", least, most, len(s))
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return lease.Invalidf(field, "must be valid UTF-8, is not at byte %d", i)
			}
		}
		if r < 0x20 || r == 0x7f {
			return lease.Invalidf(field, "must not contain control characters, has U+%04X at byte %d", r, i)
		}
	}
	return nil
}

func validDuration(field string, d, least, most time.Duration) error {
	if d < least || d > most {
		return lease.Invalidf(field, "must be %v to %v, is %v", least, most, d)
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
	if err := validText(field+".exchange", r.Exchange, 0, MaxName); err != nil {
		return err
	}
	return validText(field+".key", r.Key, 0, MaxKey)
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
		if err := validText(t.field, t.s, 0, t.most); err != nil {
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

// Validate checks count, size, depth and types.
func (h Headers) Validate(field string) error {
	count, size := 0, 0
	if err := h.measure(field, 1, &count, &size); err != nil {
		return err
	}
	if count > MaxHeaders {
		return lease.Invalidf(field, "must have at most %d entries, has %d", MaxHeaders, count)
	}
	if size > MaxHeaderBytes {
		return lease.Invalidf(field, "must have at most %d bytes, has %d", MaxHeaderBytes, size)
	}
	return nil
}

func (h Headers) measure(field string, depth int, count, size *int) error {
	for k, v := range h {
		if err := validText(field+" key", k, 1, MaxKey); err != nil {
			return err
		}
		*count++
		*size += len(k)
		if err := measureValue(field+"["+k+"]", v, depth, count, size); err != nil {
			return err
		}
	}
	return nil
}

func measureValue(field string, v any, depth int, count, size *int) error {
	if depth > MaxHeaderDepth {
		return lease.Invalidf(field, "must be nested at most %d deep", MaxHeaderDepth)
	}
	switch v := v.(type) {
	case bool:
		*size++
	case int64:
		*size += 8
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return lease.Invalidf(field, "must be a finite number")
		}
		*size += 8
	case time.Time:
		if y := v.Year(); y < 1970 || y > 9999 {
			return lease.Invalidf(field, "must be a time in the years 1970 to 9999")
		}
		*size += 8
	case string:
		if !utf8.ValidString(v) {
			return lease.Invalidf(field, "must be valid UTF-8; use bytes for other data")
		}
		*size += len(v)
	case []byte:
		*size += len(v)
	case Headers:
		return v.measure(field, depth+1, count, size)
	case []any:
		for _, e := range v {
			*count++
			if err := measureValue(field, e, depth+1, count, size); err != nil {
				return err
			}
		}
	default:
		return lease.Invalidf(field, "must be a bool, number, string, []byte, time.Time, table or list, is %T", v)
	}
	return nil
}

// Normalize returns h with Go's other integer and float types turned into
// int64 and float64, maps into Headers, and times cut to whole seconds in
// UTC. What it cannot turn it leaves for Validate to refuse. h is not
// changed; if nothing is to do h itself is returned.
func (h Headers) Normalize() Headers {
	var out Headers
	for k, v := range h {
		n, changed := normalValue(v)
		if !changed {
			continue
		}
		if out == nil {
			out = make(Headers, len(h))
			for k, v := range h {
				out[k] = v
			}
		}
		out[k] = n
	}
	if out == nil {
		return h
	}
	return out
}

func normalValue(v any) (any, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int8:
		return int64(v), true
	case int16:
		return int64(v), true
	case int32:
		return int64(v), true
	case uint8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v), true
		}
	case uint:
		if uint64(v) <= math.MaxInt64 {
			return int64(v), true
		}
	case float32:
		return float64(v), true
	case time.Time:
		t := v.UTC().Truncate(time.Second)
		return t, !t.Equal(v) || v.Location() != time.UTC
	case map[string]any:
		return Headers(v).Normalize(), true
	case Headers:
		return v.Normalize(), true
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i], _ = normalValue(e)
		}
		return out, true
	}
	return v, false
}

// Validate checks everything about a topology that does not depend on the
// state of the backend, and fills in defaults, so that equal declarations
// compare equal.
func (t *Topology) Validate(c *Caps) error {
	if n := len(t.Exchanges) + len(t.Queues) + len(t.Bindings); n > MaxDeclare {
		return lease.Invalidf("topology", "must have at most %d parts, has %d", MaxDeclare, n)
	}
	for i := range t.Exchanges {
		if err := t.Exchanges[i].validate("exchanges[" + strconv.Itoa(i) + "]"); err != nil {
			return err
		}
	}
	for i := range t.Queues {
		if err := t.Queues[i].validate("queues["+strconv.Itoa(i)+"]", c); err != nil {
			return err
		}
	}
	for i := range t.Bindings {
		if err := t.Bindings[i].validate("bindings[" + strconv.Itoa(i) + "]"); err != nil {
			return err
		}
	}
	return nil
}

func (e *Exchange) validate(field string) error {
	if err := validText(field+".name", e.Name, 1, MaxName); err != nil {
		return err
	}
	if strings.HasPrefix(e.Name, ReservedExchangeNames) {
		return lease.Invalidf(field+".name", "must not begin with %q, which is reserved", ReservedExchangeNames)
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
	if err := validText(field+".exchange", b.Exchange, 1, MaxName); err != nil {
		return err
	}
	if err := ValidateQueueName(field+".queue", b.Queue); err != nil {
		return err
	}
	if err := validText(field+".key", b.Key, 0, MaxKey); err != nil {
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
	if err := validDuration("wait", r.Wait, 0, MaxWait); err != nil {
		return err
	}
	if r.Lease == 0 {
		return nil
	}
	return validDuration("lease", r.Lease, c.MinLease, c.MaxLease)
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

// Keys returns the keys of h in byte order.
func (h Headers) Keys() []string {
	keys := make([]string, 0, len(h))
	for k := range h {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

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

// inBatch names the element of a batch that a FieldError is about.
func inBatch(err error, field string, i, n int) error {
	var f *lease.FieldError
	if n == 1 || !errors.As(err, &f) {
		return err
	}
	return &lease.FieldError{Field: field + "[" + strconv.Itoa(i) + "]." + f.Field, Reason: f.Reason}
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
		return validText("exchange", r.Exchange, 1, MaxName)
	}
	if r.Queue != "" {
		return ValidateQueueName("queue", r.Queue)
	}
	b := *r.Binding
	return b.validate("binding")
}

func validMax(field string, n, most int) error {
	if n < 0 || n > most {
		return lease.Invalidf(field, "must be 1 to %d, or 0 for the default, is %d", most, n)
	}
	return nil
}

// Validate checks a request.
func (r *StatsRequest) Validate() error {
	if r.Queue != "" {
		return ValidateQueueName("queue", r.Queue)
	}
	if err := validText("prefix", r.Prefix, 0, MaxName); err != nil {
		return err
	}
	if err := validText("after", r.After, 0, MaxName); err != nil {
		return err
	}
	return validMax("max", r.Max, MaxList)
}

// Validate checks a request.
func (r *PeekRequest) Validate() error {
	if err := ValidateQueueName("queue", r.Queue); err != nil {
		return err
	}
	return validMax("max", r.Max, MaxPeek)
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
	return validMax("max", r.Max, MaxRedrive)
}
