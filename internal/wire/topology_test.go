package wire

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// fill sets every field to something that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.ValueOf(queuedriver.Headers{"k": "v"}))
	case reflect.String:
		v.SetString("s")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(7)
	default:
		v.SetInt(int64(3 * time.Second))
	}
}

// TestTopologyIsCarriedWhole fails when a declaration gains a field that the
// wire does not have.
func TestTopologyIsCarriedWhole(t *testing.T) {
	var in queuedriver.Topology
	fill(reflect.ValueOf(&in).Elem())
	text, err := json.Marshal(NewTopology(&in))
	if err != nil {
		t.Fatal(err)
	}
	var got Topology
	if err := Decode(text, &got); err != nil {
		t.Fatal(err)
	}
	if out := got.Driver(); !reflect.DeepEqual(*out, in) {
		t.Errorf("sent %+v\ngot  %+v\nas   %s", in, *out, text)
	}
}

// TestCapabilitiesAreCarriedWhole does so for what a backend has.
func TestCapabilitiesAreCarriedWhole(t *testing.T) {
	var in queuedriver.Caps
	fill(reflect.ValueOf(&in).Elem())
	if out := NewQueueCaps(in).Driver(); out != in {
		t.Errorf("sent %+v\ngot  %+v", in, out)
	}
}
