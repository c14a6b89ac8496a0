// Package cron says when the ticks of a cron expression in a time zone are.
//
// The expression has five fields (minute, hour, day of the month, month and
// weekday), or six with seconds in front, or is @yearly, @monthly, @weekly,
// @daily or @hourly. As in the cron of Unix, a day matches if the day of
// month or the day of week does when both are restricted. Expressions are
// parsed by a library; the ticks are counted here, because it is exactness
// when clocks change that matters:
//
//   - With an hour field of * ticks follow real time: where an hour is
//     repeated they come in both, where one is skipped nothing is missed.
//   - With any other hour field a tick is a time of day, and has its one tick
//     on each day that matches. A time that is skipped ticks at the moment
//     at which the clock jumps over it; one that is repeated ticks the first
//     time only. Times that are skipped together tick together, once.
//
// The rules of time zones are the system's, or those built into the program
// where the system has none.
package cron

import (
	"math/bits"
	"strings"
	"time"
	_ "time/tzdata" // for machines that have no time zones

	parser "github.com/netresearch/go-cron"

	"github.com/lockkeeper/lockkeeper/lease"
)

// MaxExpression bounds an expression, in bytes.
const MaxExpression = 255

// horizon is how far ahead a tick is looked for: the 29th of February on a
// given day of the week can be 40 years away.
const horizon = 41

// star is the bit by which the parser says that a field was *.
const star = 1 << 63

// Schedule is a compiled expression. It never changes.
type Schedule struct {
	second, minute, hour, day, month, weekday uint64
	zone                                      *time.Location
}

// fields is what an expression may have.
var fields = parser.MustNewParser(parser.SecondOptional | parser.Minute | parser.Hour | parser.Dom | parser.Month | parser.Dow | parser.Descriptor | parser.DowOrDom)

// Compile reads an expression, and the IANA name of a time zone; "" is UTC. An
// error is a *lease.FieldError about cron or time_zone.
func Compile(expression, zone string) (*Schedule, error) {
	loc, err := location(zone)
	if err != nil {
		return nil, err
	}
	if err := lease.ValidateText("cron", expression, 1, MaxExpression); err != nil {
		return nil, err
	}
	if strings.Contains(expression, "=") || strings.HasPrefix(expression, "@every") {
		return nil, lease.Invalidf("cron", "must be five or six fields, or @hourly and the like; the time zone is a field of its own")
	}
	parsed, err := fields.Parse(expression)
	if err != nil {
		return nil, lease.Invalidf("cron", "cannot be read: %v", err)
	}
	spec, ok := parsed.(*parser.SpecSchedule)
	if !ok || spec.Year != nil {
		return nil, lease.Invalidf("cron", "must be five or six fields, or @hourly and the like")
	}
	s := &Schedule{
		second: spec.Second, minute: spec.Minute, hour: spec.Hour, day: spec.Dom, month: spec.Month, weekday: spec.Dow, zone: loc,
	}
	if s.weekday&(1<<7) != 0 {
		s.weekday |= 1
	}
	if s.Next(0) == 0 {
		return nil, lease.Invalidf("cron", "never comes: no day matches %q", expression)
	}
	return s, nil
}

func location(zone string) (*time.Location, error) {
	switch zone {
	case "", "UTC":
		return time.UTC, nil
	case "Local":
		return nil, lease.Invalidf("time_zone", "must be named: Local is another one on each machine")
	}
	if err := lease.ValidateText("time_zone", zone, 1, MaxExpression); err != nil {
		return nil, err
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		return nil, lease.Invalidf("time_zone", "must be a name such as Europe/Berlin, is %q", zone)
	}
	return loc, nil
}

// Next returns the first tick after a moment; both are Unix nanoseconds. It
// is a function of its argument alone. 0 means that there is none.
func (s *Schedule) Next(after int64) int64 {
	t := time.Unix(0, after).In(s.zone)
	if s.hour&star != 0 {
		return s.nextReal(t)
	}
	return s.nextOfDay(t)
}

