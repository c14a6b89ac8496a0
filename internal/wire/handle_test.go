package wire

import (
	"errors"
	"math"
	"testing"

	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

func TestHandles(t *testing.T) {
	for _, r := range []queuedriver.Ref{
		{Queue: "q", Seq: 1, Token: 2},
		{Queue: "a/b %2F ü", Seq: math.MaxUint64, Token: math.MaxUint64},
		{Queue: "q"},
	} {
		h := EncodeHandle(r)
		got, err := DecodeHandle("ack[0]", h)
		if err != nil || got != r {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
		for _, bad := range []string{"", "x", h[:len(h)-1], h + "A", "B" + h, h[1:], h + "=", " " + h} {
			if _, err := DecodeHandle("ack[0]", bad); !errors.Is(err, lease.ErrInvalid) || ProblemOf(err).Field != "ack[0]" {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
}

func FuzzDecodeHandle(f *testing.F) {
	f.Add(EncodeHandle(queuedriver.Ref{Queue: "q", Seq: 300, Token: 1 << 40}))
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := DecodeHandle("h", s)
		if err == nil && EncodeHandle(r) != s {
			t.Fatalf("%q and %q are the same delivery", s, EncodeHandle(r))
		}
	})
}
