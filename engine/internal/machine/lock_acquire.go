package machine

import (
	"fmt"
	"slices"

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
	names := l.lookUp(r)
	if grant, err := l.takeUp(now, names, r, received); grant != nil || err != nil {
		return grant, nil, err
	}
	if w, err := placeOf(names, r); w != nil || err != nil {
		if err != nil {
			return nil, nil, err
		}
		return l.acquireAgain(now, ch, w, r, received)
	}
	free, err := l.admit(names, r)
	if err != nil {
		return nil, nil, err
	}
	for i, n := range names {
		if n == nil {
			n = l.add(r.NameAt(i))
			names[i] = n
		}
		n.permits = max(1, r.Permits)
	}
	if free {
		return l.grantAll(now, ch, names, claimOf(r), received), nil, nil
	}
	w := l.join(now, ch, names, r, seq)
	if err := l.untangle(now, ch, w); err != nil {
		return nil, nil, err
	}
	return l.present(now, ch, w, received)
}

// lookUp returns the state of each of the request's names, nil for one that is
// not in use. It is valid until the next call.
func (l *Locks) lookUp(r *lockdriver.Request) []*lockName {
	l.found = l.found[:0]
	for i := range r.Names() {
		l.found = append(l.found, l.names[r.NameAt(i)])
	}
	return l.found
}

// ticketOf returns the number of the request's ticket; 0 if it has none.
func (l *Locks) ticketOf(r *lockdriver.Request) (uint64, error) {
	if r.Ticket == nil {
		return 0, nil
	}
	return l.tickets.read(r, r.Ticket.Opaque)
}

// admit says whether a new request can be granted at once, or why it can
// neither be granted nor wait.
func (l *Locks) admit(names []*lockName, r *lockdriver.Request) (free bool, err error) {
	free = true
	unused := 0
	for _, n := range names {
		if n == nil {
			unused++
			continue
		}
		if permits := max(1, r.Permits); !n.accepts(permits) {
			return false, fmt.Errorf("%q is in use with %d permits, not %d: %w", n.name, n.permits, permits, lease.ErrConflict)
		}
		if err := n.checkWithin(r); err != nil {
			return false, err
		}
		free = free && n.open() && n.line.len() == 0 && n.fits(r.Mode)
	}
	switch {
	case !free && !r.Queue:
		return false, lockdriver.ErrHeld
	case len(l.names)+unused > l.maxNames:
		return false, fmt.Errorf("%d names are in use: %w", l.maxNames, lease.ErrLimit)
	case free:
		return true, nil
	}
	for _, n := range names {
		if n != nil && n.line.len() >= MaxWaitersPerName {
			return false, fmt.Errorf("%d waiters are in line for %q: %w", MaxWaitersPerName, n.name, lease.ErrLimit)
		}
	}
	if l.waiters+len(names) > l.maxWaiters {
		return false, fmt.Errorf("%d places in line are taken: %w", l.waiters, lease.ErrLimit)
	}
	return false, nil
}

// checkWithin refuses what waits for itself.
func (n *lockName) checkWithin(r *lockdriver.Request) error {
	if n.permits > 1 || len(n.grants) == 0 {
		return nil
	}
	for _, holder := range r.Within {
		if n.grantOf(holder) == nil {
			continue
		}
		if n.mode == lockdriver.Shared && r.Mode == lockdriver.Exclusive {
			return fmt.Errorf("%q is held shared around this request, and is not upgraded: %w", n.name, lockdriver.ErrAlreadyHeld)
		}
		return fmt.Errorf("%q is held around this request: %w", n.name, lockdriver.ErrAlreadyHeld)
	}
	return nil
}

