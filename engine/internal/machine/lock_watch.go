package machine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// Watches. Names that have changed in a round are noted for the watches that
// they match, and a watch that is listened to is told their states when the
// round ends. A watch that is not keeps the names and not the states, so that
// it has the size of what has changed and not of how often; past
// MaxWatchPending names it keeps nothing and begins anew.

// LockWatch is a watch.
type LockWatch struct {
	name, prefix string

	next *NextEvents // listens
	last *NextEvents // was told last

	reset   bool                // begin anew
	listing bool                // the first state is being told: the names behind after are left
	after   string              //
	pending map[string]struct{} // have changed
	order   []string            // of pending
	awake   bool                // in lockWatches.awake
	ended   bool
}

// lockWatches are all watches.
type lockWatches struct {
	count    int
	byName   map[string][]*LockWatch
	byPrefix []*LockWatch
	awake    []*LockWatch // may have something to tell
	changed  []*lockName
}

// Watch begins a watch.
func (l *Locks) Watch(c *WatchLocks) {
	ws := &l.watches
	if ws.count >= MaxLockWatches {
		c.Err = fmt.Errorf("%d watches are under way: %w", MaxLockWatches, lease.ErrLimit)
		return
	}
	w := &LockWatch{name: c.Request.Name, prefix: c.Request.Prefix, reset: true, pending: make(map[string]struct{})}
	ws.count++
	if w.name != "" {
		ws.byName[w.name] = append(ws.byName[w.name], w)
	} else {
		ws.byPrefix = append(ws.byPrefix, w)
	}
	c.Watch = w
}

// Unwatch ends a watch. It is idempotent.
func (l *Locks) Unwatch(c *Unwatch) {
	w, ws := c.Watch, &l.watches
	if w.ended {
		return
	}
	w.ended = true
	ws.count--
	same := func(o *LockWatch) bool { return o == w }
	if w.name == "" {
		ws.byPrefix = slices.DeleteFunc(ws.byPrefix, same)
	} else if ws.byName[w.name] = slices.DeleteFunc(ws.byName[w.name], same); len(ws.byName[w.name]) == 0 {
		delete(ws.byName, w.name)
	}
	w.pending, w.order = nil, nil
	l.answer(w, nil, lease.ErrClosed)
}

// Next waits for events.
func (l *Locks) Next(c *NextEvents) {
	w := c.Watch
	l.answer(w, nil, fmt.Errorf("another call asks for the events of this watch: %w", lease.ErrConflict))
	w.next = c
	if w.ended {
		l.answer(w, nil, lease.ErrClosed)
		return
	}
	l.watches.wake(w)
}

// LeaveEvents detaches a listener.
func (l *Locks) LeaveEvents(c *LeaveEvents) {
	switch w := c.Next.Watch; c.Next {
	case w.next:
		l.answer(w, nil, nil)
	case w.last:
		w.reset = true
		l.watches.wake(w)
	}
}

// answer finishes the call that listens, if one does.
func (l *Locks) answer(w *LockWatch, events []lockdriver.Event, err error) {
	if w.next == nil {
		return
	}
	w.next.Events, w.next.Err = events, err
	l.Finished.add(w.next)
	w.next = nil
}

func (ws *lockWatches) wake(w *LockWatch) {
	if !w.awake {
		w.awake = true
		ws.awake = append(ws.awake, w)
	}
}

// change notes that the name is not what it was.
func (l *Locks) change(n *lockName) {
	if l.watches.count > 0 && !n.changed {
		n.changed = true
		l.watches.changed = append(l.watches.changed, n)
	}
}

// tell ends a round for the watches.
func (l *Locks) tell(now Time) {
	ws := &l.watches
	for i, n := range ws.changed {
		ws.changed[i] = nil
		n.changed = false
		for _, w := range ws.byName[n.name] {
			ws.note(w, n.name)
		}
		for _, w := range ws.byPrefix {
			if strings.HasPrefix(n.name, w.prefix) {
				ws.note(w, n.name)
			}
		}
	}
	ws.changed = ws.changed[:0]
	awake := ws.awake
	ws.awake = ws.awake[:0]
	for i, w := range awake {
		awake[i] = nil
		w.awake = false
		if w.next == nil {
			continue
		}
		if events := l.events(now, w); len(events) > 0 {
			w.last = w.next
			l.answer(w, events, nil)
		}
	}
}

// note has a name told to a watch.
func (ws *lockWatches) note(w *LockWatch, name string) {
	if _, known := w.pending[name]; known || w.reset {
		return
	}
	if len(w.order) >= MaxWatchPending {
		w.reset = true
		clear(w.pending)
		w.order = nil
	} else {
		w.pending[name] = struct{}{}
		w.order = append(w.order, name)
	}
	ws.wake(w)
}

// events takes from a watch what is to be told next.
func (l *Locks) events(now Time, w *LockWatch) []lockdriver.Event {
	var out []lockdriver.Event
	if w.reset {
		w.reset, w.listing, w.after = false, true, ""
		clear(w.pending)
		w.order = nil
		out = append(out, lockdriver.Event{Kind: lockdriver.EventReset})
	}
	if w.listing {
		return l.listEvents(now, w, out)
	}
	n := min(len(w.order), maxWatchEvents)
	for _, name := range w.order[:n] {
		delete(w.pending, name)
		e := lockdriver.Event{Kind: lockdriver.EventGone, Info: lockdriver.Info{Name: name}}
		if n := l.names[name]; n != nil && n.visible() {
			e = lockdriver.Event{Kind: lockdriver.EventState, Info: n.info(now)}
		}
		out = append(out, e)
	}
	w.order = w.order[n:]
	return out
}

// listEvents tells a page of the first state.
func (l *Locks) listEvents(now Time, w *LockWatch, out []lockdriver.Event) []lockdriver.Event {
	c := ListLocks{Request: &lockdriver.ListRequest{Name: w.name, Prefix: w.prefix, After: w.after, Max: maxWatchEvents}}
	l.List(now, &c)
	for _, info := range c.Infos {
		out = append(out, lockdriver.Event{Kind: lockdriver.EventState, Info: info})
		w.after = info.Name
	}
	if w.name != "" || len(c.Infos) < maxWatchEvents {
		w.listing = false
		out = append(out, lockdriver.Event{Kind: lockdriver.EventSynced})
	}
	return out
}
