package rabbitmq

import (
	"slices"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Headers that the driver puts into messages for itself, and takes out of those
// that it delivers.
const (
	headerAttempts    = "lockkeeper-attempts"     // long: failed attempts before this copy of the message
	headerViaExchange = "lockkeeper-via-exchange" // string: as it was published, if it came back through a delay
	headerViaKey      = "lockkeeper-via-key"
	headerTTL         = "lockkeeper-ttl"     // long: Message.TTL in milliseconds, if the property expiration has to be free
	headerUser        = "lockkeeper-user-id" // string: Message.UserID, which the broker would compare with who is logged in
	headerBury        = "lockkeeper-bury"    // string: the reason for which it is to be dead-lettered
)

// Headers that a broker adds.
const (
	headerDeliveryCount = "x-delivery-count"
	headerDeath         = "x-death"
)

// inner is what the driver keeps with a message besides what users see.
type inner struct {
	attempts int          // failed ones
	via      driver.Route // as it was published
	bury     string       // why it is to be dead-lettered, if it could not be yet
	viaSet   bool
}

// encode makes the client's form of a message, which shares no memory with m.
// moved: it goes through the ladder, which needs the property expiration.
func encode(m *driver.Message, in *inner, moved bool) amqp.Publishing {
	p := amqp.Publishing{
		MessageId: m.ID, ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, CorrelationId: m.CorrelationID,
		ReplyTo: m.ReplyTo, Type: m.Type, AppId: m.AppID, Priority: m.Priority, DeliveryMode: amqp.Persistent,
		Timestamp: m.Timestamp, Body: slices.Clone(m.Body),
	}
	n := len(m.Headers)
	if n == 0 && in == nil && m.UserID == "" && (m.TTL == 0 || !moved) {
		p.Expiration = expiration(m.TTL)
		return p
	}
	p.Headers = make(amqp.Table, n+4)
	for k, v := range m.Headers {
		p.Headers[k] = toAMQP(v)
	}
	for _, k := range [...]string{headerAttempts, headerViaExchange, headerViaKey, headerTTL, headerUser, headerBury, headerDeliveryCount, headerDeath} {
		delete(p.Headers, k)
	}
	if m.UserID != "" {
		p.Headers[headerUser] = m.UserID
	}
	if !moved {
		p.Expiration = expiration(m.TTL)
	} else if m.TTL > 0 {
		p.Headers[headerTTL] = millis(m.TTL)
	}
	if in != nil {
		in.write(p.Headers)
	}
	return p
}

func (in *inner) write(h amqp.Table) {
	if in.attempts > 0 {
		h[headerAttempts] = int64(in.attempts)
	}
	if in.viaSet {
		h[headerViaExchange], h[headerViaKey] = in.via.Exchange, in.via.Key
	}
	if in.bury != "" {
		h[headerBury] = in.bury
	}
}

// millis rounds up, so that nothing happens early.
func millis(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

func expiration(ttl time.Duration) string {
	if ttl == 0 {
		return ""
	}
	return strconv.FormatInt(millis(ttl), 10)
}

// decode reads a message. It keeps the body.
func (c *conn) decode(d *amqp.Delivery, m *driver.Message, in *inner) {
	*m = driver.Message{
		ID: d.MessageId, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, CorrelationID: d.CorrelationId,
		ReplyTo: d.ReplyTo, Type: d.Type, AppID: d.AppId, UserID: d.UserId, Priority: d.Priority, Body: d.Body,
	}
	if !d.Timestamp.IsZero() {
		m.Timestamp = d.Timestamp.UTC()
	}
	if d.Expiration != "" {
		if ms, err := strconv.ParseInt(d.Expiration, 10, 64); err == nil && ms > 0 {
			m.TTL = time.Duration(ms) * time.Millisecond
		}
	}
	*in = inner{via: driver.Route{Exchange: d.Exchange, Key: d.RoutingKey}}
	if len(d.Headers) == 0 {
		return
	}
	in.read(d.Headers, m)
	for k, v := range d.Headers {
		if strings.HasPrefix(k, "x-") && brokerHeaders[k] || innerHeaders[k] {
			continue
		}
		if v, ok := fromAMQP(v); ok {
			if m.Headers == nil {
				m.Headers = make(driver.Headers, len(d.Headers))
			}
			m.Headers[k] = v
		}
	}
	c.readDeath(d, m)
}

// brokerHeaders are what a broker writes about its own deeds.
var brokerHeaders = map[string]bool{
	headerDeliveryCount: true, headerDeath: true, "x-acquired-count": true,
	"x-first-death-exchange": true, "x-first-death-queue": true, "x-first-death-reason": true,
	"x-last-death-exchange": true, "x-last-death-queue": true, "x-last-death-reason": true,
}

var innerHeaders = map[string]bool{
	headerAttempts: true, headerViaExchange: true, headerViaKey: true, headerTTL: true, headerUser: true, headerBury: true,
}

func (in *inner) read(h amqp.Table, m *driver.Message) {
	in.attempts = int(max(0, number(h[headerAttempts])))
	if in.bury, _ = h[headerBury].(string); in.bury == "" {
		in.attempts += int(max(0, number(h[headerDeliveryCount])))
	} // else no consumer had it: what the broker had back was no attempt
	if exchange, ok := h[headerViaExchange].(string); ok {
		key, _ := h[headerViaKey].(string)
		in.via, in.viaSet = driver.Route{Exchange: exchange, Key: key}, true
	}
	if ms := number(h[headerTTL]); ms > 0 {
		m.TTL = time.Duration(ms) * time.Millisecond
	}
	if user, ok := h[headerUser].(string); ok {
		m.UserID = user
	}
}

func number(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case int32:
		return int64(v)
	case int16:
		return int64(v)
	case int:
		return int64(v)
	}
	return 0
}

// readDeath translates what a broker says about a message that it has dead-
// lettered by itself, because it was too old, or another client rejected it.
func (c *conn) readDeath(d *amqp.Delivery, m *driver.Message) {
	deaths, _ := d.Headers[headerDeath].([]any)
	var last amqp.Table
	count := int64(0)
	for _, v := range deaths {
		t, _ := v.(amqp.Table)
		name, _ := t["queue"].(string)
		if t == nil || c.isLevel(name) { // a delay is no death
			continue
		}
		if last == nil {
			last = t
		}
		count += max(1, number(t["count"]))
	}
	if last == nil {
		return
	}
	if m.Headers == nil {
		m.Headers = driver.Headers{}
	}
	earlier, _ := m.Headers[driver.HeaderDeathCount].(int64)
	reason, _ := last["reason"].(string)
	m.Headers[driver.HeaderDeathReason] = reason
	m.Headers[driver.HeaderDeathQueue], _ = last["queue"].(string)
	m.Headers[driver.HeaderDeathCount] = earlier + count
	if at, ok := last["time"].(time.Time); ok {
		m.Headers[driver.HeaderDeathTime] = at.UTC()
	}
	if _, known := m.Headers[driver.HeaderOriginalRoute]; known {
		return
	}
	m.Headers[driver.HeaderOriginalRoute], _ = last["exchange"].(string)
	m.Headers[driver.HeaderOriginalKey] = ""
	if keys, _ := last["routing-keys"].([]any); len(keys) > 0 {
		m.Headers[driver.HeaderOriginalKey], _ = keys[0].(string)
	}
}

// toAMQP copies a header that is valid.
func toAMQP(v any) any {
	switch v := v.(type) {
	case []byte:
		return slices.Clone(v)
	case driver.Headers:
		return tableOf(v)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = toAMQP(v[i])
		}
		return list
	}
	return v
}

func tableOf(h driver.Headers) amqp.Table {
	t := make(amqp.Table, len(h))
	for k, v := range h {
		t[k] = toAMQP(v)
	}
	return t
}

// fromAMQP reads a header; one of a type that we do not have is left out.
func fromAMQP(v any) (any, bool) {
	switch v := v.(type) {
	case bool, int64, float64, string:
		return v, true
	case []byte:
		return v, true
	case int:
		return int64(v), true
	case int8:
		return int64(v), true
	case byte:
		return int64(v), true
	case int16:
		return int64(v), true
	case int32:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case float32:
		return float64(v), true
	case time.Time:
		return v.UTC(), true
	case amqp.Table:
		h := make(driver.Headers, len(v))
		for k, e := range v {
			if e, ok := fromAMQP(e); ok {
				h[k] = e
			}
		}
		return h, true
	case []any:
		list := make([]any, 0, len(v))
		for _, e := range v {
			if e, ok := fromAMQP(e); ok {
				list = append(list, e)
			}
		}
		return list, true
	}
	return nil, false
}
