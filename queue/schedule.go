package queue

import (
	"context"
	"iter"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// PutSchedule makes a schedule, or replaces the one of that name: the backend
// publishes its message at each tick of its cron expression, exactly once,
// whoever is running then. What is wrong with it shows in Schedule's Error.
func (b *Broker) PutSchedule(ctx context.Context, s *Schedule) error {
	if s == nil {
		return wrap("put schedule", "", lease.Invalidf("schedule", "is missing"))
	}
	own := *s
	if s.Message != nil {
		m := *s.Message
		m.Headers = m.Headers.Normalize()
		own.Message = &m
	}
	if err := own.Validate(); err != nil {
		return wrap("put schedule", s.Name, err)
	}
	return wrap("put schedule", s.Name, overdue(ctx, b.conn.PutSchedule(ctx, &own)))
}

// DeleteSchedule removes a schedule. ErrNotFound if there is none.
func (b *Broker) DeleteSchedule(ctx context.Context, name string) error {
	return wrap("delete schedule", name, overdue(ctx, b.conn.DeleteSchedule(ctx, name)))
}

// Schedule describes one schedule. ErrNotFound if there is none of that name.
func (b *Broker) Schedule(ctx context.Context, name string) (*ScheduleInfo, error) {
	err := driver.ValidateScheduleName("name", name)
	if err != nil {
		return nil, wrap("read schedule", name, err)
	}
	infos, err := b.conn.Schedules(ctx, &driver.SchedulesRequest{Name: name})
	if err == nil && len(infos) != 1 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, wrap("read schedule", name, err)
	}
	return &infos[0], nil
}

// Schedules describes the schedules whose names begin with prefix, in byte
// order of their names. It reads page by page, so that it is not a snapshot.
// An error ends it.
func (b *Broker) Schedules(ctx context.Context, prefix string) iter.Seq2[*ScheduleInfo, error] {
	return func(yield func(*ScheduleInfo, error) bool) {
		r := driver.SchedulesRequest{Prefix: prefix, Max: driver.DefaultList}
		for {
			page, err := b.conn.Schedules(ctx, &r)
			if err != nil {
				yield(nil, wrap("read schedules", prefix, err))
				return
			}
			for i := range page {
				if !yield(&page[i], nil) {
					return
				}
			}
			if len(page) < r.Max {
				return
			}
			r.After = page[len(page)-1].Name
		}
	}
}
