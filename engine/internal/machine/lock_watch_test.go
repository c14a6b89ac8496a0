package machine

import (
	"fmt"
	"testing"

	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// watchModel keeps what a watch has told, and listens to it all the time.
type watchModel struct {
	watch *LockWatch
	next  *NextEvents
	told  map[string]string
	fault string
}

// describe says what of a name a watch has to tell.
func describe(info *lockdriver.Info) string {
	s := ""
	for _, g := range info.Grants {
		s += fmt.Sprint(g.Holder, g.Token, g.Revoked, g.Value, ";")
	}
	for _, w := range info.Waiters {
		s += w.Holder + ","
	}
	return s + fmt.Sprint(info.ClosedFor > 0)
}

func (m *watchModel) apply(c *NextEvents) {
	m.next = nil
	for i := range c.Events {
		switch e := &c.Events[i]; e.Kind {
		case lockdriver.EventReset:
			m.told = map[string]string{}
		case lockdriver.EventState:
			m.told[e.Info.Name] = describe(&e.Info)
		case lockdriver.EventGone:
			delete(m.told, e.Info.Name)
		case lockdriver.EventSynced:
		}
	}
}

// listen asks for the next events.
func (m *watchModel) listen(l *Locks) {
	if m.watch == nil {
		c := &WatchLocks{Request: &lockdriver.WatchRequest{}}
		l.Watch(c)
		m.watch = c.Watch
	}
	if m.next == nil {
		m.next = &NextEvents{Watch: m.watch}
		l.Next(m.next)
	}
}

// check compares what was told with what is, once all has been told.
func (m *watchModel) check(now Time, l *Locks) {
	if m.watch == nil || m.watch.reset || m.watch.listing || len(m.watch.order) > 0 || m.told == nil {
		return
	}
	c := &ListLocks{Request: &lockdriver.ListRequest{Max: lockdriver.MaxList}}
	l.List(now, c)
	for i := range c.Infos {
		if is := describe(&c.Infos[i]); m.told[c.Infos[i].Name] != is {
			m.fault = fmt.Sprintf("%s was told as %q and is %q", c.Infos[i].Name, m.told[c.Infos[i].Name], is)
		}
	}
	if len(m.told) != len(c.Infos) {
		m.fault = fmt.Sprintf("%d names were told, %d are there", len(m.told), len(c.Infos))
	}
}

// tellRound ends a round and returns the events that it told, nil for none.
func tellRound(l *Locks, d *lockDisk) []lockdriver.Event {
	l.Write(Time{}, d)
	var events []lockdriver.Event
	for _, cmd := range l.Finished {
		events = append(events, cmd.(*NextEvents).Events...)
	}
	l.Finished = l.Finished[:0]
	return events
}

func kinds(events []lockdriver.Event) string {
	s := ""
	for _, e := range events {
		s += string(e.Kind) + " " + e.Info.Name + ";"
	}
	return s
}

func TestWatchPending(t *testing.T) {
	l, d := quietLocks()
	c := &WatchLocks{Request: &lockdriver.WatchRequest{Prefix: "p/"}}
	l.Watch(c)
	take := func(i int) {
		l.Acquire(Time{}, d, &Acquire{Request: &lockdriver.Request{Name: fmt.Sprintf("p/%04d", i), Holder: "h", TTL: 1 << 40}})
	}
	next := func() []lockdriver.Event {
		l.Next(&NextEvents{Watch: c.Watch})
		return tellRound(l, d)
	}
	if got := kinds(next()); got != "reset ;synced ;" {
		t.Fatal(got)
	}
	// What changes ten times in ten rounds is told once.
	for range 10 {
		take(0)
		tellRound(l, d)
		l.Cancel(Time{}, d, &CancelLock{Request: &lockdriver.Request{Name: "p/0000", Holder: "h"}})
		tellRound(l, d)
	}
	if got := kinds(next()); got != "gone p/0000;" {
		t.Error(got)
	}
	// At the limit of what is kept all is told; one name more, and it begins anew.
	for i := range MaxWatchPending {
		take(i)
		tellRound(l, d)
	}
	for told := 0; told < MaxWatchPending; {
		events := next()
		if len(events) == 0 || events[0].Kind != lockdriver.EventState || len(events) > maxWatchEvents {
			t.Fatalf("%d events, the first %+v", len(events), events)
		}
		told += len(events)
	}
	for i := range MaxWatchPending + 1 {
		l.Cancel(Time{}, d, &CancelLock{Request: &lockdriver.Request{Name: fmt.Sprintf("p/%04d", i), Holder: "h"}})
		take(i)
		tellRound(l, d)
	}
	states := 0
	events := next()
	if len(events) == 0 || events[0].Kind != lockdriver.EventReset {
		t.Fatalf("one name past the limit: %s", kinds(events))
	}
	for ; len(events) > 0 && events[len(events)-1].Kind != lockdriver.EventSynced; events = next() {
		states += len(events)
	}
	if states += len(events) - 2; states != MaxWatchPending+1 { // the reset and the synced
		t.Errorf("%d states after the reset", states)
	}
}

func TestWatchLeft(t *testing.T) {
	l, d := quietLocks()
	c := &WatchLocks{Request: &lockdriver.WatchRequest{Name: "n"}}
	l.Watch(c)
	first := &NextEvents{Watch: c.Watch}
	l.Next(first)
	if got := kinds(tellRound(l, d)); got != "reset ;synced ;" {
		t.Fatal(got)
	}
	// A caller that left before it was told misses nothing.
	second := &NextEvents{Watch: c.Watch}
	l.Next(second)
	l.LeaveEvents(&LeaveEvents{Next: second})
	if got := kinds(tellRound(l, d)); got != "" {
		t.Error(got)
	}
	l.Acquire(Time{}, d, &Acquire{Request: &lockdriver.Request{Name: "n", Holder: "h", TTL: 1 << 40}})
	third := &NextEvents{Watch: c.Watch}
	l.Next(third)
	if got := kinds(tellRound(l, d)); got != "state n;" {
		t.Error(got)
	}
	// One that left after it is told all anew; an old one changes nothing.
	l.LeaveEvents(&LeaveEvents{Next: first})
	l.LeaveEvents(&LeaveEvents{Next: third})
	l.Next(&NextEvents{Watch: c.Watch})
	if got := kinds(tellRound(l, d)); got != "reset ;state n;synced ;" {
		t.Error(got)
	}
	// Two at once, and one at the end.
	a, b := &NextEvents{Watch: c.Watch}, &NextEvents{Watch: c.Watch}
	l.Next(a)
	l.Next(b)
	l.Unwatch(&Unwatch{Watch: c.Watch})
	l.Unwatch(&Unwatch{Watch: c.Watch})
	after := &NextEvents{Watch: c.Watch}
	l.Next(after)
	if got := outcome(a.Err) + "," + b.Err.Error() + "," + after.Err.Error(); got != "conflict,closed,closed" {
		t.Error(got)
	}
	tellRound(l, d)
}

func TestWatchLimit(t *testing.T) {
	l, _ := quietLocks()
	var last *LockWatch
	for i := range MaxLockWatches + 1 {
		c := &WatchLocks{Request: &lockdriver.WatchRequest{Name: fmt.Sprint(i)}}
		l.Watch(c)
		if got, want := outcome(c.Err), map[bool]string{false: "ok", true: "limit"}[i == MaxLockWatches]; got != want {
			t.Fatalf("watch %d: %s", i, got)
		}
		if c.Err == nil {
			last = c.Watch
		}
	}
	l.Unwatch(&Unwatch{Watch: last})
	c := &WatchLocks{Request: &lockdriver.WatchRequest{}}
	if l.Watch(c); c.Err != nil {
		t.Error(c.Err)
	}
}

func TestSetValue(t *testing.T) {
	l, d := quietLocks()
	a := &Acquire{Request: &lockdriver.Request{Name: "n", Holder: "h", TTL: 1 << 40, Value: []byte("one")}}
	l.Acquire(Time{}, d, a)
	l.Write(Time{}, d)
	ref := lockdriver.Ref{Name: "n", Holder: "h", Token: a.Grant.Token}
	set := func(ref lockdriver.Ref, value string) string {
		c := &SetLockValue{Ref: ref, Value: []byte(value)}
		l.SetValue(Time{}, d, c)
		l.Write(Time{}, d)
		return outcome(c.Err)
	}
	if got := set(ref, "two"); got != "ok" || string(d.read("n").Grants[0].Value) != "two" {
		t.Errorf("%s, the disk has %q", got, d.read("n").Grants[0].Value)
	}
	other := ref
	other.Holder = "other"
	if got := set(other, "no"); got != "not held" {
		t.Error(got)
	}
	l.Revoke(Time{}, d, &RevokeLock{Request: &lockdriver.RevokeRequest{Name: "n", Token: ref.Token, Break: true}})
	if got := set(ref, "no"); got != "broken" {
		t.Error(got)
	}
}
