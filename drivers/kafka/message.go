package kafka

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Headers of a record that are a message's properties, all text. The body is
// the record's value, and the order key its key.
const (
	headerID          = driver.HeaderReservedPrefix + "id"
	headerRouting     = driver.HeaderReservedPrefix + "key" // routing key, of what went through an exchange
	headerContentType = driver.HeaderReservedPrefix + "content-type"
	headerEncoding    = driver.HeaderReservedPrefix + "content-encoding"
	headerCorrelation = driver.HeaderReservedPrefix + "correlation-id"
	headerReplyTo     = driver.HeaderReservedPrefix + "reply-to"
	headerType        = driver.HeaderReservedPrefix + "type"
	headerApp         = driver.HeaderReservedPrefix + "app-id"
	headerUser        = driver.HeaderReservedPrefix + "user-id"
	headerTimestamp   = driver.HeaderReservedPrefix + "timestamp" // seconds since 1970
	headerPriority    = driver.HeaderReservedPrefix + "priority"
	headerTTL         = driver.HeaderReservedPrefix + "ttl" // milliseconds
	// headerTyped has the message's headers that are not texts once more, as
	// JSON with their types: a header of a record is bytes.
	headerTyped = driver.HeaderReservedPrefix + "headers"
	// Of what a share group has begun anew: the attempts before, and the
	// exchange that it came by.
	headerAttempts = driver.HeaderReservedPrefix + "attempts"
	headerExchange = driver.HeaderReservedPrefix + "exchange"
)

// ownHeaders are not among the headers of a message.
var ownHeaders = map[string]bool{
	headerID: true, headerRouting: true, headerContentType: true, headerEncoding: true, headerCorrelation: true, headerReplyTo: true,
	headerType: true, headerApp: true, headerUser: true, headerTimestamp: true, headerPriority: true, headerTTL: true, headerTyped: true,
	headerAttempts: true, headerExchange: true,
}

// encode makes the record of a message, which shares no memory with m.
func encode(topic string, r *driver.Route, m *driver.Message) (*kgo.Record, error) {
	rec := &kgo.Record{Topic: topic, Value: slices.Clone(m.Body)}
	if rec.Value == nil {
		rec.Value = []byte{} // a record without value is a deletion in compacted topics
	}
	if m.OrderKey != "" {
		rec.Key = []byte(m.OrderKey)
	}
	text := func(name, value string) {
		if value != "" {
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
	}
	text(headerID, m.ID)
	if r.Exchange != driver.DefaultExchange {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: headerRouting, Value: []byte(r.Key)})
	}
	text(headerContentType, m.ContentType)
	text(headerEncoding, m.ContentEncoding)
	text(headerCorrelation, m.CorrelationID)
	text(headerReplyTo, m.ReplyTo)
	text(headerType, m.Type)
	text(headerApp, m.AppID)
	text(headerUser, m.UserID)
	if !m.Timestamp.IsZero() {
		text(headerTimestamp, strconv.FormatInt(m.Timestamp.Unix(), 10))
	}
	if m.Priority > 0 {
		text(headerPriority, strconv.Itoa(int(m.Priority)))
	}
	if m.TTL > 0 {
		text(headerTTL, strconv.FormatInt(int64((m.TTL+time.Millisecond-1)/time.Millisecond), 10))
	}
	if len(m.Headers) == 0 {
		return rec, nil
	}
	return rec, encodeHeaders(rec, m.Headers)
}

func encodeHeaders(rec *kgo.Record, h driver.Headers) error {
	var typed driver.Headers
	for k, v := range h {
		if ownHeaders[k] {
			continue
		}
		plain, isText := plainHeader(v)
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: k, Value: plain})
		if !isText {
			if typed == nil {
				typed = make(driver.Headers, len(h))
			}
			typed[k] = v
		}
	}
	if typed == nil {
		return nil
	}
	body, err := json.Marshal(wire.Headers(typed))
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: headerTyped, Value: body})
	return err
}

// plainHeader is what other clients see of a header.
func plainHeader(v any) (plain []byte, isText bool) {
	switch v := v.(type) {
	case string:
		return []byte(v), true
	case []byte:
		return slices.Clone(v), false
	case bool:
		return strconv.AppendBool(nil, v), false
	case int64:
		return strconv.AppendInt(nil, v, 10), false
	case float64:
		return strconv.AppendFloat(nil, v, 'g', -1, 64), false
	case time.Time:
		return v.AppendFormat(nil, time.RFC3339), false
	}
	body, err := json.Marshal(wire.Headers{"": v}) // tables and lists
	if err != nil {
		return nil, false // it is said of the typed one
	}
	return body[len(`{"":`) : len(body)-1], false
}

// routingKey is the key that a record was sent to its exchange with: of one of
// another client its record key.
func routingKey(r *kgo.Record) string {
	for i := range r.Headers {
		if r.Headers[i].Key == headerRouting {
			return string(r.Headers[i].Value)
		}
	}
	return string(r.Key)
}

// decode reads a record, and keeps nothing of it.
func decode(r *kgo.Record) *driver.Message {
	m := &driver.Message{Body: slices.Clone(r.Value), OrderKey: string(r.Key)}
	var typed []byte
	for i := range r.Headers {
		h := &r.Headers[i]
		if !strings.HasPrefix(h.Key, driver.HeaderReservedPrefix) || !ownHeaders[h.Key] {
			if m.Headers == nil {
				m.Headers = make(driver.Headers, len(r.Headers))
			}
			if utf8.Valid(h.Value) {
				m.Headers[h.Key] = string(h.Value)
			} else {
				m.Headers[h.Key] = slices.Clone(h.Value)
			}
			continue
		}
		if h.Key == headerTyped {
			typed = h.Value
			continue
		}
		setProperty(m, h.Key, string(h.Value))
	}
	if typed == nil {
		return m
	}
	var values wire.Headers
	if json.Unmarshal(typed, &values) != nil {
		return m // another client made it up
	}
	for k, v := range values {
		if _, there := m.Headers[k]; there { // another client may have taken it out
			m.Headers[k] = v
		}
	}
	return m
}

func setProperty(m *driver.Message, name, value string) {
	switch name {
	case headerID:
		m.ID = value
	case headerContentType:
		m.ContentType = value
	case headerEncoding:
		m.ContentEncoding = value
	case headerCorrelation:
		m.CorrelationID = value
	case headerReplyTo:
		m.ReplyTo = value
	case headerType:
		m.Type = value
	case headerApp:
		m.AppID = value
	case headerUser:
		m.UserID = value
	case headerTimestamp:
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			m.Timestamp = time.Unix(n, 0).UTC()
		}
	case headerPriority:
		if n, err := strconv.ParseUint(value, 10, 8); err == nil && n <= driver.MaxPriority {
			m.Priority = uint8(n)
		}
	case headerTTL:
		if n, err := strconv.ParseInt(value, 10, 64); err == nil && n > 0 && n <= driver.MaxDelay.Milliseconds() {
			m.TTL = time.Duration(n) * time.Millisecond
		}
	}
}
