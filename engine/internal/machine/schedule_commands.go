package machine

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// PutSchedule makes or replaces a schedule.
type PutSchedule struct {
	Schedule *queuedriver.Schedule // validated, defaults filled in; kept
	Ticks    Ticks
	Err      error
}

// DeleteSchedule removes one.
type DeleteSchedule struct {
	Name string
	Err  error
}

// ReadSchedules reads.
type ReadSchedules struct {
	Request *queuedriver.SchedulesRequest
	Infos   []queuedriver.ScheduleInfo
	Err     error
}

func (*PutSchedule) command()    {}
func (*DeleteSchedule) command() {}
func (*ReadSchedules) command()  {}

// PutSchedule decides it.
func (m *Queues) PutSchedule(now Time, ch Changes, c *PutSchedule) {
	spec := c.Schedule
	if c.Err = m.checkRoute(spec); c.Err != nil {
		return
	}
	r := m.schedules[spec.Name]
	switch {
	case r == nil && len(m.schedules) >= queuedriver.MaxSchedules:
		c.Err = fmt.Errorf("%d schedules at most: %w", queuedriver.MaxSchedules, lease.ErrLimit)
		return
	case r == nil:
		r = &recurring{index: -1}
	case r.ticks != nil && bytes.Equal(record.AppendSchedule(nil, &r.spec), record.AppendSchedule(nil, spec)):
		return
	}
	r.state.Skipped += int64(len(r.due))
	r.spec, r.ticks, r.due, r.wait, r.state.Error = *spec, c.Ticks, nil, "", ""
	r.state.Last = max(r.state.Last, now.Wall)
	m.addSchedule(r)
	ch.PutSchedule(&r.spec)
	ch.PutScheduleState(r.spec.Name, &r.state)
}

// checkRoute refuses a route that leads nowhere for sure.
func (m *Queues) checkRoute(spec *queuedriver.Schedule) error {
	if spec.Route.Exchange == queuedriver.DefaultExchange {
		_, err := m.find(spec.Route.Key)
		return err
	}
	if m.exchanges[spec.Route.Exchange] == nil {
		return fmt.Errorf("exchange %q: %w", spec.Route.Exchange, lease.ErrNotFound)
	}
	return nil
}

func (m *Queues) findSchedule(name string) (*recurring, error) {
	if r := m.schedules[name]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("schedule %q: %w", name, lease.ErrNotFound)
}

// DeleteSchedule decides it.
func (m *Queues) DeleteSchedule(ch Changes, c *DeleteSchedule) {
	r, err := m.findSchedule(c.Name)
	if err != nil {
		c.Err = err
		return
	}
	m.ticks.set(r, 0)
	m.held = slices.DeleteFunc(m.held, func(x *recurring) bool { return x == r })
	delete(m.schedules, c.Name)
	i, _ := slices.BinarySearch(m.scheduleNames, c.Name)
	m.scheduleNames = slices.Delete(m.scheduleNames, i, i+1)
	ch.DeleteSchedule(c.Name)
}

// ReadSchedules reads.
func (m *Queues) ReadSchedules(c *ReadSchedules) {
	q := c.Request
	if q.Name != "" {
		r, err := m.findSchedule(q.Name)
		if err != nil {
			c.Err = err
			return
		}
		c.Infos = []queuedriver.ScheduleInfo{r.info()}
		return
	}
	most := q.Max
	if most == 0 {
		most = queuedriver.DefaultList
	}
	from, _ := slices.BinarySearch(m.scheduleNames, max(q.Prefix, q.After))
	for _, name := range m.scheduleNames[from:] {
		if len(c.Infos) == most || !strings.HasPrefix(name, q.Prefix) {
			return
		}
		if name > q.After {
			c.Infos = append(c.Infos, m.schedules[name].info())
		}
	}
}

func (r *recurring) info() queuedriver.ScheduleInfo {
	i := queuedriver.ScheduleInfo{
		Schedule:  r.spec,
		Waiting:   len(r.due),
		Published: r.state.Published,
		Skipped:   r.state.Skipped,
		Failed:    r.state.Failed,
		Error:     cmp.Or(r.wait, r.state.Error),
	}
	if next := r.next; next != 0 {
		if len(r.due) > 0 {
			next = r.due[0]
		}
		i.Next = time.Unix(0, next).UTC()
	}
	if r.state.Fired != 0 {
		i.Last = time.Unix(0, r.state.Fired).UTC()
	}
	return i
}
