package machine

import (
	"container/heap"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Ticks is a compiled cron expression: Next is a function of its argument
// alone. It returns the first tick after a moment, both in Unix nanoseconds;
// 0 if there is none.
type Ticks interface{ Next(after int64) int64 }

// Bounds on schedules.
const (
	// tickSteps is what it costs to find a tick. After a long time of being
	// down there can be millions to look at, over many rounds.
	tickSteps = 20
	// wallCheck is how often the wall clock is looked at while a schedule
	// waits for its tick: it may have been set.
	wallCheck = time.Minute
	// maxTickError bounds what is kept of an error, in bytes.
	maxTickError = 255
)

// recurring is a schedule. A tick is found (next), waits for its turn (due),
// and is over: published, skipped or failed. That it is over and its message
// are one write, so that it comes once. State.Last is such that the first
// tick after it is the first that is not over.
type recurring struct {
	spec  queuedriver.Schedule
	ticks Ticks // nil: it cannot be read by this program
	state record.ScheduleState
	seen  int64   // the latest tick that was looked at, or the time from which ticks count
	next  int64   // the first tick after seen; 0: none
	due   []int64 // not over, in order
	at    int64   // wall time of when to look; see soon
	index int     // in the heap; -1: not in it
	wait  string  // why what is due waits
}

// soon, as a wall time, is always over.
const soon = 1

// RestoreSchedule adds a schedule that the store holds. broken says why its
// ticks are nil: it stays, and has no ticks.
func (m *Queues) RestoreSchedule(spec *queuedriver.Schedule, state *record.ScheduleState, ticks Ticks, broken error) {
	r := &recurring{spec: *spec, state: *state, ticks: ticks, index: -1}
	if broken != nil {
		r.ticks, r.wait = nil, cut(broken.Error())
	}
	m.addSchedule(r)
}

func (m *Queues) addSchedule(r *recurring) {
	m.schedules[r.spec.Name] = r
	i, found := slices.BinarySearch(m.scheduleNames, r.spec.Name)
	if !found {
		m.scheduleNames = slices.Insert(m.scheduleNames, i, r.spec.Name)
	}
	r.seen = r.state.Last
	m.wind(r)
}

// wind looks for the first tick after what was seen, and has it waited for.
func (m *Queues) wind(r *recurring) {
	r.next = 0
	if r.ticks != nil && !r.spec.Paused {
		r.next = r.ticks.Next(r.seen)
	}
	m.ticks.set(r, r.next)
}

// tick publishes what is due, of all schedules.
func (m *Queues) tick(now Time, ch Changes, view View) {
	if len(m.held) > 0 && now.Mono >= m.heldUntil {
		held := m.held
		m.held = nil
		for _, r := range held {
			if r.index < 0 && m.schedules[r.spec.Name] == r {
				m.ticks.set(r, soon)
			}
		}
	}
	for r := m.ticks.min(); r != nil && r.at <= now.Wall && !m.roundFull(); r = m.ticks.min() {
		m.fire(now, ch, view, r)
	}
}

// fire has what is due of one schedule published, or held until there is room.
func (m *Queues) fire(now Time, ch Changes, view View, r *recurring) {
	before := r.state
	at := int64(soon)
	held := false
	if m.collect(now, r) {
		held = !m.publishDue(now, ch, view, r)
		if len(r.due) == 0 {
			at = r.next
		}
	}
	last := r.seen
	if len(r.due) > 0 {
		last = r.due[0] - 1
	}
	r.state.Last = max(r.state.Last, last)
	if r.state != before {
		ch.PutScheduleState(r.spec.Name, &r.state)
	}
	if !held {
		m.ticks.set(r, at)
		return
	}
	m.ticks.set(r, 0)
	if len(m.held) == 0 {
		m.heldUntil = now.Mono.Add(roomAgain)
	}
	m.held = append(m.held, r)
}

// collect moves ticks whose time has come to those that are due, and skips
// what the policy says. It reports false if there are more to look at.
func (m *Queues) collect(now Time, r *recurring) bool {
	for r.next != 0 && r.next <= now.Wall {
		if m.roundFull() {
			return false
		}
		m.steps += tickSteps
		r.seen = r.next
		r.next = r.ticks.Next(r.seen)
		r.due = append(r.due, r.seen)
		r.skipMissed(now)
	}
	return true
}

// skipMissed applies the policy when one more tick is due.
func (r *recurring) skipMissed(now Time) {
	missed := func(tick int64) bool { return now.Wall-tick > int64(queuedriver.MissedAfter) }
	newest := len(r.due) - 1
	from, to := 0, 0
	switch r.spec.Missed {
	case queuedriver.MissedSkip:
		if missed(r.due[newest]) {
			from, to = newest, newest+1
		}
	case queuedriver.MissedLatest:
		for to < newest && missed(r.due[to]) {
			to++
		}
	case queuedriver.MissedAll:
	}
	to = max(to, from)
	if to == from && len(r.due) > queuedriver.MaxMissedTicks {
		to++
	}
	r.state.Skipped += int64(to - from)
	r.due = slices.Delete(r.due, from, to)
}

// publishDue publishes what is due, one tick after another. It reports false
// if the first of them has to wait for room.
func (m *Queues) publishDue(now Time, ch Changes, view View, r *recurring) bool {
	for len(r.due) > 0 && !m.roundFull() {
		if m.room != nil {
			r.wait = cut(m.room.Error())
			return false
		}
		m.steps++
		p := r.publishing(r.due[0])
		var receipt queuedriver.Receipt
		m.publish(now, ch, view, &p, &receipt, nil)
		switch err := receipt.Err; {
		case err == nil:
			r.state.Published++
			r.state.Fired = r.due[0]
			r.state.Error = ""
		case hopeless(err):
			r.state.Failed++
			r.state.Error = cut(err.Error())
			m.scheduleFault(r, err)
		default:
			if r.wait == "" {
				m.scheduleFault(r, err)
			}
			r.wait = cut(err.Error())
			return false
		}
		r.wait = ""
		r.due = r.due[1:]
	}
	return true
}

// hopeless says that trying again cannot help: the tick fails. It is not kept
// for a queue that nobody has declared, as no other publish is.
func hopeless(err error) bool {
	for _, target := range [...]error{queuedriver.ErrUnroutable, lease.ErrNotFound, lease.ErrLimit, lease.ErrInvalid} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func (m *Queues) scheduleFault(r *recurring, err error) {
	if len(m.faults) < maxFaults {
		m.faults = append(m.faults, fmt.Errorf("schedule %q, tick %s: %w", r.spec.Name, tickName(r.due[0]), err))
	}
}

func tickName(tick int64) string {
	return time.Unix(0, tick).UTC().Format(queuedriver.TickLayout)
}

// cut keeps the beginning of a text, in whole characters.
func cut(s string) string {
	for i := range s {
		if i > maxTickError-4 {
			return s[:i]
		}
	}
	return s
}

// publishing is the message of a tick.
func (r *recurring) publishing(tick int64) queuedriver.Publishing {
	msg := *r.spec.Message
	name := tickName(tick)
	msg.ID = r.spec.Name + "@" + name
	msg.Headers = make(queuedriver.Headers, len(r.spec.Message.Headers)+2)
	maps.Copy(msg.Headers, r.spec.Message.Headers)
	msg.Headers[queuedriver.HeaderSchedule] = r.spec.Name
	msg.Headers[queuedriver.HeaderTick] = name
	return queuedriver.Publishing{Route: r.spec.Route, Message: &msg, Mandatory: true}
}

// nextTick returns when tick has something to do, on the Mono clock.
func (m *Queues) nextTick(now Time) (at lease.Instant, ok bool) {
	if len(m.held) > 0 {
		at, ok = m.heldUntil, true
	}
	if r := m.ticks.min(); r != nil {
		left := min(time.Duration(max(0, r.at-now.Wall)), wallCheck)
		if t := now.Mono.Add(left); !ok || t < at {
			at, ok = t, true
		}
	}
	return at, ok
}

// tickHeap orders schedules by when they are to be looked at.
type tickHeap struct{ rs []*recurring }

func (h *tickHeap) min() *recurring {
	if len(h.rs) == 0 {
		return nil
	}
	return h.rs[0]
}

// set gives r its place by a wall time; 0 takes it out.
func (h *tickHeap) set(r *recurring, at int64) {
	r.at = at
	switch {
	case at == 0 && r.index >= 0:
		heap.Remove(h, r.index)
	case at == 0:
	case r.index >= 0:
		heap.Fix(h, r.index)
	default:
		heap.Push(h, r)
	}
}

// Len, Less, Swap, Push and Pop are for package heap.
func (h *tickHeap) Len() int { return len(h.rs) }

func (h *tickHeap) Less(i, j int) bool {
	if h.rs[i].at != h.rs[j].at {
		return h.rs[i].at < h.rs[j].at
	}
	return h.rs[i].spec.Name < h.rs[j].spec.Name
}

func (h *tickHeap) Swap(i, j int) {
	h.rs[i], h.rs[j] = h.rs[j], h.rs[i]
	h.rs[i].index, h.rs[j].index = i, j
}

// Push implements heap.Interface.
func (h *tickHeap) Push(x any) {
	r := x.(*recurring) //nolint:forcetypeassert // set has put it there
	r.index = len(h.rs)
	h.rs = append(h.rs, r)
}

// Pop implements heap.Interface.
func (h *tickHeap) Pop() any {
	last := len(h.rs) - 1
	r := h.rs[last]
	h.rs[last] = nil
	h.rs = h.rs[:last]
	r.index = -1
	return r
}
