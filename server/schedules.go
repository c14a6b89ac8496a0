package server

import (
	"net/http"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

func scheduleRoutes() []route {
	const get, put, del = http.MethodGet, http.MethodPut, http.MethodDelete
	return []route{
		{method: put, path: "/v1/schedules", op: "putSchedule", needs: needsQueues, in: wire.Schedule{}, serve: servePutSchedule,
			summary: "Publish a message at each tick of a cron expression: exactly one a tick. Replaces the schedule of that name."},
		{method: get, path: "/v1/schedules", op: "listSchedules", needs: needsQueues, out: wire.SchedulesReply{}, serve: serveSchedules,
			params: []param{
				{"prefix", text, "names that begin so"},
				{"name", text, "exactly this one"},
				{"after", text, "continue behind this name"},
				{"limit", number, "at most so many, 1 to 1000; 100 without it"},
			},
			summary: "Schedules, how far they have come and what is wrong with them."},
		{method: del, path: "/v1/schedules", op: "deleteSchedule", needs: needsQueues, required: "name", serve: serveDeleteSchedule,
			params:  []param{{"name", text, "of the schedule"}},
			summary: "Delete a schedule."},
	}
}

func servePutSchedule(c *call) error {
	var in wire.Schedule
	if err := c.decode(&in); err != nil {
		return err
	}
	s, err := in.Driver()
	if err != nil {
		return err
	}
	if err := s.Validate(); err != nil {
		return err
	}
	if err := c.s.cfg.Queues.PutSchedule(c.r.Context(), s); err != nil {
		return err
	}
	return c.reply(nil)
}

func serveDeleteSchedule(c *call) error {
	name := c.query.Get("name")
	if err := queuedriver.ValidateScheduleName("name", name); err != nil {
		return err
	}
	if err := c.s.cfg.Queues.DeleteSchedule(c.r.Context(), name); err != nil {
		return err
	}
	return c.reply(nil)
}

func serveSchedules(c *call) error {
	v := values{Values: c.query}
	req := &queuedriver.SchedulesRequest{Name: v.Get("name"), Prefix: v.Get("prefix"), After: v.Get("after"), Max: v.int("limit", queuedriver.MaxList)}
	if v.err != nil {
		return v.err
	}
	if err := validList(req.Name, req.Prefix, req.After, queuedriver.ValidateScheduleName); err != nil {
		return err
	}
	most := orDefault(req.Max, queuedriver.DefaultList)
	if err := c.reserve(c.r.Context(), int64(most)*(queuedriver.MaxScheduleBody+queuedriver.MaxHeaderBytes)); err != nil {
		return err
	}
	infos, err := c.s.cfg.Queues.Schedules(c.r.Context(), req)
	if err != nil {
		return err
	}
	out := wire.SchedulesReply{Schedules: make([]wire.ScheduleInfo, len(infos))}
	for i := range infos {
		out.Schedules[i] = wire.NewScheduleInfo(&infos[i])
	}
	if n := len(infos); n > 0 && req.Name == "" && n >= most {
		out.Next = infos[n-1].Name
	}
	return c.reply(&out)
}
