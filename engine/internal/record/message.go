package record

import (
	"math/bits"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Fields of a message, by their bit in the mask that begins it: a field that
// is not there costs nothing. They are encoded in this order. New fields get
// new bits at the end; a program that does not know a bit refuses the message.
const (
	hasExchange = 1 << iota
	hasKey
	hasID
	hasOrderKey
	hasHeaders
	hasBody
	hasPriority
	hasTTL
	hasDelay
	hasNotBefore
	hasContentType
	hasContentEncoding
	hasCorrelationID
	hasReplyTo
	hasType
	hasAppID
	hasUserID
	hasTimestamp
	hasTrail
	hasUnknown
)

// text is a string field of a message.
type text struct {
	bit  uint64
	name string
	at   *string
}

// leadingTexts and properties list the string fields before and after the
// others, in order.
func leadingTexts(m *Message) [4]text {
	return [...]text{
		{hasExchange, "route.exchange", &m.Route.Exchange},
		{hasKey, "route.key", &m.Route.Key},
		{hasID, "id", &m.ID},
		{hasOrderKey, "order_key", &m.OrderKey},
	}
}

func properties(m *Message) [7]text {
	return [...]text{
		{hasContentType, "content_type", &m.ContentType},
		{hasContentEncoding, "content_encoding", &m.ContentEncoding},
		{hasCorrelationID, "correlation_id", &m.CorrelationID},
		{hasReplyTo, "reply_to", &m.ReplyTo},
		{hasType, "type", &m.Type},
		{hasAppID, "app_id", &m.AppID},
		{hasUserID, "user_id", &m.UserID},
	}
}

func messageMask(m *Message) (mask uint64) {
	for _, t := range leadingTexts(m) {
		if *t.at != "" {
			mask |= t.bit
		}
	}
	for _, t := range properties(m) {
		if *t.at != "" {
			mask |= t.bit
		}
	}
	set := func(bit uint64, there bool) {
		if there {
			mask |= bit
		}
	}
	set(hasHeaders, len(m.Headers) > 0)
	set(hasBody, len(m.Body) > 0)
	set(hasPriority, m.Priority != 0)
	set(hasTTL, m.TTL != 0)
	set(hasDelay, m.Delay != 0)
	set(hasNotBefore, !m.NotBefore.IsZero())
	set(hasTimestamp, !m.Timestamp.IsZero())
	set(hasTrail, m.Trail != "")
	return mask
}

// messageSize is the number of bytes that AppendMessage appends.
func messageSize(m *Message) int {
	mask := messageMask(m)
	n := uintSize(mask) + intSize(m.Published)
	for _, t := range leadingTexts(m) {
		if mask&t.bit != 0 {
			n += stringSize(len(*t.at))
		}
	}
	if mask&hasHeaders != 0 {
		n += headersSize(m.Headers)
	}
	if mask&hasBody != 0 {
		n += stringSize(len(m.Body))
	}
	if mask&hasPriority != 0 {
		n++
	}
	if mask&hasTTL != 0 {
		n += intSize(int64(m.TTL))
	}
	if mask&hasDelay != 0 {
		n += intSize(int64(m.Delay))
	}
	if mask&hasNotBefore != 0 {
		n += timeSize(m.NotBefore)
	}
	for _, t := range properties(m) {
		if mask&t.bit != 0 {
			n += stringSize(len(*t.at))
		}
	}
	if mask&hasTimestamp != 0 {
		n += timeSize(m.Timestamp)
	}
	if mask&hasTrail != 0 {
		n += stringSize(len(m.Trail))
	}
	return n
}

// MessageSize is the number of bytes of a message on disk.
func MessageSize(m *Message) int { return messageSize(m) }

// AppendMessage appends the encoding of m. Empty and nil headers and bodies
// are the same, and times lose their location.
func AppendMessage(b []byte, m *Message) []byte {
	mask := messageMask(m)
	b = appendUint(b, mask)
	b = appendInt(b, m.Published)
	for _, t := range leadingTexts(m) {
		if mask&t.bit != 0 {
			b = appendString(b, *t.at)
		}
	}
	if mask&hasHeaders != 0 {
		b = appendHeaders(b, m.Headers)
	}
	if mask&hasBody != 0 {
		b = append(appendUint(b, uint64(len(m.Body))), m.Body...)
	}
	if mask&hasPriority != 0 {
		b = append(b, m.Priority)
	}
	if mask&hasTTL != 0 {
		b = appendInt(b, int64(m.TTL))
	}
	if mask&hasDelay != 0 {
		b = appendInt(b, int64(m.Delay))
	}
	if mask&hasNotBefore != 0 {
		b = appendTime(b, m.NotBefore)
	}
	for _, t := range properties(m) {
		if mask&t.bit != 0 {
			b = appendString(b, *t.at)
		}
	}
	if mask&hasTimestamp != 0 {
		b = appendTime(b, m.Timestamp)
	}
	if mask&hasTrail != 0 {
		b = appendString(b, m.Trail)
	}
	return b
}

// DecodeMessage is the inverse of AppendMessage. The body, and values of
// headers that are bytes, are parts of b.
func DecodeMessage(b []byte) (*Message, error) {
	d := &decoder{record: "message", b: b}
	m := d.message()
	if err := d.done(); err != nil {
		return nil, err
	}
	return m, nil
}

func (d *decoder) message() *Message {
	mask := d.uint("mask")
	if mask >= hasUnknown {
		d.failf("mask", "has field %d, which is not known to this program", bits.Len64(mask))
	}
	m := &Message{Published: d.int("published"), Message: new(queuedriver.Message)}
	for _, t := range leadingTexts(m) {
		d.text(mask, t)
	}
	if mask&hasHeaders != 0 {
		if m.Headers = d.headers("headers", 1); len(m.Headers) == 0 {
			d.failf("headers", "is there but empty")
		}
	}
	if mask&hasBody != 0 {
		if m.Body = d.bytes("body"); len(m.Body) == 0 {
			d.failf("body", "is there but empty")
		}
	}
	if mask&hasPriority != 0 {
		if m.Priority = d.byte("priority"); m.Priority == 0 {
			d.failf("priority", "is there but 0")
		}
	}
	if mask&hasTTL != 0 {
		m.TTL = d.messageDuration("ttl")
	}
	if mask&hasDelay != 0 {
		m.Delay = d.messageDuration("delay")
	}
	if mask&hasNotBefore != 0 {
		m.NotBefore = d.messageTime("not_before")
	}
	for _, t := range properties(m) {
		d.text(mask, t)
	}
	if mask&hasTimestamp != 0 {
		m.Timestamp = d.messageTime("timestamp")
	}
	d.text(mask, text{hasTrail, "trail", &m.Trail})
	return m
}

func (d *decoder) text(mask uint64, t text) {
	if mask&t.bit == 0 {
		return
	}
	if *t.at = d.string(t.name); *t.at == "" {
		d.failf(t.name, "is there but empty")
	}
}

func (d *decoder) messageDuration(field string) time.Duration {
	v := d.duration(field)
	if v == 0 {
		d.failf(field, "is there but 0")
	}
	return v
}

func (d *decoder) messageTime(field string) time.Time {
	v := d.time(field)
	if v.IsZero() {
		d.failf(field, "is there but zero")
	}
	return v
}
