package locktest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// refConn implements driver.Conn on a store.
type refConn struct {
	s      *store
	closed chan struct{}
	once   sync.Once

	mu  sync.Mutex
	cut chan struct{} // closed when healed; nil while not cut
}

func (s *store) open() *refConn { return &refConn{s: s, closed: make(chan struct{})} }

func (c *refConn) setCut(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cut {
		c.cut = make(chan struct{})
	} else {
		close(c.cut)
		c.cut = nil
	}
}

// enter hangs while the connection is cut. It returns with the store locked if
// it returns nil.
func (c *refConn) enter(ctx context.Context) error {
	c.mu.Lock()
	cut := c.cut
	c.mu.Unlock()
	if cut != nil {
		select {
		case <-cut:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", lease.ErrUnknown, ctx.Err())
		case <-c.closed:
		}
	}
	select {
	case <-c.closed:
		if c.s.flaw != "works when closed" {
			return lease.ErrClosed
		}
	default:
	}
	c.s.mu.Lock()
	c.s.tidy(c.s.clock.Now())
	return nil
}

func (c *refConn) Caps() driver.Caps {
	assumes := driver.Statement{Clock: "The test's.", Fence: "A counter.", Node: "There is one.", Waiter: "By its calls."}
	if c.s.flaw == "nothing stated" {
		assumes = driver.Statement{}
	}
	return driver.Caps{
		Assumes: assumes,
		Backend: "reference", Fenced: true, FIFO: true, Shared: true, Permits: true, LockDelay: true, Meta: true,
		Resume: true, Revoke: true, Break: true, Multi: true, Deadlock: true, Election: true, Watch: true, Loss: driver.LossBeforeGrant, Clock: driver.ClockMonotonic,
		DeadWaiter: refDeadWaiter, MinTTL: 10 * time.Millisecond, MaxTTL: time.Hour, Durable: true,
	}
}

func (c *refConn) validate(r *driver.Request) error {
	caps := c.Caps()
	if c.s.flaw == "limits not checked" {
		return nil
	}
	return r.Validate(&caps)
}

func (c *refConn) Acquire(ctx context.Context, r *driver.Request) (*driver.Grant, *driver.Ticket, error) {
	if err := c.validate(r); err != nil {
		return nil, nil, err
	}
	if err := c.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer c.s.mu.Unlock()
	return c.s.acquire(r, c.s.clock.Now())
}

func (c *refConn) Wait(ctx context.Context, r *driver.Request, t *driver.Ticket) (*driver.Grant, error) {
	received := c.s.clock.Now()
	timer := c.s.clock.NewTimer()
	defer timer.Stop()
	for {
		if err := c.enter(ctx); err != nil {
			return nil, err
		}
		n := c.s.names[r.Name]
		if n == nil {
			c.s.mu.Unlock()
			return nil, nil
		}
		if n.find(n.grants, r.Holder) != nil && len(r.More) == 0 {
			g, _, err := c.s.acquire(r, received)
			c.s.mu.Unlock()
			return g, err
		}
		w := n.find(n.line, r.Holder)
		now := c.s.clock.Now()
		if w == nil || w.ID != r.ID {
			c.s.mu.Unlock()
			return nil, nil
		}
		if c.s.turn(n, w, now) && len(w.More) > 0 {
			g := c.s.grantSeveral(&w.Request, received, now)
			c.s.mu.Unlock()
			return g, nil
		}
		if c.s.turn(n, w, now) {
			c.s.grant(n, w, now)
			g := c.s.answer(w, received, now)
			c.s.mu.Unlock()
			return g, nil
		}
		w.waits++
		changed := c.s.changed // before tidy, which may end what is waited for
		timer.Reset(c.s.tidy(now))
		c.s.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-timer.C():
		case <-ctx.Done():
			err = ctx.Err()
		case <-c.closed:
			err = lease.ErrClosed
		}
		c.s.mu.Lock()
		w.waits--
		w.seen = c.s.clock.Now()
		if w.cut != nil {
			err = w.cut
		}
		c.s.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

func (c *refConn) Cancel(ctx context.Context, r *driver.Request) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	defer c.s.mu.Unlock()
	for i := range r.Names() {
		if i == 0 || c.s.flaw != "cancel of the first name" {
			c.s.cancel(c.s.names[r.NameAt(i)], r)
		}
	}
	return nil
}

