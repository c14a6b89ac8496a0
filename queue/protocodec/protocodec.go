// Package protocodec is the codec of typed messages for protocol buffers. It
// is a package of its own so that only those link the library who use it.
//
//	var orders = protocodec.Typed[*shop.Order]()
//
//	_, err := orders.Publish(ctx, broker, queue.Route{Key: "orders"}, &shop.Order{Id: 42})
//	err = orders.Serve(ctx, broker, "orders", func(ctx context.Context, o *shop.Order, d *queue.Delivery) error {
//		return pay(ctx, o.GetId())
//	}, nil)
package protocodec

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/lockkeeper/lockkeeper/queue"
)

// ContentType is what messages of this codec bear.
const ContentType = "application/x-protobuf"

var errNoType = errors.New("protocodec: the type must be that of a generated message, such as *shop.Order")

// New returns the codec for a generated message type, which is a pointer.
func New[T proto.Message]() queue.Codec[T] { return codec[T]{} }

// Typed returns a queue.Typed with the codec, and the full name of the message
// ("shop.Order") as the Type.
func Typed[T proto.Message]() queue.Typed[T] {
	t := queue.Typed[T]{Codec: New[T]()}
	var zero T
	if any(zero) != nil {
		t.Type = string(zero.ProtoReflect().Descriptor().FullName())
	}
	return t
}

type codec[T proto.Message] struct{}

func (codec[T]) ContentType() string { return ContentType }

// Encode gives equal messages equal bodies, within one version of the program.
func (codec[T]) Encode(v T) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(v)
}

func (codec[T]) Decode(body []byte) (T, error) {
	var zero T
	if any(zero) == nil {
		return zero, errNoType
	}
	v, ok := zero.ProtoReflect().New().Interface().(T)
	if !ok {
		return zero, errNoType
	}
	if err := proto.Unmarshal(body, v); err != nil {
		return zero, err
	}
	return v, nil
}
