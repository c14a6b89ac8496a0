package engine

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// lockConn is a lockdriver.Conn on an engine. What is passed in is copied: a
// call whose context ends returns at once, while the engine may still be at
// work on it.
type lockConn struct {
	*conn
	caps    lockdriver.Caps
	watches watches
}

func newLockConn(c *conn) *lockConn {
	caps := lockCaps(c.core.memory)
	caps.MinTTL, caps.Store = c.core.params.minTTL, c.core.ident
	return &lockConn{conn: c, caps: caps}
}

// Caps implements lockdriver.Conn.
func (c *lockConn) Caps() lockdriver.Caps { return c.caps }

// acquireCall is an Acquire with its own copy of the request.
type acquireCall struct {
	cmd     machine.Acquire
	request lockdriver.Request
	ticket  lockdriver.Ticket
}

// own copies r, so that the caller may go away with its own.
func own(to *lockdriver.Request, ticket *lockdriver.Ticket, r *lockdriver.Request) {
	*to = *r
	to.Meta = maps.Clone(r.Meta)
	to.More, to.Within, to.Value = slices.Clone(r.More), slices.Clone(r.Within), slices.Clone(r.Value)
	if r.Ticket != nil {
		*ticket = *r.Ticket
		to.Ticket = ticket
	}
}

// Acquire implements lockdriver.Conn. It returns a ticket at once. If ctx
// ends while the outcome is not known, the request is cancelled, except for a
// Resume: then a grant from before the request would be lost by that, and the
// error matches lease.ErrUnknown.
func (c *lockConn) Acquire(ctx context.Context, r *lockdriver.Request) (*lockdriver.Grant, *lockdriver.Ticket, error) {
	if err := r.Validate(&c.caps); err != nil {
		return nil, nil, err
	}
	k := new(acquireCall)
	own(&k.request, &k.ticket, r)
	k.cmd.Request, k.cmd.Received = &k.request, c.core.clock.Now()
	if err := c.do(ctx, &k.cmd, nil); err != nil {
		if why := ended(ctx, c.gone); why != nil && errors.Is(err, lease.ErrUnknown) && !r.Resume {
			if c.core.post(&machine.CancelLock{Request: &k.request}) {
				err = why
			}
		}
		return nil, nil, err
	}
	return k.cmd.Grant, k.cmd.Ticket, k.cmd.Err
}

// awaitCall is an Await with its own copy of the request.
type awaitCall struct {
	cmd     machine.Await
	request lockdriver.Request
	ticket  lockdriver.Ticket
}

// Wait implements lockdriver.Conn. It returns the grant, or (nil, nil) if the
// place is not known any more. If ctx ends, the place is kept for
// machine.DeadWaiter; a grant made in that moment is there for a request with
// the same ID.
func (c *lockConn) Wait(ctx context.Context, r *lockdriver.Request, _ *lockdriver.Ticket) (*lockdriver.Grant, error) {
	if err := r.Validate(&c.caps); err != nil {
		return nil, err
	}
	k := new(awaitCall)
	own(&k.request, &k.ticket, r)
	k.cmd.Request, k.cmd.Received = &k.request, c.core.clock.Now()
	if err := c.do(ctx, &k.cmd, nil); err != nil {
		if why := ended(ctx, c.gone); why != nil && errors.Is(err, lease.ErrUnknown) {
			c.core.post(&machine.Leave{Await: &k.cmd})
			err = why
		}
		return nil, err
	}
	return k.cmd.Grant, k.cmd.Err
}

// Cancel implements lockdriver.Conn.
func (c *lockConn) Cancel(ctx context.Context, r *lockdriver.Request) error {
	if err := r.ValidateCancel(); err != nil {
		return err
	}
	cmd := &machine.CancelLock{Request: &lockdriver.Request{Name: r.Name, More: slices.Clone(r.More), Holder: r.Holder, ID: r.ID}}
	if err := c.do(ctx, cmd, nil); err != nil {
		return err
	}
	return cmd.Err
}

// Renew implements lockdriver.Conn.
func (c *lockConn) Renew(ctx context.Context, refs []lockdriver.Ref) ([]lockdriver.Outcome, error) {
	if err := checkBatch(refs); err != nil {
		return nil, err
	}
	for i := range refs {
		if err := lockdriver.ValidateTTL("ttl", refs[i].TTL, &c.caps); err != nil {
			return nil, err
		}
	}
	cmd := &machine.RenewLocks{Refs: slices.Clone(refs)}
	if err := c.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	return cmd.Outcomes, nil
}

// Release implements lockdriver.Conn.
func (c *lockConn) Release(ctx context.Context, refs []lockdriver.Ref) ([]lockdriver.Outcome, error) {
	if err := checkBatch(refs); err != nil {
		return nil, err
	}
	cmd := &machine.ReleaseLocks{Refs: slices.Clone(refs)}
	if err := c.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	return cmd.Outcomes, nil
}

func checkBatch(refs []lockdriver.Ref) error {
	if len(refs) > lockdriver.MaxBatch {
		return lease.Invalidf("leases", "must be at most %d, are %d", lockdriver.MaxBatch, len(refs))
	}
	for i := range refs {
		if err := lockdriver.ValidateName("name", refs[i].Name); err != nil {
			return err
		}
		if err := lockdriver.ValidateHolder("holder", refs[i].Holder); err != nil {
			return err
		}
	}
	return nil
}

// Revoke implements lockdriver.Conn.
func (c *lockConn) Revoke(ctx context.Context, r *lockdriver.RevokeRequest) error {
	if err := lockdriver.ValidateName("name", r.Name); err != nil {
		return err
	}
	request := *r
	cmd := &machine.RevokeLock{Request: &request}
	if err := c.do(ctx, cmd, nil); err != nil {
		return err
	}
	return cmd.Err
}

// SetValue implements lockdriver.Conn.
func (c *lockConn) SetValue(ctx context.Context, ref lockdriver.Ref, value []byte) error {
	if err := checkBatch([]lockdriver.Ref{ref}); err != nil {
		return err
	}
	if err := lockdriver.ValidateValue(value, &c.caps); err != nil {
		return err
	}
	cmd := &machine.SetLockValue{Ref: ref}
	if len(value) > 0 {
		cmd.Value = slices.Clone(value)
	}
	if err := c.do(ctx, cmd, nil); err != nil {
		return err
	}
	return cmd.Err
}

// List implements lockdriver.Conn.
func (c *lockConn) List(ctx context.Context, r *lockdriver.ListRequest) ([]lockdriver.Info, error) {
	switch {
	case r.Max < 0 || r.Max > lockdriver.MaxList:
		return nil, lease.Invalidf("limit", "must be 0 to %d, is %d", lockdriver.MaxList, r.Max)
	case r.Name != "" && (r.Prefix != "" || r.After != ""):
		return nil, lease.Invalidf("name", "excludes prefix and after")
	}
	for _, f := range []struct{ field, value string }{{"name", r.Name}, {"prefix", r.Prefix}, {"after", r.After}} {
		if len(f.value) > lockdriver.MaxName {
			return nil, lease.Invalidf(f.field, "must be at most %d bytes, has %d", lockdriver.MaxName, len(f.value))
		}
	}
	request := *r
	cmd := &machine.ListLocks{Request: &request}
	if err := c.do(ctx, cmd, nil); err != nil {
		return nil, err
	}
	return cmd.Infos, nil
}
