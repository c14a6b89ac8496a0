package wire

import (
	"time"

	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Schedule publishes a message at each of its ticks: PUT /v1/schedules.
type Schedule struct {
	Name     string  `json:"name"`
	Cron     string  `json:"cron" doc:"five fields, six with seconds in front, or @hourly, @daily, @weekly, @monthly, @yearly"`
	TimeZone string  `json:"time_zone,omitempty" doc:"an IANA name; UTC without it"`
	Exchange string  `json:"exchange,omitempty" doc:"the default exchange, which routes to the queue named by key, without it"`
	Key      string  `json:"key,omitempty" doc:"routing key"`
	Message  Message `json:"message" doc:"published at each tick, with an id made of the name and the tick, and the headers lockkeeper-schedule and lockkeeper-tick"`
	Missed   string  `json:"missed,omitempty" enum:"all,latest,skip" doc:"what becomes of ticks that were missed; all without it"`
	Paused   bool    `json:"paused,omitempty"`
}

// NewSchedule is the wire form of s.
func NewSchedule(s *queuedriver.Schedule) Schedule {
	return Schedule{
		Name: s.Name, Cron: s.Cron, TimeZone: s.TimeZone, Exchange: s.Route.Exchange, Key: s.Route.Key,
		Message: NewMessage(s.Message), Missed: string(s.Missed), Paused: s.Paused,
	}
}

// Driver is the inverse of NewSchedule, not validated.
func (s *Schedule) Driver() (*queuedriver.Schedule, error) {
	m, err := s.Message.Driver("message")
	if err != nil {
		return nil, err
	}
	m.Headers = m.Headers.Normalize()
	return &queuedriver.Schedule{
		Name: s.Name, Cron: s.Cron, TimeZone: s.TimeZone, Route: queuedriver.Route{Exchange: s.Exchange, Key: s.Key},
		Message: m, Missed: queuedriver.Missed(s.Missed), Paused: s.Paused,
	}, nil
}

// SchedulesReply is an answer to GET /v1/schedules.
type SchedulesReply struct {
	Schedules []ScheduleInfo `json:"schedules"`
	Next      string         `json:"next,omitempty" doc:"pass it as after to continue"`
}

// ScheduleInfo describes a schedule.
type ScheduleInfo struct {
	Schedule
	NextTick  *time.Time `json:"next_tick,omitempty" doc:"missing: it is paused or cannot go on"`
	LastTick  *time.Time `json:"last_tick,omitempty" doc:"that was published"`
	Waiting   int        `json:"waiting,omitempty" doc:"ticks that wait for room"`
	Published int64      `json:"published"`
	Skipped   int64      `json:"skipped" doc:"missed ticks that were not published"`
	Failed    int64      `json:"failed" doc:"ticks whose message led to no queue"`
	Error     string     `json:"error,omitempty" doc:"why the latest tick failed or waits"`
}

// NewScheduleInfo is the wire form of i.
func NewScheduleInfo(i *queuedriver.ScheduleInfo) ScheduleInfo {
	return ScheduleInfo{
		Schedule: NewSchedule(&i.Schedule), NextTick: timeOrNil(i.Next), LastTick: timeOrNil(i.Last), Waiting: i.Waiting,
		Published: i.Published, Skipped: i.Skipped, Failed: i.Failed, Error: i.Error,
	}
}

// Driver is the inverse of NewScheduleInfo.
func (i *ScheduleInfo) Driver() (queuedriver.ScheduleInfo, error) {
	s, err := i.Schedule.Driver()
	if err != nil {
		return queuedriver.ScheduleInfo{}, err
	}
	out := queuedriver.ScheduleInfo{
		Schedule: *s, Waiting: i.Waiting, Published: i.Published, Skipped: i.Skipped, Failed: i.Failed, Error: i.Error,
	}
	if i.NextTick != nil {
		out.Next = i.NextTick.UTC()
	}
	if i.LastTick != nil {
		out.Last = i.LastTick.UTC()
	}
	return out, nil
}
