package driver

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/lease"
)

func TestNamesAtTheLimit(t *testing.T) {
	for s, ok := range map[string]bool{
		strings.Repeat("n", MaxName): true, "a/b%2F ü": true,
		strings.Repeat("n", MaxName+1): false, "": false, "a\x00": false, "a\x7f": false, "a\xff": false,
	} {
		if err := ValidateQueueName("queue", s); (err == nil) != ok || err != nil && !errors.Is(err, lease.ErrInvalid) {
			t.Errorf("%q: %v, want valid %v", s, err, ok)
		}
	}
}

// FuzzHeaders checks that Normalize is idempotent and leaves its argument
// alone, and that Validate never panics.
func FuzzHeaders(f *testing.F) {
	f.Add("key", "text", int32(7), float32(1.5), uint64(1<<63))
	f.Add("", "\xff", int32(-1), float32(0), uint64(0))
	f.Fuzz(func(t *testing.T, key, text string, i int32, x float32, u uint64) {
		if x != x {
			x = 0 // NaN is equal to nothing
		}
		fresh := func() Headers {
			return Headers{key: text, "i": i, "x": x, "u": u, "m": map[string]any{key: i}, "l": []any{i, Headers{key: x}}}
		}
		h := fresh()
		once := h.Normalize()
		if !reflect.DeepEqual(h, fresh()) {
			t.Fatalf("Normalize changed its argument to %v", h)
		}
		if twice := once.Normalize(); !reflect.DeepEqual(once, twice) {
			t.Fatalf("once %v, twice %v", once, twice)
		}
		if err := once.Validate("headers"); err != nil && !errors.Is(err, lease.ErrInvalid) {
			t.Fatal(err)
		}
	})
}
