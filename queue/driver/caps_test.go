package driver

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Each power of Caps has its place in Features.
func TestFeaturesAreComplete(t *testing.T) {
	t.Parallel()
	shown := func(c *Caps) (n int) {
		for _, f := range c.Features() {
			if f.Has {
				n++
			}
		}
		return n
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Caps]()) {
		if field.Type.Kind() != reflect.Bool {
			continue
		}
		var c Caps
		reflect.ValueOf(&c).Elem().FieldByIndex(field.Index).SetBool(true)
		if got := shown(&c); got != 1 {
			t.Errorf("%s is shown %d times among the features", field.Name, got)
		}
	}
}

func TestStatement(t *testing.T) {
	t.Parallel()
	edge := strings.Repeat("x", MaxStatement-1) + "."
	good := Statement{Confirm: edge, Ack: "A.", Attempt: "A.", Delay: "D."}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	if n := reflect.TypeFor[Statement]().NumField(); len(good.Lines()) != n {
		t.Errorf("%d lines of %d fields", len(good.Lines()), n)
	}
	for _, bad := range []string{"", "x" + edge, "no sentence", "two\nlines."} {
		s := good
		s.Ack = bad
		if err := s.Validate(); !errors.Is(err, lease.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
