package wire

import (
	"errors"
	"testing"

	"github.com/lockkeeper/lockkeeper/lease"
)

func TestCheckText(t *testing.T) {
	const bad = "a\xff"
	for field, v := range map[string]any{
		"name":                      &AcquireRequest{Name: bad},
		"meta[k]":                   AcquireRequest{Meta: map[string]string{"k": bad}},
		"meta key":                  AcquireRequest{Meta: map[string]string{bad: "v"}},
		"leases[1].holder":          ReleaseRequest{Leases: []LeaseRef{{}, {Holder: bad}}},
		"queues[0].dead_letter.key": Topology{Queues: []Queue{{DeadLetter: &Route{Key: bad}}}},
		"bindings[0].args[x]":       Topology{Bindings: []Binding{{Args: Headers{"x": bad}}}},
	} {
		var f *lease.FieldError
		if err := CheckText(v); !errors.As(err, &f) || f.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, v := range []any{&AcquireRequest{Name: "ü"}, Message{BodyBase64: &[]byte{0xff}}, Message{}, nil} {
		if err := CheckText(v); err != nil {
			t.Errorf("%+v: %v", v, err)
		}
	}
}
