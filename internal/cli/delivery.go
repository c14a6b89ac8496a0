package cli

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue"
)

// messageJSON is a message in `consume --json` and `peek --json`. A body that
// is UTF-8 is in body, another one in body_base64.
type messageJSON struct {
	Queue         string         `json:"queue"`
	Exchange      string         `json:"exchange"`
	RoutingKey    string         `json:"routing_key"`
	ID            string         `json:"id,omitempty"`
	OrderKey      string         `json:"order_key,omitempty"`
	Seq           uint64         `json:"seq,string"`
	Token         lease.Token    `json:"token,omitzero"`
	Attempt       *int           `json:"attempt,omitempty"` // not of a stream: nothing is delivered there
	State         string         `json:"state,omitempty"`
	AgeMS         *int64         `json:"age_ms,omitempty"` // not of a stream, which says when it was stored
	Headers       map[string]any `json:"headers,omitempty"`
	NotBefore     *time.Time     `json:"not_before,omitempty"`
	Priority      uint8          `json:"priority,omitempty"`
	TTLMS         int64          `json:"ttl_ms,omitempty"`
	ContentType   string         `json:"content_type,omitempty"`
	CorrelationID string         `json:"correlation_id,omitempty"`
	ReplyTo       string         `json:"reply_to,omitempty"`
	Type          string         `json:"type,omitempty"`
	Body          *string        `json:"body,omitempty"`
	BodyBase64    []byte         `json:"body_base64,omitempty"`
}

func newMessageJSON(queueName string, route queue.Route, m *queue.Message) *messageJSON {
	j := &messageJSON{
		Queue: queueName, Exchange: route.Exchange, RoutingKey: route.Key, ID: m.ID, OrderKey: m.OrderKey,
		Headers: plainHeaders(m.Headers), ContentType: m.ContentType, CorrelationID: m.CorrelationID,
		ReplyTo: m.ReplyTo, Type: m.Type, Priority: m.Priority, TTLMS: m.TTL.Milliseconds(),
	}
	if !m.NotBefore.IsZero() {
		j.NotBefore = &m.NotBefore
	}
	if utf8.Valid(m.Body) {
		body := string(m.Body)
		j.Body = &body
	} else {
		j.BodyBase64 = m.Body
	}
	return j
}

// plainHeaders makes headers into what encoding/json writes readably: times in
// RFC 3339, bytes in base64.
func plainHeaders(h queue.Headers) map[string]any {
	if len(h) == 0 {
		return nil
	}
	out := make(map[string]any, len(h))
	for k, v := range h {
		out[k] = plainValue(v)
	}
	return out
}

func plainValue(v any) any {
	switch v := v.(type) {
	case queue.Headers:
		return plainHeaders(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plainValue(e)
		}
		return out
	case time.Time:
		return v.UTC().Format(time.RFC3339)
	}
	return v
}

// deliveryLine is a delivery in JSON without the line's end.
func deliveryLine(d *queue.Delivery) ([]byte, error) {
	j := newMessageJSON(d.Queue, d.Route, d.Message)
	j.Seq, j.Token, j.Attempt, j.AgeMS = d.Seq(), d.Token(), new(d.Attempt), new(d.Age.Milliseconds())
	return marshalLine(j)
}

func marshalLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// deliveryEnv is the environment of a command that handles d.
func deliveryEnv(d *queue.Delivery) []string {
	headers, err := marshalLine(plainHeaders(d.Message.Headers))
	if err != nil || len(d.Message.Headers) == 0 {
		headers = []byte("{}")
	}
	return []string{
		"LOCKKEEPER_QUEUE=" + d.Queue,
		"LOCKKEEPER_EXCHANGE=" + d.Route.Exchange,
		"LOCKKEEPER_ROUTING_KEY=" + d.Route.Key,
		"LOCKKEEPER_MESSAGE_ID=" + d.Message.ID,
		"LOCKKEEPER_ORDER_KEY=" + d.Message.OrderKey,
		"LOCKKEEPER_CONTENT_TYPE=" + d.Message.ContentType,
		"LOCKKEEPER_ATTEMPT=" + strconv.Itoa(d.Attempt),
		envToken + "=" + d.Token().String(),
		"LOCKKEEPER_HEADERS=" + string(headers),
	}
}
