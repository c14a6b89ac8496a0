package machine

import (
	"slices"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// lockWaiter is a place in the line of a name, or the same place in the lines
// of several.
type lockWaiter struct {
	lockClaim
	names []*lockName // in the order of the request
	one   [1]*lockName
	seq   uint64
	since lease.Instant

	await *Await    // who listens; nil: detached
	timer lockTimer // set while detached: when the place is given up

	own     waitLink   // under its holder
	around  []waitLink // under each of within
	seen    uint64     // the last cycleSearch that came by
	suspect bool       // it is among the suspects
}

// ready reports whether it is w's turn on all of its names.
func (w *lockWaiter) ready() bool {
	for _, n := range w.names {
		if n.line.head() != w || !n.open() || !n.fits(w.mode) {
			return false
		}
	}
	return true
}

// inLine reports whether w still has its place.
func (w *lockWaiter) inLine() bool { return w.names[0].line.byHolder[w.holder] == w }

// join gives a request a place in the lines of all its names: the one with
// number seq, or the last if that has passed in any of them. A name that is
// free for now has a record from then on, so that an open awaits the ticket.
func (l *Locks) join(now Time, ch Changes, names []*lockName, r *lockdriver.Request, seq uint64) *lockWaiter {
	for _, n := range names {
		if seq <= n.passed {
			seq = uint64(l.tokens.Take(ch, 1))
			break
		}
	}
	w := &lockWaiter{lockClaim: claimOf(r), seq: seq, since: now.Mono}
	w.names = w.one[:1]
	if len(names) > 1 {
		w.names = slices.Clone(names)
	} else {
		w.one[0] = names[0]
	}
	w.timer.name, w.timer.waiter = names[0], w
	for _, n := range w.names {
		n.line.insert(w)
		l.change(n)
		if !n.recorded {
			l.touch(n)
		}
	}
	l.waiters += len(names)
	l.waits.add(w)
	return w
}

// quit takes w out of its lines.
func (l *Locks) quit(w *lockWaiter) {
	l.timers.stop(&w.timer)
	l.waits.remove(w)
	for _, n := range w.names {
		n.line.remove(w)
		l.change(n)
	}
	l.waiters -= len(w.names)
}

// present grants the names to a waiter that is heard of just now, if it is its
// turn, or returns its ticket.
func (l *Locks) present(now Time, ch Changes, w *lockWaiter, received lease.Instant) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	if w.ready() {
		l.dismiss(w, lockdriver.ErrAlreadyHeld)
		g := l.grantPlace(now, ch, w, received)
		l.advanceAll(now, ch, w)
		return g, nil, nil
	}
	if w.await == nil {
		l.timers.set(&w.timer, now.Mono.Add(DeadWaiter))
	}
	position := 0
	for _, n := range w.names {
		position = max(position, n.line.index(w.seq)+1)
	}
	return nil, &lockdriver.Ticket{Opaque: l.tickets.issue(w), Position: position}, nil
}

// leaveLine takes w out of the line, and lets those behind it move up.
func (l *Locks) leaveLine(now Time, ch Changes, w *lockWaiter) {
	assert(w.await == nil, "nobody listens to a waiter that is taken out")
	l.quit(w)
	for _, n := range w.names {
		if !n.inUse() {
			l.touch(n)
		}
	}
	l.advanceAll(now, ch, w)
}

// advance grants the name to the head of the line, as often as there is room
// and somebody listens.
func (l *Locks) advance(now Time, ch Changes, n *lockName) {
	for {
		w := n.line.head()
		if w == nil || w.await == nil || !w.ready() {
			return
		}
		c := w.await
		w.await = nil
		l.finish(c, l.grantPlace(now, ch, w, c.Received), false, nil)
		for _, other := range w.names {
			if other != n {
				l.advance(now, ch, other)
			}
		}
	}
}

// advanceAll lets the lines of all names of w move on.
func (l *Locks) advanceAll(now Time, ch Changes, w *lockWaiter) {
	for _, n := range w.names {
		l.advance(now, ch, n)
	}
}

// grantPlace grants w, whose turn it is.
func (l *Locks) grantPlace(now Time, ch Changes, w *lockWaiter, received lease.Instant) *lockdriver.Grant {
	l.quit(w)
	for _, n := range w.names {
		assert(w.seq > n.passed, "places are granted in the order of their numbers")
		n.passed = w.seq
	}
	return l.grantAll(now, ch, w.names, w.lockClaim, received)
}
