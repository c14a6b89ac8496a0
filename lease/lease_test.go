package lease

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseToken(t *testing.T) {
	for s, want := range map[string]Token{
		"1": 1, "10": 10, "9007199254740993": 9007199254740993, "18446744073709551615": math.MaxUint64,
		"": 0, "0": 0, "01": 0, "+1": 0, "-1": 0, " 1": 0, "1 ": 0, "1.0": 0, "1e3": 0, "0x1": 0, "1_0": 0,
		"18446744073709551616": 0,
	} {
		got, err := ParseToken(s)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("ParseToken(%q) = %d, %v; want %d", s, got, err, want)
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseToken(%q): %v does not match ErrInvalid", s, err)
		}
	}
}

func TestTokenJSON(t *testing.T) {
	b, err := json.Marshal(Token(math.MaxUint64))
	if err != nil || string(b) != `"18446744073709551615"` {
		t.Errorf("Marshal: %s, %v", b, err)
	}
	var tok Token
	if err := json.Unmarshal(b, &tok); err != nil || tok != math.MaxUint64 {
		t.Errorf("Unmarshal: %d, %v", tok, err)
	}
	for _, bad := range []string{`7`, `"0"`, `""`, `"07"`} {
		if err := json.Unmarshal([]byte(bad), &tok); err == nil {
			t.Errorf("Unmarshal(%s) is taken for %d", bad, tok)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	for _, s := range []string{"1", "0", "", "+1", "007", "18446744073709551616", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if tok, err := ParseToken(s); err == nil && tok.String() != s {
			t.Errorf("ParseToken(%q) = %v", s, tok)
		}
	})
}

func TestDeadline(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name                string
		sent, received      Instant
		waited, ttl, margin time.Duration
		added               time.Duration // of waited, what is believed
	}{
		{"at once", 1000, 1000, 0, 10 * time.Second, time.Second, 0},
		{"short", 0, Instant(5 * ms), 0, 100 * ms, 10 * ms, 0},
		{"long", 0, 0, 0, time.Hour, time.Second, 0},
		{"waited", 0, Instant(time.Minute), 59 * time.Second, time.Second, 100 * ms, 59 * time.Second},
		{"waited longer than the call took", 0, Instant(time.Second), time.Minute, time.Second, 100 * ms, time.Second},
		{"waited less than nothing", 0, Instant(time.Second), -time.Minute, time.Second, 100 * ms, 0},
	} {
		if got, want := Deadline(tt.sent, tt.received, tt.waited, tt.ttl), tt.sent.Add(tt.added+tt.ttl-tt.margin); got != want {
			t.Errorf("%s: %v; want %v", tt.name, got, want)
		}
	}
}

func TestFieldError(t *testing.T) {
	err := Invalidf("ttl", "must be at most %v", time.Second)
	var field *FieldError
	if !errors.Is(err, ErrInvalid) || !errors.As(err, &field) || field.Field != "ttl" || err.Error() != "ttl must be at most 1s" {
		t.Errorf("%v", err)
	}
}

// timerContract is what every Timer does.
func timerContract(t *testing.T, c Clock) {
	timer := c.NewTimer()
	defer timer.Stop()
	for _, d := range []time.Duration{20 * time.Millisecond, 0, -time.Hour} {
		at := c.Now().Add(d)
		timer.Reset(at)
		<-timer.C()
		if now := c.Now(); now < at {
			t.Errorf("fired %v before its instant", at.Sub(now))
		}
	}
	timer.Reset(c.Now().Add(time.Hour)) // replaced
	timer.Reset(c.Now().Add(time.Millisecond))
	<-timer.C()
	timer.Reset(c.Now().Add(time.Hour))
	timer.Stop()
	timer.Stop()
	select {
	case <-timer.C():
		t.Errorf("a stopped timer fired")
	default:
	}
}

func TestSystemClock(t *testing.T) {
	c := SystemClock()
	timerContract(t, c)
	last := c.Now()
	for range 1000 {
		if now := c.Now(); now < last {
			t.Fatalf("the clock went back from %v to %v", last, now)
		} else {
			last = now
		}
	}
}

func TestGoClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { timerContract(t, GoClock()) })
}

// A clock that jumps ahead of Go's timers is noticed within the poll interval.
func TestPollTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &skewedClock{Clock: GoClock()}
		timer := newPollTimer(c.Now, 100*time.Millisecond)
		defer timer.Stop()
		timer.Reset(c.Now().Add(time.Hour))
		start := time.Now()
		c.jump(2 * time.Hour)
		<-timer.C()
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("a suspend was noticed after %v", took)
		}
	})
}