// takeUp answers a request of a holder that has grants on the names: a repeat
// of the one that they were made for, or a Resume. Either renews them, because
// the holder counts its deadline from this request. It returns neither if
// there is no grant.
func (l *Locks) takeUp(now Time, names []*lockName, r *lockdriver.Request, received lease.Instant) (*lockdriver.Grant, error) {
	l.taken = l.taken[:0]
	for _, n := range names {
		if n == nil {
			continue
		}
		g := n.grantOf(r.Holder)
		switch {
		case g == nil:
			continue
		case g.RequestID != r.ID && !r.Resume:
			return nil, lockdriver.ErrAlreadyHeld
		case n.permits != max(1, r.Permits) || n.mode != r.Mode:
			return nil, fmt.Errorf("the holder's grant is %v with %d permits: %w", n.mode, n.permits, lease.ErrConflict)
		case g.Revoked:
			return nil, lease.ErrRevoked
		}
		l.taken = append(l.taken, g)
	}
	switch len(l.taken) {
	case 0:
		return nil, nil
	case len(names):
	default:
		return nil, fmt.Errorf("the holder has only %d of the %d names: %w", len(l.taken), len(names), lease.ErrNotHeld)
	}
	out := &lockdriver.Grant{TTL: r.TTL, Waited: now.Mono.Sub(received)}
	for i, g := range l.taken {
		if g.RequestID != r.ID {
			g.RequestID, g.LockDelay, g.Meta, g.Value = r.ID, r.LockDelay, r.Meta, r.Value
			g.resumed = true
			l.touch(names[i])
		}
		l.extend(now, names[i], g, r.TTL)
		out.Resumed = out.Resumed || g.resumed
		addToken(out, i, g.Token, len(names))
	}
	return out, nil
}

// addToken puts the token for name i of so many into a grant.
func addToken(g *lockdriver.Grant, i int, t lease.Token, of int) {
	if i == 0 {
		g.Token = t
		return
	}
	if g.More == nil {
		g.More = make([]lease.Token, 0, of-1)
	}
	g.More = append(g.More, t)
}

// placeOf returns the place of the request's holder in the lines of the names,
// if it has one; an error if that is of a request for other names.
func placeOf(names []*lockName, r *lockdriver.Request) (*lockWaiter, error) {
	for _, n := range names {
		if n == nil || n.line.byHolder[r.Holder] == nil {
			continue
		}
		w := n.line.byHolder[r.Holder]
		if !slices.Equal(w.names, names) {
			return nil, fmt.Errorf("the holder waits for other names: %w", lockdriver.ErrAlreadyHeld)
		}
		return w, nil
	}
	return nil, nil
}

// acquireAgain answers a request of a holder that is in the line.
func (l *Locks) acquireAgain(now Time, ch Changes, w *lockWaiter, r *lockdriver.Request, received lease.Instant) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	permits := w.names[0].permits
	switch {
	case w.requestID != r.ID && !r.Resume:
		return nil, nil, lockdriver.ErrAlreadyHeld
	case permits != max(1, r.Permits) || w.mode != r.Mode:
		return nil, nil, fmt.Errorf("the holder is in line for %v with %d permits: %w", w.mode, permits, lease.ErrConflict)
	}
	if w.requestID != r.ID { // Resume: the waiting attempt belongs to who asks now
		l.dismiss(w, lockdriver.ErrAlreadyHeld)
	}
	tied := !slices.Equal(w.within, r.Within)
	if tied {
		l.waits.remove(w)
	}
	w.lockClaim = claimOf(r)
	if tied {
		l.waits.add(w)
		if err := l.untangle(now, ch, w); err != nil {
			return nil, nil, err
		}
	}
	if !r.Queue && !w.ready() {
		return nil, nil, lockdriver.ErrHeld
	}
	return l.present(now, ch, w, received)
}

// grantAll makes a grant on each of the names.
func (l *Locks) grantAll(now Time, ch Changes, names []*lockName, c lockClaim, received lease.Instant) *lockdriver.Grant {
	out := &lockdriver.Grant{TTL: c.ttl, Waited: now.Mono.Sub(received)}
	for i, n := range names {
		addToken(out, i, l.grant(now, ch, n, &c), len(names))
	}
	return out
}

// grant makes a grant and returns its token.
func (l *Locks) grant(now Time, ch Changes, n *lockName, c *lockClaim) lease.Token {
	assert(n.open() && n.fits(c.mode), "what is granted is free")
	g := &lockGrant{
		LockGrant: record.LockGrant{
			Holder:    c.holder,
			RequestID: c.requestID,
			Token:     l.tokens.Take(ch, 1),
			TTL:       c.ttl,
			LockDelay: c.lockDelay,
			Meta:      c.meta,
			Value:     c.value,
		},
		ttl:      c.ttl,
		since:    now.Mono,
		deadline: now.Mono.Add(c.ttl),
	}
	n.mode = c.mode
	n.addGrant(g)
	l.startGrantTimer(n, g)
	l.touch(n)
	if n.line.len() > 0 {
		l.suspect(g.Holder)
	}
	return g.Token
}
