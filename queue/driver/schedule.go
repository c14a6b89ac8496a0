package driver

import (
	"context"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Scheduler is the part of a Conn that publishes by the clock. Without
// Caps.Schedules every method is lease.ErrUnsupported.
//
// The times at which a schedule publishes are its ticks. The backend publishes
// exactly one message a tick, also over restarts and crashes: the message and
// the note that the tick is over are one write. If its wall clock is set back,
// ticks that are over do not come again.
type Scheduler interface {
	// PutSchedule makes a schedule, or replaces the one of that name, whose
	// counters stay. One that is equal is left alone. Only ticks after this
	// moment count. lease.ErrNotFound if the route leads to an exchange or,
	// by the default exchange, to a queue that does not exist; lease.ErrLimit
	// past MaxSchedules.
	PutSchedule(ctx context.Context, s *Schedule) error
	// DeleteSchedule removes a schedule and forgets its counters.
	// lease.ErrNotFound.
	DeleteSchedule(ctx context.Context, name string) error
	// Schedules returns up to r.Max schedules in byte order of their names.
	Schedules(ctx context.Context, r *SchedulesRequest) ([]ScheduleInfo, error)
}

// Missed says what becomes of ticks that were missed: those that are over for
// more than MissedAfter when the backend gets to them, because it was down or
// its clock was set forward.
type Missed string

// What can become of missed ticks.
const (
	MissedAll    Missed = "all"    // each is published, at most MaxMissedTicks of them; the default
	MissedLatest Missed = "latest" // only the last one is
	MissedSkip   Missed = "skip"   // none is
)

// MissedAfter is how late a tick may be that is not missed.
const MissedAfter = time.Minute

// Schedule publishes a message at each of its ticks.
type Schedule struct {
	Name string // 1 to MaxScheduleName bytes
	// Cron has five fields (minute, hour, day, month, weekday),
	// or six with seconds in front, or is @hourly, @daily, @weekly, @monthly
	// or @yearly.
	Cron string
	// TimeZone is an IANA name, such as Europe/Berlin; "" means UTC. If the
	// hour is *, ticks follow real time. Otherwise each is a time of day: one
	// that the clock jumps over ticks at the jump, one that it shows twice
	// ticks the first time.
	TimeZone string
	Route    Route
	// Message is published at each tick, with an ID made of the name and the
	// tick, and with HeaderSchedule and HeaderTick. It must not have an ID, a
	// Delay or a NotBefore; body and headers have at most MaxScheduleBody and
	// MaxHeaderBytes bytes.
	Message *Message
	Missed  Missed // "" means MissedAll
	Paused  bool   // no ticks; those that would have been are not missed
}

// ScheduleInfo describes a schedule.
type ScheduleInfo struct {
	Schedule
	Next      time.Time // tick; zero if it is paused or cannot go on
	Last      time.Time // tick that was published; zero: none yet
	Waiting   int       // ticks that wait for room in the store or in a full queue
	Published int64
	Skipped   int64  // missed ticks that were not published
	Failed    int64  // ticks whose message led to no queue
	Error     string // what is wrong: why the latest tick failed or waits
}

// SchedulesRequest bounds a Schedules.
type SchedulesRequest struct {
	Name   string // exactly this one, lease.ErrNotFound if there is none
	Prefix string
	After  string
	Max    int // 1 to MaxList; 0 means DefaultList
}

// Headers of the messages that schedules publish.
const (
	HeaderSchedule = "lockkeeper-schedule" // string: its name
	HeaderTick     = "lockkeeper-tick"     // string: the time of the tick in RFC 3339, in UTC
)

// TickLayout is how a tick is written in HeaderTick and in a message's ID.
const TickLayout = "2006-01-02T15:04:05Z"

// Validate checks all but Cron and TimeZone, which the backend reads, and
// fills in defaults.
func (s *Schedule) Validate() error {
	if err := ValidateScheduleName("name", s.Name); err != nil {
		return err
	}
	if err := lease.ValidateText("cron", s.Cron, 1, MaxCron); err != nil {
		return err
	}
	if err := lease.ValidateText("time_zone", s.TimeZone, 0, MaxCron); err != nil {
		return err
	}
	switch s.Missed {
	case "":
		s.Missed = MissedAll
	case MissedAll, MissedLatest, MissedSkip:
	default:
		return lease.Invalidf("missed", "must be all, latest or skip, is %q", s.Missed)
	}
	if s.Message == nil {
		return lease.Invalidf("message", "is missing")
	}
	if m := s.Message; m.ID != "" || m.Delay != 0 || !m.NotBefore.IsZero() {
		return lease.Invalidf("message", "must have no id, delay or not_before: the ticks decide about them")
	}
	if n := len(s.Message.Body); n > MaxScheduleBody {
		return lease.Invalidf("message.body", "must be at most %d bytes, has %d", MaxScheduleBody, n)
	}
	for k := range s.Message.Headers {
		if strings.HasPrefix(k, HeaderReservedPrefix) {
			return lease.Invalidf("message.headers", "must not begin with %q, which is reserved", HeaderReservedPrefix)
		}
	}
	if len(s.Message.Headers) > MaxHeaders-2 {
		return lease.Invalidf("message.headers", "must be at most %d: a tick adds two", MaxHeaders-2)
	}
	p := Publishing{Route: s.Route, Message: s.Message}
	return p.Validate()
}

// ValidateScheduleName returns a *lease.FieldError unless s is 1 to
// MaxScheduleName bytes of UTF-8 without control characters.
func ValidateScheduleName(field, s string) error {
	return lease.ValidateText(field, s, 1, MaxScheduleName)
}

// Validate checks a request.
func (r *SchedulesRequest) Validate() error {
	if r.Name != "" {
		return ValidateScheduleName("name", r.Name)
	}
	if err := lease.ValidateText("prefix", r.Prefix, 0, MaxScheduleName); err != nil {
		return err
	}
	if err := lease.ValidateText("after", r.After, 0, MaxScheduleName); err != nil {
		return err
	}
	return validMax(r.Max, MaxList)
}
