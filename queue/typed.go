package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"

	"github.com/lockkeeper/lockkeeper/lease"
)

// DefaultTypedBytes is how long the body of a typed message may be, unless
// Typed.MaxBytes says otherwise.
const DefaultTypedBytes = 1 << 20

// ErrUndecodable is what a message that is not of the type is: of another
// type, or with a body that cannot be decoded.
var ErrUndecodable = errors.New("message cannot be decoded")

// Codec turns values of a type into bodies and back. Both methods may be
// called concurrently, and Decode gets what anybody has published: it must
// return an error for what it cannot read. A panic counts as one. Equal values
// should have equal bodies, or a Txn that is repeated with its ID is taken for
// another one.
type Codec[T any] interface {
	ContentType() string // a media type: "application/json"
	Encode(v T) ([]byte, error)
	Decode(body []byte) (T, error) // which must not keep body
}

// JSON is the codec of package encoding/json. Fields that T does not have are
// passed over, so that publishers may add some.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

type jsonCodec[T any] struct{}

func (jsonCodec[T]) ContentType() string        { return "application/json" }
func (jsonCodec[T]) Encode(v T) ([]byte, error) { return json.Marshal(v) }
func (jsonCodec[T]) Decode(body []byte) (v T, err error) {
	err = json.Unmarshal(body, &v)
	return v, err
}

// Typed is how values of one type travel as messages. The zero value is JSON
// of any Type.
//
//	var orders = queue.Typed[Order]{Type: "order.created"}
//
// The codec for protocol buffers is in package protocodec.
type Typed[T any] struct {
	Codec Codec[T] // nil: JSON

	// Type is set as Message.Type, and a message must have it to be decoded.
	// "": it is neither set nor looked at.
	Type string
	// MaxBytes bounds the body, in both directions. 0: DefaultTypedBytes.
	MaxBytes int
}

func (t Typed[T]) codec() Codec[T] {
	if t.Codec == nil {
		return JSON[T]()
	}
	return t.Codec
}

func (t Typed[T]) maxBytes() int { return orDefault(t.MaxBytes, DefaultTypedBytes) }

// Message makes a message of v, with the content type and the Type set; the
// rest may be filled in before it is published. ErrInvalid if v cannot be
// encoded or is too long.
func (t Typed[T]) Message(v T) (*Message, error) {
	c := t.codec()
	body, err := guarded(func() ([]byte, error) { return c.Encode(v) })
	if err != nil {
		return nil, lease.Invalidf("message.body", "cannot be encoded as %s: %v", c.ContentType(), err)
	}
	if most := t.maxBytes(); len(body) > most {
		return nil, lease.Invalidf("message.body", "must be at most %d bytes, has %d", most, len(body))
	}
	return &Message{ContentType: c.ContentType(), Type: t.Type, Body: body}, nil
}

// Decode returns the value of a message. The error matches ErrUndecodable and
// says why. A message without a content type is taken for one of the codec's.
func (t Typed[T]) Decode(m *Message) (v T, err error) {
	c := t.codec()
	switch {
	case t.Type != "" && m.Type != t.Type:
		return v, fmt.Errorf("%w: it is of type %q, want %q", ErrUndecodable, m.Type, t.Type)
	case m.ContentType != "" && mediaType(m.ContentType) != mediaType(c.ContentType()):
		return v, fmt.Errorf("%w: its content type is %q, want %q", ErrUndecodable, m.ContentType, c.ContentType())
	case m.ContentEncoding != "" && m.ContentEncoding != "identity":
		return v, fmt.Errorf("%w: its body is encoded as %q", ErrUndecodable, m.ContentEncoding)
	case len(m.Body) > t.maxBytes():
		return v, fmt.Errorf("%w: its body has %d bytes, at most %d are taken", ErrUndecodable, len(m.Body), t.maxBytes())
	}
	if v, err = guarded(func() (T, error) { return c.Decode(m.Body) }); err != nil {
		var zero T
		return zero, fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	return v, nil
}

// mediaType drops the parameters.
func mediaType(s string) string {
	media, _, err := mime.ParseMediaType(s)
	if err != nil {
		return s
	}
	return media
}

// guarded turns a panic into an error.
func guarded[R any](f func() (R, error)) (r R, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the codec panicked: %v", p)
		}
	}()
	return f()
}

// Publish publishes values to r, as Broker.Publish does messages.
func (t Typed[T]) Publish(ctx context.Context, b *Broker, r Route, vs ...T) ([]Receipt, error) {
	ms := make([]*Message, len(vs))
	for i, v := range vs {
		m, err := t.Message(v)
		if err != nil {
			return nil, wrap("publish to", routeName(r), inBatch(i, len(vs), err))
		}
		ms[i] = m
	}
	return b.Publish(ctx, r, ms...)
}

// Serve is Broker.Serve for a handler of values. A message that cannot be
// decoded never reaches the handler: it is rejected at once, with the reason,
// since no further attempt would help. So the queue should have a dead letter;
// without one such a message is dropped, as whatever is rejected.
func (t Typed[T]) Serve(ctx context.Context, b *Broker, queue string, h func(ctx context.Context, v T, d *Delivery) error, o *ServeOptions) error {
	if h == nil {
		return b.Serve(ctx, queue, nil, o)
	}
	return b.Serve(ctx, queue, func(ctx context.Context, d *Delivery) error {
		v, err := t.Decode(d.Message)
		if err != nil {
			return Reject(err)
		}
		return h(ctx, v, d)
	}, o)
}
