package cron

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

func compile(t *testing.T, expression, zone string) *Schedule {
	t.Helper()
	s, err := Compile(expression, zone)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ticks are the first n behind a moment, as RFC 3339.
func ticks(s *Schedule, after string, n int) string {
	t, err := time.Parse(time.RFC3339Nano, after)
	if err != nil {
		panic(err)
	}
	at := t.UnixNano()
	var all []string
	for range n {
		at = s.Next(at)
		all = append(all, time.Unix(0, at).In(s.zone).Format("2006-01-02T15:04:05-07:00"))
	}
	return strings.Join(all, " ")
}

func TestTicks(t *testing.T) {
	for _, c := range []struct{ expression, zone, after, want string }{
		{"*/20 * * * *", "", "2026-01-01T00:00:00Z", "2026-01-01T00:20:00+00:00 2026-01-01T00:40:00+00:00 2026-01-01T01:00:00+00:00"},
		{"*/20 * * * *", "", "2026-01-01T00:19:59.9Z", "2026-01-01T00:20:00+00:00"},
		{"10,40 5 * * * *", "", "2026-01-01T00:00:00Z", "2026-01-01T00:05:10+00:00 2026-01-01T00:05:40+00:00 2026-01-01T01:05:10+00:00"},
		{"@daily", "Asia/Kolkata", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00+05:30"},
		{"0 9 * * MON-FRI", "", "2026-01-02T10:00:00Z", "2026-01-05T09:00:00+00:00"},
		{"0 0 13 * FRI", "", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00+00:00 2026-01-09T00:00:00+00:00 2026-01-13T00:00:00+00:00"}, // or, as in Unix
		{"0 0 29 2 *", "", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00+00:00 2032-02-29T00:00:00+00:00"},
		{"0 0 * * 7", "", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00+00:00"},

		// A skipped time of day ticks when the clock jumps, once.
		{"30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", "2026-03-28T02:30:00+01:00 2026-03-29T03:00:00+02:00 2026-03-30T02:30:00+02:00"},
		{"0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T03:00:00+02:00 2026-03-30T02:00:00+02:00"},
		{"0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T03:00:00+02:00 2026-03-30T02:00:00+02:00"},
		// Midnight that does not exist.
		{"0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-04T01:00:00-02:00 2018-11-05T00:00:00-02:00"},
		// A repeated time of day ticks the first time.
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T02:30:00+02:00 2026-10-26T02:30:00+01:00"},
		{"*/30 1-3 * * *", "America/New_York", "2026-11-01T04:00:00Z", "2026-11-01T01:00:00-04:00 2026-11-01T01:30:00-04:00 2026-11-01T02:00:00-05:00"},
		// Hour * follows real time.
		{"*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T02:30:00+02:00 2026-10-25T02:00:00+01:00 2026-10-25T02:30:00+01:00 2026-10-25T03:00:00+01:00"},
		{"@hourly", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T03:00:00+02:00 2026-03-29T04:00:00+02:00"},
		// Half an hour of summer time.
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-02T12:00:00Z", "2026-10-03T02:15:00+10:30 2026-10-04T02:30:00+11:00"},
	} {
		s := compile(t, c.expression, c.zone)
		if got := ticks(s, c.after, strings.Count(c.want, " ")+1); got != c.want {
			t.Errorf("%q in %q after %s:\n got %s\nwant %s", c.expression, c.zone, c.after, got, c.want)
		}
	}
}

// What is restricted to hours has each of its times once a day, wherever the
// clock goes; what is not has each that the clock shows.
func TestEachTickOnce(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Tehran", "America/Sao_Paulo", "Africa/Casablanca"} {
		daily := compile(t, "30 2 * * *", zone)
		at := time.Date(2015, 1, 1, 0, 0, 0, 0, daily.zone).UnixNano()
		day := time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)
		for range 3000 {
			at = daily.Next(at)
			if y, m, d := time.Unix(0, at).In(daily.zone).Date(); !day.Equal(time.Date(y, m, d, 0, 0, 0, 0, time.UTC)) {
				t.Fatalf("%s: %v is not the tick of %v", zone, time.Unix(0, at).In(daily.zone), day)
			}
			day = day.AddDate(0, 0, 1)
		}
		often := compile(t, "*/10 * * * *", zone)
		for range 30_000 {
			next := often.Next(at)
			if d := time.Duration(next - at); d <= 0 || d > 10*time.Minute {
				t.Fatalf("%s: %v after %v", zone, d, time.Unix(0, at).In(often.zone))
			}
			at = next
		}
	}
}

// Next is a function of its argument: from anywhere between two ticks it is
// the second.
func TestNextFromAnywhere(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, expression := range []string{"30 2 * * *", "*/7 1-4 * * *", "*/25 * * * *", "0 0 1 * *", "5 4 * * SUN"} {
		s := compile(t, expression, "America/New_York")
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
		for range 2000 {
			next := s.Next(at)
			if got := s.Next(at + r.Int64N(next-at)); got != next {
				t.Fatalf("%q: from between %v and %v it is %v", expression, time.Unix(0, at), time.Unix(0, next), time.Unix(0, got))
			}
			at = next
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range [][2]string{
		{"", ""}, {"* * * *", ""}, {"* * * * * * *", ""}, {"60 * * * *", ""}, {"* 24 * * *", ""}, {"* * 0 * *", ""}, {"* * * 13 *", ""},
		{"@every 5m", ""}, {"@reboot", ""}, {"TZ=UTC * * * * *", ""}, {"CRON_TZ=UTC * * * * *", ""}, {"0 0 30 2 *", ""},
		{"* * * * *", "Nowhere/City"}, {"* * * * *", "Local"}, {"* * * * *", "../../etc/passwd"}, {"\x00", ""},
		{strings.Repeat(" ", MaxExpression) + "* * * * *", ""},
	} {
		var f *lease.FieldError
		if _, err := Compile(c[0], c[1]); !errors.As(err, &f) || f.Field != "cron" && f.Field != "time_zone" {
			t.Errorf("%q in %q: %v", c[0], c[1], err)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{"* * * * *", "*/5 1-3,7 1 JAN MON-FRI", "@hourly", "0 30 2 L * ?", "1/2/3 * * * *", "0 0 29 2 MON#1"} {
		f.Add(s, "Europe/Berlin", int64(1774746000))
	}
	f.Fuzz(func(t *testing.T, expression, zone string, after int64) {
		s, err := Compile(expression, zone)
		if err != nil {
			if !errors.Is(err, lease.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		after %= 4e9
		at := after * 1e9
		for range 5 {
			next := s.Next(at)
			if next == 0 {
				return
			}
			if next <= at {
				t.Fatalf("%q in %q: %d after %d", expression, zone, next, at)
			}
			at = next
		}
	})
}
