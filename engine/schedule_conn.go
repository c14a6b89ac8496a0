package engine

import (
	"context"
	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/engine/internal/store"
	"github.com/lockkeeper/lockkeeper/internal/cron"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// PutSchedule implements queuedriver.Conn.
func (q *queueConn) PutSchedule(ctx context.Context, s *queuedriver.Schedule) error {
	own := *s
	if err := own.Validate(); err != nil {
		return err
	}
	ticks, err := cron.Compile(own.Cron, own.TimeZone)
	if err != nil {
		return err
	}
	own.Message = clonePublishings([]queuedriver.Publishing{{Message: s.Message}})[0].Message
	cmd := &machine.PutSchedule{Schedule: &own, Ticks: ticks}
	if err := q.do(ctx, cmd, nil); err != nil {
		return err
	}
	return cmd.Err
}

// DeleteSchedule implements queuedriver.Conn.
func (q *queueConn) DeleteSchedule(ctx context.Context, name string) error {
	if err := queuedriver.ValidateScheduleName("name", name); err != nil {
		return err
	}
	cmd := &machine.DeleteSchedule{Name: name}
	if err := q.do(ctx, cmd, nil); err != nil {
		return err
	}
	return cmd.Err
}

// Schedules implements queuedriver.Conn.
func (q *queueConn) Schedules(ctx context.Context, r *queuedriver.SchedulesRequest) ([]queuedriver.ScheduleInfo, error) {
	own := *r
	if err := own.Validate(); err != nil {
		return nil, err
	}
	cmd := &machine.ReadSchedules{Request: &own}
	if err := q.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	for i := range cmd.Infos { // the machine keeps its own
		cmd.Infos[i].Message = clonePublishings([]queuedriver.Publishing{{Message: cmd.Infos[i].Message}})[0].Message
	}
	return cmd.Infos, cmd.Err
}

// restoreSchedules loads the schedules. One that cannot be compiled any more,
// because its time zone is gone, stays and says so.
func (c *core) restoreSchedules() error {
	return c.store.Schedules(func(s *queuedriver.Schedule, state *record.ScheduleState) error {
		ticks, err := cron.Compile(s.Cron, s.TimeZone)
		if err != nil {
			c.logger.Error("a schedule cannot go on", "schedule", s.Name, "error", err)
			c.queues.RestoreSchedule(s, state, nil, fmt.Errorf("it cannot go on: %w", err))
			return nil
		}
		c.queues.RestoreSchedule(s, state, ticks, nil)
		return nil
	})
}

func (c *core) passSchedule(now machine.Time, b *store.Batch, cmd machine.Command) {
	switch cmd := cmd.(type) {
	case *machine.PutSchedule:
		c.queues.PutSchedule(now, b, cmd)
	case *machine.DeleteSchedule:
		c.queues.DeleteSchedule(b, cmd)
	case *machine.ReadSchedules:
		c.queues.ReadSchedules(cmd)
	}
}
