package machine

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// Await attaches a listener.
func (l *Locks) Await(now Time, ch Changes, c *Await) {
	names := l.lookUp(c.Request)
	if grant, err := l.takeUp(now, names, c.Request, c.Received); grant != nil || err != nil {
		l.finish(c, grant, false, err)
		return
	}
	w, err := placeOf(names, c.Request)
	if err != nil || w == nil || w.requestID != c.Request.ID {
		l.finish(c, nil, true, nil)
		return
	}
	l.dismiss(w, lockdriver.ErrAlreadyHeld)
	w.await, c.waiter = c, w
	l.timers.stop(&w.timer)
	l.advance(now, ch, w.names[0])
}

// Leave detaches a listener, which finishes with Again.
func (l *Locks) Leave(now Time, _ Changes, c *Leave) {
	if w := c.Await.waiter; w != nil {
		l.finish(c.Await, nil, true, nil)
		w.await = nil
		l.timers.set(&w.timer, now.Mono.Add(DeadWaiter))
	}
}

// Cancel undoes a request.
func (l *Locks) Cancel(now Time, ch Changes, c *CancelLock) {
	r := c.Request
	names := l.lookUp(r)
	for _, n := range names {
		if n == nil {
			continue
		}
		if g := n.grantOf(r.Holder); g != nil && g.RequestID == r.ID {
			l.end(n, g)
		}
		if w := n.line.byHolder[r.Holder]; w != nil && w.requestID == r.ID {
			l.dismiss(w, fmt.Errorf("the request was cancelled: %w", lease.ErrNotHeld))
			l.leaveLine(now, ch, w)
		}
	}
	for _, n := range names {
		if n != nil {
			l.advance(now, ch, n)
		}
	}
}

// dismiss finishes the listener of w, if it has one.
func (l *Locks) dismiss(w *lockWaiter, why error) {
	if w.await != nil {
		l.finish(w.await, nil, false, why)
		w.await = nil
	}
}

func (l *Locks) finish(c *Await, g *lockdriver.Grant, again bool, err error) {
	c.Grant, c.Again, c.Err = g, again, err
	c.waiter = nil
	l.Finished.add(c)
}
