package record

import queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"

// ScheduleState is how far a schedule has come. It is written together with
// the messages of the ticks that it says are over.
type ScheduleState struct {
	Last      int64 // no tick up to here is still to come; wall clock, Unix nanoseconds
	Fired     int64 // the latest tick that was published; 0: none
	Published int64
	Skipped   int64
	Failed    int64
	Error     string // of the latest tick, if it failed
}

// AppendSchedule appends the encoding of s. Equal schedules have equal
// encodings.
func AppendSchedule(b []byte, s *queuedriver.Schedule) []byte {
	b = append(b, version)
	b = appendString(b, s.Name)
	b = appendString(b, s.Cron)
	b = appendString(b, s.TimeZone)
	b = appendString(b, string(s.Missed))
	b = appendBool(b, s.Paused)
	return AppendMessage(b, &Message{Route: s.Route, Message: s.Message})
}

// DecodeSchedule is the inverse of AppendSchedule. See DecodeMessage for what
// is a part of b.
func DecodeSchedule(b []byte) (*queuedriver.Schedule, error) {
	d := decode("schedule", b)
	s := &queuedriver.Schedule{
		Name: d.string("name"), Cron: d.string("cron"), TimeZone: d.string("time_zone"),
		Missed: queuedriver.Missed(d.string("missed")), Paused: d.bool("paused"),
	}
	m := d.message()
	s.Route, s.Message = m.Route, m.Message
	if m.Published != 0 {
		d.failf("message", "has a time of its own")
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return s, nil
}

// AppendScheduleState appends the encoding of s.
func AppendScheduleState(b []byte, s *ScheduleState) []byte {
	b = append(b, version)
	for _, n := range [...]int64{s.Last, s.Fired, s.Published, s.Skipped, s.Failed} {
		b = appendInt(b, n)
	}
	return appendString(b, s.Error)
}

// DecodeScheduleState is the inverse of AppendScheduleState.
func DecodeScheduleState(b []byte) (*ScheduleState, error) {
	d := decode("ticks", b)
	s := &ScheduleState{
		Last: d.int("last"), Fired: d.int("fired"), Published: d.int("published"), Skipped: d.int("skipped"), Failed: d.int("failed"),
		Error: d.string("error"),
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return s, nil
}
