package queuetest_test

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/cron"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// refSchedule is a schedule of a reference. Its ticks come when somebody
// calls: nobody sees a difference.
type refSchedule struct {
	info  driver.ScheduleInfo
	ticks *cron.Schedule
	last  int64
}

// tick publishes what is due of all schedules. The lock is held.
func (r *reference) tick(now time.Time) {
	for _, s := range r.schedules {
		for next := s.ticks.Next(s.last); next <= now.UnixNano() && !s.info.Paused; next = s.ticks.Next(s.last) {
			s.last = next
			r.fire(s, now, time.Unix(0, next).UTC())
		}
	}
}

func (r *reference) fire(s *refSchedule, now, tick time.Time) {
	m := *s.info.Message
	name := tick.Format(driver.TickLayout)
	m.ID = s.info.Name + "@" + name
	m.Headers = maps.Clone(m.Headers)
	if m.Headers == nil {
		m.Headers = driver.Headers{}
	}
	m.Headers[driver.HeaderSchedule], m.Headers[driver.HeaderTick] = s.info.Name, name
	p := driver.Publishing{Route: s.info.Route, Message: &m, Mandatory: !r.flaws.ticksVanish}
	receipt := r.publish(now, &p)
	if r.flaws.ticksTwice {
		r.publish(now, &p)
	}
	if receipt.Err != nil {
		s.info.Failed++
		s.info.Error = receipt.Err.Error()
		return
	}
	s.info.Published++
	s.info.Last, s.info.Error = tick, ""
}

func (c *refConn) PutSchedule(ctx context.Context, sc *driver.Schedule) error {
	own := *sc
	if err := own.Validate(); err != nil {
		return err
	}
	ticks, err := cron.Compile(own.Cron, own.TimeZone)
	if err != nil {
		return err
	}
	now, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	if own.Route.Exchange == driver.DefaultExchange && c.queues[own.Route.Key] == nil ||
		own.Route.Exchange != driver.DefaultExchange && c.exchanges[own.Route.Exchange].Name == "" {
		return lease.ErrNotFound
	}
	s := c.schedules[own.Name]
	if s == nil {
		s = &refSchedule{}
	} else if reflect.DeepEqual(s.info.Schedule, own) && !c.flaws.putRestarts {
		return nil
	}
	if c.flaws.putRestarts {
		s = &refSchedule{}
	}
	s.info.Schedule, s.ticks, s.last = own, ticks, now.UnixNano()
	if c.flaws.pauseIgnored {
		s.info.Paused = false
	}
	c.schedules[own.Name] = s
	return nil
}

func (c *refConn) DeleteSchedule(ctx context.Context, name string) error {
	if err := driver.ValidateScheduleName("name", name); err != nil {
		return err
	}
	if _, err := c.begin(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if c.schedules[name] == nil {
		return lease.ErrNotFound
	}
	delete(c.schedules, name)
	return nil
}

func (c *refConn) Schedules(ctx context.Context, req *driver.SchedulesRequest) ([]driver.ScheduleInfo, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	if _, err := c.begin(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	most := req.Max
	if most == 0 {
		most = driver.DefaultList
	}
	var infos []driver.ScheduleInfo
	for _, name := range slices.Sorted(maps.Keys(c.schedules)) {
		match := strings.HasPrefix(name, req.Prefix) && name > req.After && len(infos) < most
		if req.Name != "" {
			match = name == req.Name
		}
		if !match {
			continue
		}
		s := c.schedules[name]
		info := s.info
		if !info.Paused {
			info.Next = time.Unix(0, s.ticks.Next(s.last)).UTC()
		}
		infos = append(infos, info)
	}
	if req.Name != "" && infos == nil {
		return nil, lease.ErrNotFound
	}
	return infos, nil
}
