package locktest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

var watchCases = []testCase{
	{"watch_begins_with_the_state", watchBegins},
	{"watch_tells_every_last_state", watchTells},
	{"watch_of_one_name", watchOne},
	{"watch_loses_nothing_when_a_call_is_abandoned", watchAbandoned},
	{"watch_begins_anew_when_it_falls_behind", watchFallsBehind},
	{"watch_ends_with_its_connection", watchEnds},
	{"watch_of_bad_names_is_refused", watchBad},
	{"watch_survives_a_restart", watchRestart},
}

// mirror is what a watch has told.
type mirror struct {
	s      *suite
	w      driver.Watcher
	names  map[string]*driver.Info
	synced bool
	resets int
}

// watch begins a watch, or checks that it is refused where there is none.
func (s *suite) watch(c driver.Conn, r *driver.WatchRequest) *mirror {
	s.Helper()
	w, err := c.Watch(s.ctx, r)
	if !s.caps.Watch {
		s.refused("Watch", err, lease.ErrUnsupported)
		return nil
	}
	if err != nil {
		s.Fatalf("Watch: %v", err)
	}
	s.Cleanup(func() {
		if err := w.Close(); err != nil {
			s.Errorf("close of a watch: %v", err)
		}
	})
	return &mirror{s: s, w: w, names: map[string]*driver.Info{}}
}

// next takes what one call tells.
func (m *mirror) next() {
	m.s.Helper()
	events, err := m.w.Next(m.s.ctx)
	if err != nil || len(events) == 0 {
		m.s.Fatalf("Next of a watch: %d events, %v", len(events), err)
	}
	m.apply(events)
}

func (m *mirror) apply(events []driver.Event) {
	m.s.Helper()
	for i := range events {
		e := &events[i]
		if m.resets == 0 && e.Kind != driver.EventReset {
			m.s.Fatalf("a watch begins with %q", e.Kind)
		}
		switch e.Kind {
		case driver.EventReset:
			m.names, m.synced = map[string]*driver.Info{}, false
			m.resets++
		case driver.EventState:
			if len(e.Info.Grants)+e.Info.Waiting == 0 && e.Info.ClosedFor == 0 {
				m.s.Errorf("a state of nothing: %+v", e.Info)
			}
			m.names[e.Info.Name] = &e.Info
		case driver.EventGone:
			delete(m.names, e.Info.Name)
		case driver.EventSynced:
			m.synced = true
		default:
			m.s.Errorf("an event of kind %q", e.Kind)
		}
	}
}

// until takes events until it has been told what ok wants.
func (m *mirror) until(ok func() bool) {
	m.s.Helper()
	for !m.synced || !ok() {
		m.next()
	}
}

// tells waits until it is told that a name is held by holder ("": by nobody,
// and gone) and awaited by so many.
func (m *mirror) tells(name, holder string, waiting int) {
	m.s.Helper()
	m.until(func() bool {
		in := m.names[name]
		if holder == "" {
			return in == nil
		}
		return in != nil && len(in.Grants) == 1 && in.Grants[0].Holder == holder && in.Waiting == waiting
	})
}

func watchBegins(s *suite) {
	for _, suffix := range []string{"a", "b", "c"} {
		s.grant(s.conn, s.several("holder", suffix))
	}
	s.line(s.conn, s.several("waiter", "b"))
	m := s.watch(s.open(), &driver.WatchRequest{Prefix: s.name + "/"})
	if m == nil {
		return
	}
	m.until(func() bool { return true })
	in := m.names[s.name+"/b"]
	if len(m.names) != 3 || in == nil || in.Waiting != 1 || in.Grants[0].Token == 0 || in.Grants[0].Remaining <= 0 {
		s.Errorf("the first state is %+v", m.names)
	}
}

// watchTells: whatever becomes of a name is told, in the end as it is.
func watchTells(s *suite) {
	m := s.watch(s.open(), &driver.WatchRequest{Prefix: s.name + "/"})
	if m == nil {
		return
	}
	m.until(func() bool { return len(m.names) == 0 })
	a, b := s.several("holder", "a"), s.several("waiter", "a")
	g := s.grant(s.conn, a)
	m.tells(a.Name, "holder", 0)
	s.line(s.conn, b)
	m.tells(a.Name, "holder", 1)
	s.release(s.conn, ref(a, g))
	gb := s.mustAwait(s.conn, b)
	m.tells(a.Name, "waiter", 0)
	if m.names[a.Name].Grants[0].Token != gb.Token {
		s.Errorf("the watch says %+v of the grant with token %d", m.names[a.Name], gb.Token)
	}
	s.release(s.conn, ref(b, gb))
	m.tells(a.Name, "", 0)
	// A lease that runs out is told, too.
	short := s.several("short", "b")
	short.TTL = s.short
	s.grant(s.conn, short)
	m.tells(short.Name, "short", 0)
	m.tells(short.Name, "", 0)
	// What it does not match is not told.
	s.grant(s.conn, s.request("outside"))
	s.grant(s.conn, s.several("inside", "z"))
	m.tells(s.name+"/z", "inside", 0)
	if m.names[s.name] != nil {
		s.Errorf("the watch told of %q", s.name)
	}
}

