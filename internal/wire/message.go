package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Message is a message's content. The body is in body if it is text: UTF-8
// without control characters other than tab, line feed and carriage return.
// Any other body is in body_base64. A publisher may use either.
type Message struct {
	ID              string     `json:"id,omitempty" doc:"identifies the message for dedup"`
	OrderKey        string     `json:"order_key,omitempty" doc:"messages with one key are handled one after another, in order"`
	Headers         Headers    `json:"headers,omitempty" doc:"bool, whole number, float (with a point), string, list, table, {\"$bytes\": BASE64}, {\"$time\": SECONDS}"`
	Body            *string    `json:"body,omitempty" doc:"a body that is text"`
	BodyBase64      *[]byte    `json:"body_base64,omitempty" doc:"a body that is not text"`
	Priority        uint8      `json:"priority,omitempty"`
	TTL             Millis     `json:"ttl_ms,omitempty"`
	Delay           Millis     `json:"delay_ms,omitempty" doc:"not delivered before"`
	NotBefore       *time.Time `json:"not_before,omitempty" doc:"not delivered before, by the server's clock"`
	ContentType     string     `json:"content_type,omitempty"`
	ContentEncoding string     `json:"content_encoding,omitempty"`
	CorrelationID   string     `json:"correlation_id,omitempty"`
	ReplyTo         string     `json:"reply_to,omitempty"`
	Type            string     `json:"type,omitempty"`
	AppID           string     `json:"app_id,omitempty"`
	UserID          string     `json:"user_id,omitempty"`
	Timestamp       *time.Time `json:"timestamp,omitempty" doc:"whole seconds"`
}

// NewMessage is the wire form of m. It shares m's body and headers.
func NewMessage(m *queuedriver.Message) Message {
	out := Message{
		ID: m.ID, OrderKey: m.OrderKey, Headers: Headers(m.Headers), Priority: m.Priority,
		TTL: Ceil(m.TTL), Delay: Ceil(m.Delay), NotBefore: timeOrNil(m.NotBefore),
		ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, CorrelationID: m.CorrelationID,
		ReplyTo: m.ReplyTo, Type: m.Type, AppID: m.AppID, UserID: m.UserID, Timestamp: timeOrNil(m.Timestamp),
	}
	if isBodyText(m.Body) {
		text := string(m.Body)
		out.Body = &text
	} else {
		out.BodyBase64 = &m.Body
	}
	return out
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// isBodyText keeps a body's JSON string at most twice as long as the body:
// other control characters would need six bytes each.
func isBodyText(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return utf8.Valid(b)
}

// Driver is the inverse of NewMessage. field is what errors name: "" or
// "messages[3]".
func (m *Message) Driver(field string) (*queuedriver.Message, error) {
	out := &queuedriver.Message{
		ID: m.ID, OrderKey: m.OrderKey, Headers: queuedriver.Headers(m.Headers), Priority: m.Priority,
		TTL: m.TTL.Duration(), Delay: m.Delay.Duration(),
		ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, CorrelationID: m.CorrelationID,
		ReplyTo: m.ReplyTo, Type: m.Type, AppID: m.AppID, UserID: m.UserID,
	}
	switch {
	case m.Body != nil && m.BodyBase64 != nil:
		return nil, lease.Invalidf(join(field, "body"), "excludes body_base64: give one of them")
	case m.Body != nil:
		out.Body = []byte(*m.Body)
	case m.BodyBase64 != nil:
		out.Body = *m.BodyBase64
	}
	if m.NotBefore != nil {
		out.NotBefore = m.NotBefore.UTC()
	}
	if m.Timestamp != nil {
		out.Timestamp = m.Timestamp.UTC().Truncate(time.Second)
	}
	return out, nil
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// Publishing is a message and where it goes.
type Publishing struct {
	Exchange  string `json:"exchange,omitempty" doc:"the default exchange, which routes to the queue named by key, without it"`
	Key       string `json:"key,omitempty" doc:"routing key"`
	Mandatory *bool  `json:"mandatory,omitempty" doc:"false: a message that matches no queue is dropped, and no error"`
	Message
}

// NewPublishing is the wire form of p. It fails for what JSON cannot carry.
func NewPublishing(p *queuedriver.Publishing) (json.RawMessage, error) {
	if p.Message == nil {
		return nil, lease.Invalidf("message", "is missing")
	}
	out := Publishing{Exchange: p.Route.Exchange, Key: p.Route.Key, Message: NewMessage(p.Message)}
	if !p.Mandatory {
		out.Mandatory = &p.Mandatory
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	b, err := Encode(out)
	if err != nil {
		return nil, lease.Invalidf("message", "cannot be sent as JSON: %v", err)
	}
	return b, nil
}

// Driver is the inverse of NewPublishing, validated. field is what errors name.
func (p *Publishing) Driver(field string) (queuedriver.Publishing, error) {
	m, err := p.Message.Driver(field)
	if err != nil {
		return queuedriver.Publishing{}, err
	}
	out := queuedriver.Publishing{
		Route: queuedriver.Route{Exchange: p.Exchange, Key: p.Key}, Message: m,
		Mandatory: p.Mandatory == nil || *p.Mandatory,
	}
	return out, inField(field, out.Validate())
}

// inField names the fields of a publishing as they are on the wire, where
// message and route are no objects of their own.
func inField(field string, err error) error {
	var f *lease.FieldError
	if !errors.As(err, &f) {
		return err
	}
	name := f.Field
	for _, prefix := range []string{"message.", "route."} {
		if len(name) > len(prefix) && name[:len(prefix)] == prefix {
			name = name[len(prefix):]
		}
	}
	return &lease.FieldError{Field: join(field, name), Reason: f.Reason}
}

// PublishRequest is a batch: POST /v1/publish with JSON. All of it is checked
// before any of it is published.
type PublishRequest struct {
	Messages []Publishing `json:"messages" doc:"1 to 10000"`
}

// Receipt is what became of one message.
type Receipt struct {
	Durability string   `json:"durability,omitempty" doc:"memory, written, synced or replicated"`
	Queues     int      `json:"queues" doc:"how many queues took it"`
	Duplicate  bool     `json:"duplicate,omitempty" doc:"the id was seen before: nothing was stored"`
	Error      *Problem `json:"error,omitempty"`
}

// PublishReply has a receipt for each message, in order.
type PublishReply struct {
	Receipts []Receipt `json:"receipts"`
}

// NewReceipt is the wire form of r.
func NewReceipt(r *queuedriver.Receipt) Receipt {
	if r.Err != nil {
		return Receipt{Error: OutcomeOf(r.Err)}
	}
	return Receipt{Durability: string(r.Durability), Queues: r.Queues, Duplicate: r.Duplicate}
}

// Driver is the inverse of NewReceipt.
func (r *Receipt) Driver() queuedriver.Receipt {
	return queuedriver.Receipt{Err: r.Error.Err(), Durability: queuedriver.Durability(r.Durability), Queues: r.Queues, Duplicate: r.Duplicate}
}

// Indexed returns the name of an element of a list.
func Indexed(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
