package machine

import (
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// Renew gives leases their TTL anew.
func (l *Locks) Renew(now Time, _ Changes, c *RenewLocks) {
	c.Outcomes = slices.Grow(c.Outcomes[:0], len(c.Refs))
	for i := range c.Refs {
		ref := &c.Refs[i]
		n, g := l.held(ref)
		var out lockdriver.Outcome
		switch {
		case g == nil && l.broken.has(ref.Token):
			out.Err = lease.ErrBroken
		case g == nil:
			out.Err = lease.ErrNotHeld
		case g.Revoked:
			out.Err = lease.ErrRevoked
		default:
			l.extend(now, n, g, ref.TTL)
			out.TTL = ref.TTL
		}
		c.Outcomes = append(c.Outcomes, out)
	}
}

// Release ends leases.
func (l *Locks) Release(now Time, ch Changes, c *ReleaseLocks) {
	c.Outcomes = slices.Grow(c.Outcomes[:0], len(c.Refs))
	for i := range c.Refs {
		var out lockdriver.Outcome
		if n, g := l.held(&c.Refs[i]); g != nil {
			l.end(n, g)
			l.advance(now, ch, n)
		} else {
			out.Err = lease.ErrNotHeld
		}
		c.Outcomes = append(c.Outcomes, out)
	}
}

// Revoke is an operator's act. A broken grant ends without its lock-delay:
// who breaks wants the name given away now.
func (l *Locks) Revoke(now Time, ch Changes, c *RevokeLock) {
	c.Err = lease.ErrNotHeld
	n := l.names[c.Request.Name]
	if n == nil {
		return
	}
	for _, g := range slices.Clone(n.grants) {
		if c.Request.Token != 0 && c.Request.Token != g.Token {
			continue
		}
		c.Err = nil
		if c.Request.Break {
			l.broken.add(g.Token)
			l.end(n, g)
		} else if !g.Revoked {
			g.Revoked = true
			l.touch(n)
		}
	}
	l.advance(now, ch, n)
}

// SetValue replaces the value of a live grant.
func (l *Locks) SetValue(_ Time, _ Changes, c *SetLockValue) {
	n, g := l.held(&c.Ref)
	switch {
	case g != nil:
		g.Value = c.Value
		l.touch(n)
	case l.broken.has(c.Ref.Token):
		c.Err = lease.ErrBroken
	default:
		c.Err = lease.ErrNotHeld
	}
}

// held returns the live grant that ref names, or nil.
func (l *Locks) held(ref *lockdriver.Ref) (*lockName, *lockGrant) {
	n := l.names[ref.Name]
	if n == nil {
		return nil, nil
	}
	if g := n.grantWith(ref.Token); g != nil && g.Holder == ref.Holder {
		return n, g
	}
	return nil, nil
}

// extend gives a grant a TTL from now on. Its deadline never comes earlier by
// that: a holder that misses the reply still counts on the old one. For the
// same reason a longer TTL is recorded, and a shorter one is not.
func (l *Locks) extend(now Time, n *lockName, g *lockGrant, ttl time.Duration) {
	g.ttl = ttl
	g.deadline = max(g.deadline, now.Mono.Add(ttl))
	if ttl > g.TTL {
		g.TTL = ttl
		l.touch(n)
	}
}

// expire ends a lease that ran out, which is unclean: its lock-delay begins.
func (l *Locks) expire(now Time, ch Changes, n *lockName, g *lockGrant) {
	assert(g.deadline < now.Mono, "a lease that expires is over")
	if until := now.Mono.Add(g.LockDelay); g.LockDelay > 0 && until > n.closedUntil {
		n.closedFor, n.closedUntil = g.LockDelay, until
		l.setGate(n)
	}
	l.end(n, g)
	l.advance(now, ch, n)
}

// end takes a grant away. The caller then lets the line advance.
func (l *Locks) end(n *lockName, g *lockGrant) {
	n.dropGrant(g)
	l.timers.stop(&g.timer)
	l.touch(n)
}

// startGrantTimer wakes Tick when the grant is over: strictly after its
// deadline.
func (l *Locks) startGrantTimer(n *lockName, g *lockGrant) {
	g.timer.name, g.timer.grant = n, g
	l.timers.set(&g.timer, g.deadline+1)
}
