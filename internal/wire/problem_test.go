package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// TestEveryErrorCrosses sends each sentinel through a problem and back.
func TestEveryErrorCrosses(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range codes {
		if seen[c.code] {
			t.Errorf("%s is there twice", c.code)
		}
		seen[c.code] = true
		b, err := json.Marshal(ProblemOf(NewProblem(c.code, "", "because")))
		if err != nil {
			t.Fatal(err)
		}
		var p Problem
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(p.Err(), c.err) || p.Err().Error() != "because" || p.Status != c.status {
			t.Errorf("%s: %v, %+v", c.code, p.Err(), p)
		}
	}
	for _, c := range codes[:19] { // those that drivers return
		p := ProblemOf(fmt.Errorf("deep inside: %w", c.err))
		if p.Code != c.code || !errors.Is(p.Err(), c.err) {
			t.Errorf("%v became %s, %v", c.err, p.Code, p.Err())
		}
	}
}

func TestFieldErrorsCross(t *testing.T) {
	for driver, wire := range map[string]string{
		"name": "name", "ttl": "ttl_ms", "lock_delay": "lock_delay_ms", "queues[0].backoff.max": "queues[0].backoff.max_ms",
		"max": "max", "max_bytes": "max_bytes", "leases[3].ttl": "leases[3].ttl_ms",
	} {
		p := ProblemOf(fmt.Errorf("x: %w", lease.Invalidf(driver, "must be %d", 1)))
		var f *lease.FieldError
		if p.Field != wire || !errors.As(p.Err(), &f) || f.Field != driver || f.Reason != "must be 1" {
			t.Errorf("%s: %+v, back as %+v", driver, p, f)
		}
	}
}

func TestProblemOfTheUnknown(t *testing.T) {
	for _, c := range []struct {
		err  error
		code string
	}{
		{errors.New("?"), CodeInternal},
		{context.Canceled, CodeUnknown},
		{fmt.Errorf("%w: %w", lease.ErrClosed, lease.ErrUnknown), CodeUnknown},
	} {
		if p := ProblemOf(c.err); p.Code != c.code {
			t.Errorf("%v: %s, want %s", c.err, p.Code, c.code)
		}
	}
	if OutcomeOf(nil) != nil || (*Problem)(nil).Err() != nil {
		t.Error("no error became one")
	}
	if p := (&Problem{Code: "from the future", Detail: "?"}).Err(); !errors.Is(p, lease.ErrUnknown) {
		t.Errorf("a code that is not known: %v", p)
	}
}

func TestMillis(t *testing.T) {
	for _, c := range []struct {
		d                  time.Duration
		floor, ceil, lease Millis
	}{
		{0, 0, 0, 0}, {1, 0, 1, 1}, {time.Millisecond, 1, 1, 1}, {1500 * time.Microsecond, 1, 2, 1}, {-time.Second, -1000, -1000, -1000},
	} {
		if Floor(c.d) != c.floor || Ceil(c.d) != c.ceil || LeaseMillis(c.d) != c.lease {
			t.Errorf("%v: %d, %d, %d", c.d, Floor(c.d), Ceil(c.d), LeaseMillis(c.d))
		}
	}
	if d := Millis(math.MaxInt64).Duration(); d < 290*365*24*time.Hour {
		t.Errorf("the largest is %v", d)
	}
	if d := Millis(math.MinInt64).Duration(); d > 0 {
		t.Errorf("the smallest is %v", d)
	}
}