func watchOne(s *suite) {
	m := s.watch(s.open(), &driver.WatchRequest{Name: s.name})
	if m == nil {
		return
	}
	s.grant(s.conn, s.several("other", "a")) // the name is a prefix of this
	r := s.request("holder")
	g := s.grant(s.conn, r)
	m.tells(s.name, "holder", 0)
	s.release(s.conn, ref(r, g))
	m.tells(s.name, "", 0)
	if len(m.names) != 0 || m.resets != 1 {
		s.Errorf("it was told of %+v, with %d resets", m.names, m.resets)
	}
}

// watchAbandoned: calls whose ctx ends at any moment miss nothing.
func watchAbandoned(s *suite) {
	m := s.watch(s.open(), &driver.WatchRequest{Name: s.name})
	if m == nil {
		return
	}
	m.until(func() bool { return true })
	for i := range 50 {
		r := s.request(fmt.Sprint("holder ", i))
		ctx, cancel := context.WithTimeout(s.ctx, time.Duration(i*i)*time.Microsecond)
		granted := make(chan *driver.Grant, 1)
		go func() {
			g, _, err := s.conn.Acquire(s.ctx, r)
			if err != nil {
				s.Errorf("Acquire: %v", err)
			}
			granted <- g
		}()
		events, err := m.w.Next(ctx)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			s.Fatalf("Next: %v", err)
		}
		m.apply(events)
		g := <-granted
		if g == nil {
			return
		}
		m.tells(s.name, r.Holder, 0)
		s.release(s.conn, ref(r, g))
		m.tells(s.name, "", 0)
	}
}

// watchFallsBehind: while nobody calls Next far more names change than a watch
// keeps. It tells the state as it is then, and in full.
func watchFallsBehind(s *suite) {
	m := s.watch(s.open(), &driver.WatchRequest{Prefix: s.name + "/"})
	if m == nil {
		return
	}
	m.until(func() bool { return true })
	const names, clients = 1500, 8
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			for i := n; i < names; i += clients {
				r := s.several("holder", fmt.Sprintf("%04d", i))
				g, _, err := s.conn.Acquire(s.ctx, r)
				if err == nil && i%10 > 0 {
					err = one(s.conn.Release(s.ctx, []driver.Ref{ref(r, g)}))
				}
				if err != nil {
					s.Errorf("%q: %v", r.Name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	last := s.several("last", "zzz")
	s.grant(s.conn, last)
	m.until(func() bool { return m.names[last.Name] != nil && len(m.names) == names/10+1 })
	for name, in := range m.names {
		if name != last.Name && (len(in.Grants) != 1 || in.Grants[0].Holder != "holder") {
			s.Errorf("%q is told as %+v", name, in)
		}
	}
}

func watchEnds(s *suite) {
	c := s.open()
	m := s.watch(c, &driver.WatchRequest{Name: s.name})
	if m == nil {
		return
	}
	m.until(func() bool { return true })
	ended := make(chan error, 1)
	go func() {
		_, err := m.w.Next(s.ctx)
		ended <- err
	}()
	if err := c.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	s.refused("Next on a closed connection", <-ended, lease.ErrClosed)
	_, err := c.Watch(s.ctx, &driver.WatchRequest{Name: s.name})
	s.refused("Watch on a closed connection", err, lease.ErrClosed)
}

func watchBad(s *suite) {
	if !s.caps.Watch {
		return
	}
	for what, r := range map[string]driver.WatchRequest{
		"a name and a prefix": {Name: "a", Prefix: "b"},
		"a bad name":          {Name: "a\n"},
		"a bad prefix":        {Prefix: "\xff"},
		"too long a name":     {Name: fill("", driver.MaxName+1)},
	} {
		_, err := s.conn.Watch(s.ctx, &r)
		s.refused("Watch of "+what, err, lease.ErrInvalid)
	}
}

// watchRestart: the portable watch goes on over a restart.
func watchRestart(s *suite) {
	if !s.caps.Watch || s.h.Restart == nil || !s.caps.Durable {
		return
	}
	s.grant(s.conn, s.request("before"))
	s.h.Restart(s.TB)
	c := s.open()
	m := s.watch(c, &driver.WatchRequest{Name: s.name})
	m.tells(s.name, "before", 0)
}
