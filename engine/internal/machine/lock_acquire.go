package machine

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// Acquire decides one attempt.
func (l *Locks) Acquire(now Time, ch Changes, c *Acquire) {
	c.Grant, c.Ticket, c.Err = l.acquire(now, ch, c.Request, c.Received)
}

func (l *Locks) acquire(now Time, ch Changes, r *lockdriver.Request, received lease.Instant) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	seq, err := l.ticketOf(r)
	if err != nil {
		return nil, nil, err
	}
	n := l.names[r.Name]
	permits := max(1, r.Permits)
	if n != nil {
		if g := n.grantOf(r.Holder); g != nil {
			grant, err := l.takeUp(now, n, g, r, received)
			return grant, nil, err
		}
		if w := n.line.byHolder[r.Holder]; w != nil {
			return l.acquireAgain(now, ch, n, w, r, received)
		}
		if !n.accepts(permits) {
			return nil, nil, fmt.Errorf("the name is in use with %d permits, not %d: %w", n.permits, permits, lease.ErrConflict)
		}
	}
	free := n == nil || n.open() && n.line.len() == 0 && n.fits(r.Mode)
	if !free && !r.Queue {
		return nil, nil, lockdriver.ErrHeld
	}
	if n == nil {
		if len(l.names) >= l.maxNames {
			return nil, nil, fmt.Errorf("%d names are in use: %w", l.maxNames, lease.ErrLimit)
		}
		n = l.add(r.Name)
	}
	if free {
		n.permits = permits
		return l.grant(now, ch, n, claimOf(r), received), nil, nil
	}
	if err := l.checkRoom(n); err != nil {
		return nil, nil, err
	}
	n.permits = permits
	if seq <= n.passed {
		seq = uint64(l.tokens.Take(ch, 1))
	}
	w := &lockWaiter{lockClaim: claimOf(r), seq: seq, since: now.Mono}
	w.timer.name, w.timer.waiter = n, w
	n.line.insert(w)
	l.waiters++
	return l.present(now, ch, n, w, received)
}

// ticketOf returns the number of the request's ticket; 0 if it has none.
func (l *Locks) ticketOf(r *lockdriver.Request) (uint64, error) {
	if r.Ticket == nil {
		return 0, nil
	}
	return l.tickets.read(r.Name, r.Holder, r.Ticket.Opaque)
}

func (l *Locks) checkRoom(n *lockName) error {
	if n.line.len() >= MaxWaitersPerName {
		return fmt.Errorf("%d waiters are in line for the name: %w", MaxWaitersPerName, lease.ErrLimit)
	}
	if l.waiters >= l.maxWaiters {
		return fmt.Errorf("%d waiters are in line: %w", l.maxWaiters, lease.ErrLimit)
	}
	return nil
}

// takeUp answers a request of a holder that has a grant on the name: a repeat
// of the one that it was made for, or a Resume. Either renews it, because the
// holder counts its deadline from this request.
func (l *Locks) takeUp(now Time, n *lockName, g *lockGrant, r *lockdriver.Request, received lease.Instant) (*lockdriver.Grant, error) {
	switch {
	case g.RequestID != r.ID && !r.Resume:
		return nil, lockdriver.ErrAlreadyHeld
	case n.permits != max(1, r.Permits) || n.mode != r.Mode:
		return nil, fmt.Errorf("the holder's grant is %v with %d permits: %w", n.mode, n.permits, lease.ErrConflict)
	case g.Revoked:
		return nil, lease.ErrRevoked
	}
	if g.RequestID != r.ID {
		g.RequestID, g.LockDelay, g.Meta = r.ID, r.LockDelay, r.Meta
		g.resumed = true
		l.touch(n)
	}
	l.extend(now, n, g, r.TTL)
	return &lockdriver.Grant{Token: g.Token, TTL: r.TTL, Waited: now.Mono.Sub(received), Resumed: g.resumed}, nil
}

// acquireAgain answers a request of a holder that is in the line.
func (l *Locks) acquireAgain(now Time, ch Changes, n *lockName, w *lockWaiter, r *lockdriver.Request, received lease.Instant) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	switch {
	case w.requestID != r.ID && !r.Resume:
		return nil, nil, lockdriver.ErrAlreadyHeld
	case n.permits != max(1, r.Permits) || w.mode != r.Mode:
		return nil, nil, fmt.Errorf("the holder is in line for %v with %d permits: %w", w.mode, n.permits, lease.ErrConflict)
	}
	if w.requestID != r.ID { // Resume: the waiting attempt belongs to who asks now
		l.dismiss(w, lockdriver.ErrAlreadyHeld)
	}
	w.lockClaim = claimOf(r)
	if !r.Queue && !(n.line.head() == w && n.open() && n.fits(w.mode)) {
		return nil, nil, lockdriver.ErrHeld
	}
	return l.present(now, ch, n, w, received)
}