// Local is a tick as the schedule's time zone shows it.
func (s *Schedule) Local(tick int64) time.Time { return time.Unix(0, tick).In(s.zone) }

// nextReal walks from one change of the clock to the next: between them local
// time is real time.
func (s *Schedule) nextReal(t time.Time) int64 {
	limit := t.Year() + horizon
	for t.Year() <= limit {
		_, offset := t.Zone()
		_, end := t.ZoneBounds()
		c := s.match(civil(t, offset))
		if c.IsZero() {
			return 0
		}
		tick := time.Unix(c.Unix()-int64(offset), 0)
		if end.IsZero() || tick.Before(end) {
			return tick.UnixNano()
		}
		_, offset = end.Zone()
		if first := civil(end, offset); s.match(first.Add(-time.Second)).Equal(first) {
			return end.UnixNano()
		}
		t = end
	}
	return 0
}

// nextOfDay takes each local time once.
func (s *Schedule) nextOfDay(t time.Time) int64 {
	_, offset := t.Zone()
	for c := s.match(civil(t, offset)); !c.IsZero(); c = s.match(c) {
		if tick := s.moment(c); tick.After(t) {
			return tick.UnixNano()
		}
	}
	return 0
}

// civil is what the clock on the wall shows, as if it were UTC.
func civil(t time.Time, offset int) time.Time {
	return time.Unix(t.Unix()+int64(offset), 0).UTC()
}

// moment returns when the clock on the wall first shows c, or jumps over it.
func (s *Schedule) moment(c time.Time) time.Time {
	const day = 24 * time.Hour // no zone changes twice within two days
	_, before := c.Add(-day).In(s.zone).Zone()
	_, later := c.Add(day).In(s.zone).Zone()
	for _, offset := range [...]int{before, later} {
		t := time.Unix(c.Unix()-int64(offset), 0).In(s.zone)
		if _, o := t.Zone(); o == offset {
			return t
		}
	}
	start, _ := time.Unix(c.Unix()-int64(before), 0).In(s.zone).ZoneBounds()
	return start
}

// match returns the first local time after c, in whole seconds, that the
// fields admit; zero if there is none in reach.
func (s *Schedule) match(c time.Time) time.Time {
	limit := c.Year() + horizon
	for c = c.Add(time.Second); c.Year() <= limit; {
		year, month, day := c.Date()
		if s.month&(1<<month) == 0 {
			c = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
			continue
		}
		if !s.onDay(c) {
			c = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
			continue
		}
		h, m, sec := c.Clock()
		hour, same := from(s.hour, h, 23)
		if hour < 0 {
			c = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
			continue
		}
		if !same {
			m, sec = 0, 0
		}
		minute, same := from(s.minute, m, 59)
		if minute < 0 {
			c = time.Date(year, month, day, hour+1, 0, 0, 0, time.UTC)
			continue
		}
		if !same {
			sec = 0
		}
		second, _ := from(s.second, sec, 59)
		if second < 0 {
			c = time.Date(year, month, day, hour, minute+1, 0, 0, time.UTC)
			continue
		}
		return time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	}
	return time.Time{}
}

// onDay admits a day as Unix does.
func (s *Schedule) onDay(c time.Time) bool {
	ofMonth, ofWeek := s.day&(1<<c.Day()) != 0, s.weekday&(1<<c.Weekday()) != 0
	if s.day&star != 0 || s.weekday&star != 0 {
		return ofMonth && ofWeek
	}
	return ofMonth || ofWeek
}

// from returns the first set bit from i to last, -1 if there is none, and
// whether that is i itself.
func from(set uint64, i, last int) (n int, same bool) {
	rest := set &^ star >> i << i
	if rest == 0 {
		return -1, false
	}
	if n = bits.TrailingZeros64(rest); n > last {
		return -1, false
	}
	return n, n == i
}