func (s *store) cancel(n *refName, r *driver.Request) {
	if n == nil || s.flaw == "cancel does nothing" {
		return
	}
	for _, list := range [][]*refClaim{n.grants, n.line} {
		if o := n.find(list, r.Holder); o != nil && (o.ID == r.ID || s.flaw == "cancel too broad") {
			s.end(n, o)
		}
	}
}

// each applies f to each ref.
func (c *refConn) each(ctx context.Context, refs []driver.Ref, f func(r driver.Ref, n *refName, g *refClaim) driver.Outcome) ([]driver.Outcome, error) {
	if len(refs) > driver.MaxBatch && c.s.flaw != "limits not checked" {
		return nil, lease.Invalidf("refs", "must be at most %d, are %d", driver.MaxBatch, len(refs))
	}
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	defer c.s.mu.Unlock()
	outcomes := make([]driver.Outcome, len(refs))
	for i, r := range refs {
		n, g := c.s.held(r)
		outcomes[i] = f(r, n, g)
	}
	return outcomes, nil
}

func (c *refConn) Renew(ctx context.Context, refs []driver.Ref) ([]driver.Outcome, error) {
	return c.each(ctx, refs, func(r driver.Ref, _ *refName, g *refClaim) driver.Outcome {
		switch {
		case g == nil && c.s.broken[r.Token]:
			return driver.Outcome{Err: lease.ErrBroken}
		case g == nil:
			return driver.Outcome{Err: lease.ErrNotHeld}
		case g.revoked && c.s.flaw != "revoked is renewed":
			return driver.Outcome{Err: lease.ErrRevoked}
		}
		if c.s.flaw != "renewal does nothing" {
			g.deadline = max(g.deadline, c.s.clock.Now().Add(r.TTL))
		}
		return driver.Outcome{TTL: r.TTL}
	})
}

func (c *refConn) Release(ctx context.Context, refs []driver.Ref) ([]driver.Outcome, error) {
	return c.each(ctx, refs, func(_ driver.Ref, n *refName, g *refClaim) driver.Outcome {
		if g == nil {
			return driver.Outcome{Err: lease.ErrNotHeld}
		}
		c.s.end(n, g)
		return driver.Outcome{}
	})
}

func (c *refConn) Revoke(ctx context.Context, r *driver.RevokeRequest) error {
	if err := driver.ValidateName("name", r.Name); err != nil {
		return err
	}
	if err := c.enter(ctx); err != nil {
		return err
	}
	defer c.s.mu.Unlock()
	err := lease.ErrNotHeld
	n := c.s.names[r.Name]
	if n == nil {
		return err
	}
	for _, g := range slices.Clone(n.grants) {
		if r.Token != 0 && r.Token != g.token {
			continue
		}
		err = nil
		if r.Break || c.s.flaw == "revoke breaks" {
			c.s.broken[g.token] = true
			c.s.end(n, g)
		} else {
			g.revoked = true
		}
	}
	return err
}

func (c *refConn) List(ctx context.Context, r *driver.ListRequest) ([]driver.Info, error) {
	most := cmp.Or(r.Max, driver.DefaultList)
	if most > driver.MaxList {
		return nil, lease.Invalidf("max", "must be at most %d, is %d", driver.MaxList, most)
	}
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	defer c.s.mu.Unlock()
	now := c.s.clock.Now()
	var found []driver.Info
	for _, name := range slices.Sorted(maps.Keys(c.s.names)) {
		if r.Name != "" && name != r.Name || !strings.HasPrefix(name, r.Prefix) || len(found) == most {
			continue
		}
		if name < r.After || name == r.After && c.s.flaw != "pages overlap" {
			continue
		}
		found = append(found, c.s.names[name].describe(name, now))
	}
	return found, nil
}

func (n *refName) describe(name string, now lease.Instant) driver.Info {
	in := driver.Info{Name: name, Mode: n.mode, Permits: n.permits, Waiting: len(n.line), ClosedFor: max(0, n.closedUntil.Sub(now))}
	for _, g := range n.grants {
		in.Grants = append(in.Grants, driver.GrantInfo{
			Holder: g.Holder, Token: g.token, Mode: g.Mode, Held: now.Sub(g.since), Remaining: g.deadline.Sub(now),
			TTL: g.TTL, Revoked: g.revoked, Meta: g.Meta, Value: slices.Clone(g.Value),
		})
	}
	for i, w := range n.line[:min(len(n.line), driver.MaxListWaiters)] {
		in.Waiters = append(in.Waiters, driver.WaiterInfo{Holder: w.Holder, Mode: w.Mode, Position: i + 1, Waiting: now.Sub(w.since)})
	}
	return in
}

func (c *refConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}