// present grants the name to a waiter that is heard of just now, if it is its
// turn, or returns its ticket.
func (l *Locks) present(now Time, ch Changes, n *lockName, w *lockWaiter, received lease.Instant) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	if n.line.head() == w && n.open() && n.fits(w.mode) {
		l.dismiss(w, lockdriver.ErrAlreadyHeld)
		g := l.grantHead(now, ch, n, received)
		l.advance(now, ch, n)
		return g, nil, nil
	}
	if w.await == nil {
		l.timers.set(&w.timer, now.Mono.Add(DeadWaiter))
	}
	t := &lockdriver.Ticket{Opaque: l.tickets.issue(n.name, w.holder, w.seq), Position: n.line.index(w.seq) + 1}
	return nil, t, nil
}

// Await attaches a listener.
func (l *Locks) Await(now Time, ch Changes, c *Await) {
	n := l.names[c.Request.Name]
	if n == nil {
		l.finish(c, nil, true, nil)
		return
	}
	if g := n.grantOf(c.Request.Holder); g != nil {
		grant, err := l.takeUp(now, n, g, c.Request, c.Received)
		l.finish(c, grant, false, err)
		return
	}
	w := n.line.byHolder[c.Request.Holder]
	if w == nil || w.requestID != c.Request.ID {
		l.finish(c, nil, true, nil)
		return
	}
	l.dismiss(w, lockdriver.ErrAlreadyHeld)
	w.await, c.waiter = c, w
	l.timers.stop(&w.timer)
	l.advance(now, ch, n)
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
	n := l.names[c.Request.Name]
	if n == nil {
		return
	}
	if g := n.grantOf(c.Request.Holder); g != nil && g.RequestID == c.Request.ID {
		l.end(n, g)
		l.advance(now, ch, n)
	}
	if w := n.line.byHolder[c.Request.Holder]; w != nil && w.requestID == c.Request.ID {
		l.dismiss(w, fmt.Errorf("the request was cancelled: %w", lease.ErrNotHeld))
		l.leaveLine(now, ch, n, w)
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

// leaveLine takes w out of the line, and lets those behind it move up.
func (l *Locks) leaveLine(now Time, ch Changes, n *lockName, w *lockWaiter) {
	assert(w.await == nil, "nobody listens to a waiter that is taken out")
	l.timers.stop(&w.timer)
	n.line.remove(w)
	l.waiters--
	if !n.inUse() {
		l.touch(n)
	}
	l.advance(now, ch, n)
}

// advance grants the name to the head of the line, as often as there is room
// and somebody listens.
func (l *Locks) advance(now Time, ch Changes, n *lockName) {
	for {
		w := n.line.head()
		if w == nil || w.await == nil || !n.open() || !n.fits(w.mode) {
			return
		}
		c := w.await
		w.await = nil
		l.finish(c, l.grantHead(now, ch, n, c.Received), false, nil)
	}
}

func (l *Locks) grantHead(now Time, ch Changes, n *lockName, received lease.Instant) *lockdriver.Grant {
	w := n.line.head()
	assert(w.seq > n.passed, "places are granted in the order of their numbers")
	n.passed = w.seq
	l.timers.stop(&w.timer)
	n.line.remove(w)
	l.waiters--
	return l.grant(now, ch, n, w.lockClaim, received)
}

// grant makes a grant.
func (l *Locks) grant(now Time, ch Changes, n *lockName, c lockClaim, received lease.Instant) *lockdriver.Grant {
	assert(n.open() && n.fits(c.mode), "what is granted is free")
	g := &lockGrant{
		LockGrant: record.LockGrant{
			Holder:    c.holder,
			RequestID: c.requestID,
			Token:     l.tokens.Take(ch, 1),
			TTL:       c.ttl,
			LockDelay: c.lockDelay,
			Meta:      c.meta,
		},
		ttl:      c.ttl,
		since:    now.Mono,
		deadline: now.Mono.Add(c.ttl),
	}
	if len(n.grants) > 0 {
		assert(n.grants[len(n.grants)-1].Token < g.Token, "tokens grow")
	}
	n.mode = c.mode
	n.grants = append(n.grants, g)
	l.startGrantTimer(n, g)
	l.touch(n)
	return &lockdriver.Grant{Token: g.Token, TTL: c.ttl, Waited: now.Mono.Sub(received)}
}
