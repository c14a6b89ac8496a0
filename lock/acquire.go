package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// tryAttempts is how often TryAcquire asks a backend that does not answer.
const tryAttempts = 3

// demand is what an acquire asks for, besides its Options.
type demand struct {
	name  string
	more  []string // further names: sorted, distinct, behind name
	set   bool     // wanted as a LeaseSet
	queue bool

	campaign bool
	value    []byte // of a campaign
}

// Acquire waits for its turn and returns the lease. ctx bounds the waiting and
// not the lease, and lends the lease's context its values.
//
// When ctx ends, the error matches what ctx says; the request is withdrawn in
// the background. ErrInvalid, ErrConflict, ErrAlreadyHeld, ErrDeadlock,
// ErrLimit, ErrUnsupported, ErrDenied and ErrNoSpace are final; a backend that
// is away is tried again until ctx ends.
func (l *Locker) Acquire(ctx context.Context, name string, o *Options) (*Lease, error) {
	le, _, err := l.acquire(ctx, demand{name: name, queue: true}, o)
	return le, wrap("acquire lock", name, err)
}

// TryAcquire returns the lease if the name is free, and ErrHeld otherwise. It
// does not wait in line. A backend that is away is tried a few times: then the
// error matches ErrUnavailable, or ErrUnknown if the request may have reached
// it; it is withdrawn in the background.
func (l *Locker) TryAcquire(ctx context.Context, name string, o *Options) (*Lease, error) {
	le, _, err := l.acquire(ctx, demand{name: name}, o)
	return le, wrap("try to acquire lock", name, err)
}

// acquire returns a Lease, or a LeaseSet if that is demanded.
func (l *Locker) acquire(ctx context.Context, d demand, o *Options) (*Lease, *LeaseSet, error) {
	if o == nil {
		o = &Options{}
	}
	around := holdingOf(ctx)
	r, err := o.request(d, l.nextID(), &l.caps, around)
	if err != nil {
		return nil, nil, err
	}
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	for {
		if ctx.Err() != nil {
			return nil, nil, ended(ctx)
		}
		a := attempt{l: l, r: r}
		grant, deadline, err := a.run(ctx)
		if err != nil {
			return nil, nil, err
		}
		g := granted{l: l, r: r, grant: grant, ttl: grant.TTL, deadline: deadline, around: around, renew: !o.NoRenew}
		switch done, err := g.take(ctx, d.set); {
		case err != nil:
			return nil, nil, err
		case done:
			return g.lease, g.set, nil
		}
		// The grant had run out before it was known here. It is given up:
		// the next request is a new one.
		again := *r
		again.ID, again.Ticket = l.nextID(), nil
		if o.Holder == "" {
			again.Holder = again.ID
		}
		r = &again
	}
}

// granted is a grant that becomes a Lease or a LeaseSet.
type granted struct {
	l        *Locker
	r        *driver.Request
	grant    *driver.Grant
	ttl      time.Duration
	deadline lease.Instant
	around   *holding
	renew    bool

	lease *Lease
	set   *LeaseSet
}

// ref names one of the grants.
func (g *granted) ref(i int) driver.Ref {
	return driver.Ref{Name: g.r.NameAt(i), Holder: g.r.Holder, Token: g.grant.TokenAt(i), TTL: g.r.TTL}
}

// take makes leases of the grants. If their deadline has passed they are
// renewed first; if that fails they are withdrawn, and take reports false.
func (g *granted) take(ctx context.Context, set bool) (bool, error) {
	if g.l.clock.Now() >= g.deadline && !g.prolong(ctx) {
		return false, g.l.giveUp(ctx, g.r)
	}
	var err error
	if set {
		g.set = newLeaseSet(ctx, g)
		err = g.set.Check()
	} else {
		g.lease = &Lease{locker: g.l, resumed: g.grant.Resumed, around: holding{Context: ctx, holder: g.r.Holder, outer: g.around}}
		g.hold(&g.lease.around, g.lease, 0)
		err = g.lease.Check()
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, ErrClosed):
		g.l.withdraw(g.r)
		return false, err
	default:
		return false, g.l.giveUp(ctx, g.r)
	}
}

// hold puts one of the grants into the charge of the Keeper.
func (g *granted) hold(parent context.Context, le *Lease, i int) {
	le.held = g.l.keeper.Hold(parent, g.ref(i), g.ttl, g.deadline, g.renew)
}

// prolong renews all the grants.
func (g *granted) prolong(ctx context.Context) bool {
	refs := make([]driver.Ref, g.r.Names())
	for i := range refs {
		refs[i] = g.ref(i)
	}
	sent := g.l.clock.Now()
	outcomes, err := g.l.conn.Renew(ctx, refs)
	if err != nil || len(outcomes) != len(refs) {
		return false
	}
	for _, o := range outcomes {
		if o.Err != nil {
			return false
		}
		g.ttl = min(g.ttl, o.TTL)
	}
	g.deadline = lease.Deadline(sent, g.l.clock.Now(), 0, g.ttl)
	return true
}

// giveUp cancels a request whose grant came too late, so that another can be
// made in its place. Like the request, it outlasts a backend that is away.
func (l *Locker) giveUp(ctx context.Context, r *driver.Request) error {
	err := l.conn.Cancel(ctx, r)
	for failures := 1; err != nil && transient(err) && (r.Queue || failures < tryAttempts); failures++ {
		if !backoff(ctx, failures-1) {
			break
		}
		err = l.conn.Cancel(ctx, r)
	}
	if err == nil {
		return nil
	}
	l.withdraw(r)
	if ctx.Err() != nil {
		err = ended(ctx)
	}
	return fmt.Errorf("%w: granted too late, and not yet withdrawn: %w", ErrUnknown, err)
}

// withdraw cancels a request in the background.
func (l *Locker) withdraw(r *driver.Request) {
	l.undo.add(undo{what: "request", name: r.Name, do: func(ctx context.Context) error {
		return l.conn.Cancel(ctx, r)
	}})
}
