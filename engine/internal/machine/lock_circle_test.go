package machine

import (
	"errors"
	"slices"

	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// cut notes that a client was taken out of a circle, and checks that it was
// one: whoever is said to hold something does, and keeps it for the wait that
// is named.
func (m *lockModel) cut(c *lockClient, err error) {
	m.cuts++
	c.ticket, c.await, c.tokens = nil, nil, nil
	var d *lockdriver.DeadlockError
	if !errors.As(err, &d) || len(d.Cycle) == 0 {
		m.failf("%v: %v", c, err)
		return
	}
	inIt := false
	for i, w := range d.Cycle {
		waiter := m.byHolder(w.Holder, w.Name)
		if waiter == nil || w.Owner != w.Holder && !slices.Contains(waiter.within, w.Owner) {
			m.failf("%v: %v: %s does not wait within %s", c, err, w.Holder, w.Owner)
		}
		inIt = inIt || waiter == c
		next := d.Cycle[(i+1)%len(d.Cycle)]
		if n := m.locks.names[w.Name]; !w.Behind && (n == nil || n.grantOf(next.Owner) == nil) {
			m.failf("%v: %v: %s does not hold %s", c, err, next.Owner, w.Name)
		}
	}
	if !inIt {
		m.failf("%v was cut out of a circle without it: %v", c, err)
	}
}

// byHolder returns the client that asks for a name as holder.
func (m *lockModel) byHolder(holder, name string) *lockClient {
	for _, c := range m.clients {
		if c.holder == holder && slices.Contains(c.names, name) {
			return c
		}
	}
	return nil
}

// checkCircles looks for a circle of waits by the plainest means: for every
// waiter, all that it waits for, and all that these do.
func (m *lockModel) checkCircles() {
	var all []*lockWaiter
	for _, n := range m.locks.names {
		for _, w := range n.line.all() {
			if !slices.Contains(all, w) {
				all = append(all, w)
			}
		}
	}
	for _, w := range all {
		reached := map[*lockWaiter]bool{}
		for todo := blockers(all, w); len(todo) > 0; todo = todo[1:] {
			if next := todo[0]; !reached[next] {
				reached[next] = true
				todo = append(todo, blockers(all, next)...)
			}
		}
		if reached[w] {
			m.failf("%s waits for itself", w.holder)
		}
	}
}

// blockers returns those without whose grant or end w is not granted: who is
// ahead of it in a line, and who waits under a holder that is in its way.
func blockers(all []*lockWaiter, w *lockWaiter) []*lockWaiter {
	var out []*lockWaiter
	for _, n := range w.names {
		for _, ahead := range n.line.all() {
			if ahead == w {
				break
			}
			out = append(out, ahead)
		}
		if n.permits > 1 {
			continue
		}
		for _, g := range n.grants {
			if w.mode == lockdriver.Shared && n.mode == lockdriver.Shared {
				continue
			}
			for _, other := range all {
				if other.holder == g.Holder || slices.Contains(other.within, g.Holder) {
					out = append(out, other)
				}
			}
		}
	}
	return out
}
