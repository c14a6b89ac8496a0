package protocodec_test

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/lockkeeper/lockkeeper/queue"
	"github.com/lockkeeper/lockkeeper/queue/protocodec"
)

func TestRoundTrip(t *testing.T) {
	tables := protocodec.Typed[*structpb.Struct]()
	v, err := structpb.NewStruct(map[string]any{"a": 1, "b": []any{"x", true}, "c": nil, "d": map[string]any{"e": 2}})
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for range 20 { // the order of a map is not seen
		m, err := tables.Message(v)
		if err != nil || m.ContentType != protocodec.ContentType || m.Type != "google.protobuf.Struct" {
			t.Fatalf("%+v, %v", m, err)
		}
		if first == nil {
			first = m.Body
		}
		got, err := tables.Decode(m)
		if err != nil || !proto.Equal(got, v) || !bytes.Equal(first, m.Body) {
			t.Fatalf("%v, %v", got, err)
		}
	}
}

func TestUndecodable(t *testing.T) {
	tables := protocodec.Typed[*structpb.Struct]()
	other, err := protocodec.Typed[*wrapperspb.StringValue]().Message(wrapperspb.String("x"))
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*queue.Message{
		"of another type": other,
		"JSON":            {Type: "google.protobuf.Struct", ContentType: "application/json", Body: []byte("{}")},
		"cut off":         {Type: "google.protobuf.Struct", Body: []byte{0x0a, 0x05}},
		"garbage":         {Type: "google.protobuf.Struct", Body: bytes.Repeat([]byte{0xff}, 100)},
	} {
		if _, err := tables.Decode(m); !errors.Is(err, queue.ErrUndecodable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	anything := protocodec.Typed[proto.Message]()
	if _, err := anything.Decode(&queue.Message{}); !errors.Is(err, queue.ErrUndecodable) {
		t.Errorf("of no type: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x0a, 0x00})
	tables := protocodec.Typed[*structpb.Struct]()
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := tables.Decode(&queue.Message{Type: "google.protobuf.Struct", Body: body})
		if err != nil {
			if !errors.Is(err, queue.ErrUndecodable) {
				t.Fatal(err)
			}
			return
		}
		if _, err := tables.Message(v); err != nil && !errors.Is(err, queue.ErrInvalid) {
			t.Fatal(err)
		}
	})
}
