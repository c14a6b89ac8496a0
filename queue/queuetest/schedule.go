package queuetest

import (
	"errors"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

var scheduleChecks = []check{
	{"each tick publishes one message", scheduleTicks},
	{"a schedule is replaced, and one that is equal left alone", scheduleReplace},
	{"a schedule that is paused or deleted has no ticks", schedulePause},
	{"a tick that leads nowhere is counted and told", scheduleNowhere},
	{"a route that leads nowhere for sure is refused", scheduleRoute},
	{"schedules are listed page by page", scheduleList},
	{"schedules are checked", scheduleFields},
}

const everySecond = "* * * * * *"

// schedules asserts ErrUnsupported where there are no schedules.
func (s *suite) schedules() bool {
	s.Helper()
	if s.caps.Schedules {
		return true
	}
	s.unsupported(s.conn.PutSchedule(s.ctx, &driver.Schedule{Name: "s", Cron: everySecond, Route: to("q"), Message: body("a")}), "PutSchedule")
	s.unsupported(s.conn.DeleteSchedule(s.ctx, "s"), "DeleteSchedule")
	_, err := s.conn.Schedules(s.ctx, &driver.SchedulesRequest{})
	s.unsupported(err, "Schedules")
	return false
}

// put makes a schedule that is deleted at the end.
func (s *suite) put(sc driver.Schedule) {
	s.Helper()
	s.must(s.conn.PutSchedule(s.ctx, &sc), "PutSchedule")
	s.Cleanup(func() {
		if err := s.open().DeleteSchedule(s.ctx, sc.Name); err != nil && !errors.Is(err, lease.ErrNotFound) {
			s.Errorf("DeleteSchedule: %v", err)
		}
	})
}

func (s *suite) schedule(name string) driver.ScheduleInfo {
	s.Helper()
	infos, err := s.conn.Schedules(s.ctx, &driver.SchedulesRequest{Name: name})
	s.must(err, "Schedules")
	if len(infos) != 1 || infos[0].Name != name {
		s.Fatalf("Schedules of %s returned %+v", name, infos)
	}
	return infos[0]
}

// tick is the time of the tick that a delivery is of.
func (s *suite) tick(d driver.Delivery) time.Time {
	s.Helper()
	text, _ := d.Message.Headers[driver.HeaderTick].(string)
	t, err := time.Parse(driver.TickLayout, text)
	s.must(err, "the header of a tick")
	return t
}

// ticked receives n messages of a schedule and asserts that they are of
// consecutive seconds, behind after.
func (s *suite) ticked(q, name string, n int, after time.Time) time.Time {
	s.Helper()
	for range n {
		d := s.receive(q, 1)[0]
		tick := s.tick(d)
		if !after.IsZero() && !tick.Equal(after.Add(time.Second)) {
			s.Errorf("the tick of %v came after that of %v", tick, after)
		}
		if late := time.Since(tick); late < -time.Second {
			s.Errorf("the tick of %v came %v early", tick, -late)
		}
		if want := name + "@" + tick.Format(driver.TickLayout); d.Message.ID != want || d.Message.Headers[driver.HeaderSchedule] != name {
			s.Errorf("a tick came as %q with %v, want %q", d.Message.ID, d.Message.Headers, want)
		}
		s.ack(d)
		after = tick
	}
	return after
}

func scheduleTicks(s *suite) {
	if !s.schedules() {
		return
	}
	q, name := s.queue("q"), s.name("s")
	put := time.Now()
	s.put(driver.Schedule{Name: name, Cron: everySecond, TimeZone: "Europe/Berlin", Route: to(q), Message: &driver.Message{
		Body: []byte("body"), Headers: driver.Headers{"own": "header"}, ContentType: "text/plain",
	}})
	d := s.receive(q, 1)[0]
	if m := d.Message; string(m.Body) != "body" || m.Headers["own"] != "header" || m.ContentType != "text/plain" || d.Route != to(q) {
		s.Errorf("a tick came as %+v, %+v", d.Route, m)
	}
	first := s.tick(d)
	if first.Before(put.Add(-time.Second)) {
		s.Errorf("the first tick is of %v, before the schedule was put at %v", first, put)
	}
	s.ack(d)
	last := s.ticked(q, name, 3, first)
	i := s.schedule(name)
	if i.Published < 4 || i.Skipped != 0 || i.Failed != 0 || i.Error != "" || i.Last.Before(last) || !i.Next.After(i.Last) {
		s.Errorf("the schedule says %+v", i)
	}
}

func scheduleReplace(s *suite) {
	if !s.schedules() {
		return
	}
	q, name := s.queue("q"), s.name("s")
	sc := driver.Schedule{Name: name, Cron: everySecond, Route: to(q), Message: body("a")}
	s.put(sc)
	last := s.ticked(q, name, 1, time.Time{})
	s.put(sc) // equal: nothing is missed by it
	s.ticked(q, name, 2, last)
	published := s.schedule(name).Published
	sc.Cron, sc.TimeZone, sc.Missed = "0 4 * * *", "America/New_York", driver.MissedSkip
	s.put(sc)
	i := s.schedule(name)
	if i.Cron != sc.Cron || i.TimeZone != sc.TimeZone || i.Missed != sc.Missed || i.Published < published {
		s.Errorf("the schedule says %+v", i)
	}
	if zone, err := time.LoadLocation(sc.TimeZone); err == nil {
		if h, m, _ := i.Next.In(zone).Clock(); h != 4 || m != 0 {
			s.Errorf("the next tick is at %v", i.Next.In(zone))
		}
	}
}

func schedulePause(s *suite) {
	if !s.schedules() {
		return
	}
	q, other := s.queue("q"), s.queue("other")
	sc := driver.Schedule{Name: s.name("paused"), Cron: everySecond, Route: to(q), Message: body("a"), Paused: true}
	s.put(sc)
	gone := driver.Schedule{Name: s.name("gone"), Cron: everySecond, Route: to(q), Message: body("a")}
	s.put(gone)
	s.must(s.conn.DeleteSchedule(s.ctx, gone.Name), "DeleteSchedule")
	s.is(s.conn.DeleteSchedule(s.ctx, gone.Name), lease.ErrNotFound, "DeleteSchedule again")
	_, err := s.conn.Schedules(s.ctx, &driver.SchedulesRequest{Name: gone.Name})
	s.is(err, lease.ErrNotFound, "Schedules of one that is gone")
	for _, d := range s.fetch(s.request(q, 10)) { // a second may have begun in between
		s.ack(d)
	}
	running := s.name("running")
	s.put(driver.Schedule{Name: running, Cron: everySecond, Route: to(other), Message: body("a")})
	s.ticked(other, running, 2, time.Time{})
	s.none(q)
	if i := s.schedule(sc.Name); !i.Next.IsZero() || i.Published != 0 {
		s.Errorf("the schedule that is paused says %+v", i)
	}
	sc.Paused = false
	resumed := time.Now()
	s.put(sc)
	d := s.receive(q, 1)[0]
	if tick := s.tick(d); tick.Before(resumed.Add(-time.Second)) {
		s.Errorf("a tick of %v came, from before it went on at %v", tick, resumed)
	}
}

func scheduleNowhere(s *suite) {
	if !s.schedules() {
		return
	}
	x, name := s.name("x"), s.name("s")
	s.declare(driver.Topology{Exchanges: []driver.Exchange{{Name: x, Kind: driver.Fanout}}})
	s.put(driver.Schedule{Name: name, Cron: everySecond, Route: driver.Route{Exchange: x}, Message: body("a")})
	s.eventually("a tick has failed", func() bool { return s.schedule(name).Failed > 0 })
	if i := s.schedule(name); i.Error == "" || i.Published != 0 || i.Next.IsZero() {
		s.Errorf("the schedule says %+v", i)
	}
	q := s.queue("q")
	s.declare(driver.Topology{Bindings: []driver.Binding{{Exchange: x, Queue: q}}})
	s.ticked(q, name, 1, time.Time{})
	if i := s.schedule(name); i.Error != "" || i.Published == 0 {
		s.Errorf("the schedule that works again says %+v", i)
	}
}

func scheduleRoute(s *suite) {
	if !s.schedules() {
		return
	}
	for _, r := range []driver.Route{to(s.name("nobody")), {Exchange: s.name("nobody")}} {
		sc := driver.Schedule{Name: s.name("s"), Cron: everySecond, Route: r, Message: body("a")}
		s.is(s.conn.PutSchedule(s.ctx, &sc), lease.ErrNotFound, "PutSchedule to nowhere")
	}
}

func scheduleList(s *suite) {
	if !s.schedules() {
		return
	}
	q := s.queue("q")
	var want []string
	for _, n := range []string{"c", "a", "b"} {
		s.put(driver.Schedule{Name: s.name(n), Cron: "@yearly", Route: to(q), Message: body(n)})
	}
	want = append(want, s.name("a"), s.name("b"), s.name("c"))
	after := ""
	for _, w := range want {
		infos, err := s.conn.Schedules(s.ctx, &driver.SchedulesRequest{Prefix: s.prefix, After: after, Max: 1})
		s.must(err, "Schedules")
		if len(infos) != 1 || infos[0].Name != w {
			s.Fatalf("behind %q came %+v, want %q", after, infos, w)
		}
		if string(infos[0].Message.Body) != strings.TrimPrefix(w, s.prefix) || infos[0].Missed != driver.MissedAll {
			s.Errorf("%s says %+v", w, infos[0])
		}
		after = w
	}
	if infos, err := s.conn.Schedules(s.ctx, &driver.SchedulesRequest{Prefix: s.prefix, After: after}); err != nil || len(infos) != 0 {
		s.Errorf("behind the last came %+v, %v", infos, err)
	}
}

func scheduleFields(s *suite) {
	if !s.schedules() {
		return
	}
	q := s.queue("q")
	good := driver.Schedule{Name: s.name("s"), Cron: "@yearly", Route: to(q), Message: body("a")}
	for what, change := range map[string]func(*driver.Schedule){
		"no name":           func(sc *driver.Schedule) { sc.Name = "" },
		"a name too long":   func(sc *driver.Schedule) { sc.Name = strings.Repeat("n", driver.MaxScheduleName+1) },
		"no cron":           func(sc *driver.Schedule) { sc.Cron = "" },
		"a bad cron":        func(sc *driver.Schedule) { sc.Cron = "61 * * * *" },
		"four fields":       func(sc *driver.Schedule) { sc.Cron = "* * * *" },
		"an interval":       func(sc *driver.Schedule) { sc.Cron = "@every 1m" },
		"a day that is not": func(sc *driver.Schedule) { sc.Cron = "0 0 30 2 *" },
		"an unknown zone":   func(sc *driver.Schedule) { sc.TimeZone = "Europe/Nowhere" },
		"an unknown policy": func(sc *driver.Schedule) { sc.Missed = "some" },
		"no message":        func(sc *driver.Schedule) { sc.Message = nil },
		"an ID":             func(sc *driver.Schedule) { sc.Message = &driver.Message{ID: "id"} },
		"a delay":           func(sc *driver.Schedule) { sc.Message = &driver.Message{Delay: time.Second} },
		"a NotBefore":       func(sc *driver.Schedule) { sc.Message = &driver.Message{NotBefore: time.Now().UTC()} },
		"a body too long":   func(sc *driver.Schedule) { sc.Message = &driver.Message{Body: make([]byte, driver.MaxScheduleBody+1)} },
		"a reserved header": func(sc *driver.Schedule) {
			sc.Message = &driver.Message{Headers: driver.Headers{driver.HeaderTick: "mine"}}
		},
	} {
		sc := good
		change(&sc)
		if what == "no message" && sc.Message == nil {
			s.field(sc.Validate(), what)
			continue
		}
		s.field(s.conn.PutSchedule(s.ctx, &sc), what)
	}
	edge := good
	edge.Name = s.prefix + strings.Repeat("n", driver.MaxScheduleName-len(s.prefix))
	edge.Message = &driver.Message{Body: make([]byte, driver.MaxScheduleBody)}
	s.put(edge)
	s.field(s.conn.DeleteSchedule(s.ctx, ""), "DeleteSchedule of no name")
	_, err := s.conn.Schedules(s.ctx, &driver.SchedulesRequest{Max: driver.MaxList + 1})
	s.field(err, "Schedules past MaxList")
}

// restartSchedule is one of restartChecks: over a restart no tick is missed
// and none comes twice.
func restartSchedule(s *suite) {
	if !s.schedules() {
		return
	}
	q, name := s.queue("q"), s.name("s")
	s.put(driver.Schedule{Name: name, Cron: everySecond, Route: to(q), Message: body("a")})
	last := s.ticked(q, name, 1, time.Time{})
	published := s.schedule(name).Published
	s.restart()
	s.ticked(q, name, 3, last)
	if i := s.schedule(name); i.Published < published+3 || i.Skipped != 0 {
		s.Errorf("the schedule says %+v, had published %d before", i, published)
	}
}
