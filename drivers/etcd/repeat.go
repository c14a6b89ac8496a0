package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// repeat answers a request whose holder holds: a repeat, or a Resume.
func (a *acquiring) repeat(ctx context.Context, s *snapshot) (*driver.Grant, error) {
	records := make([]*grantRecord, len(s.names))
	for i := range s.names {
		if s.names[i].own == nil {
			continue
		}
		g, err := decodeGrant(s.names[i].own.Value)
		if err != nil {
			return nil, err
		}
		if g.ID != a.r.ID && !a.r.Resume {
			return nil, driver.ErrAlreadyHeld
		}
		records[i] = g
	}
	if s.owned() < len(s.names) {
		return nil, lease.ErrNotHeld
	}
	out := &driver.Grant{TTL: a.r.TTL}
	for i, g := range records {
		kv := s.names[i].own
		switch {
		case g.permits() != a.permits() || s.names[i].mode != a.r.Mode:
			return nil, fmt.Errorf("the holder has it as %v with %d permits: %w", s.names[i].mode, g.permits(), lease.ErrConflict)
		case g.Revoked:
			return nil, lease.ErrRevoked
		}
		out.Resumed = out.Resumed || g.Resumed || g.ID != a.r.ID
		if token := a.c.dress(kv.CreateRevision); i == 0 {
			out.Token = token
		} else {
			out.More = append(out.More, token)
		}
		ttl, err := a.takeUp(ctx, kv, g)
		if err != nil {
			return nil, err
		}
		out.TTL = min(out.TTL, ttl)
	}
	a.c.doubts.found(a.claim, s)
	return out, nil
}

// takeUp gives a grant its TTL anew, and makes it the request's.
func (a *acquiring) takeUp(ctx context.Context, kv *mvccpb.KeyValue, g *grantRecord) (time.Duration, error) {
	switch {
	case g.ID == a.r.ID && a.c.leases.doomed(clientv3.LeaseID(kv.Lease)): // made after it was given up
		return a.c.relet(ctx, kv, g, a.r.TTL)
	case g.ID == a.r.ID:
		return a.c.extend(ctx, kv, g, a.r.TTL)
	}
	next := *g
	next.ID, next.Delay, next.Resumed, next.Meta, next.Value = a.r.ID, a.r.LockDelay, true, a.r.Meta, a.r.Value
	return a.c.relet(ctx, kv, &next, a.r.TTL)
}

// extend gives a grant a TTL anew.
func (c *conn) extend(ctx context.Context, kv *mvccpb.KeyValue, g *grantRecord, ttl time.Duration) (time.Duration, error) {
	if gone, err := c.closedByDelay(ctx, kv, g); gone || err != nil {
		return 0, errors.Join(err, notHeldIf(gone))
	}
	if seconds(ttl+g.Delay) != g.Seconds {
		return c.relet(ctx, kv, g, ttl)
	}
	id := clientv3.LeaseID(kv.Lease)
	sent := c.clock.Now()
	left, err := c.leases.keepAlive(ctx, []clientv3.LeaseID{id})
	switch {
	case err != nil:
		return 0, err
	case left[0] == 0:
		return 0, lease.ErrNotHeld
	}
	c.leases.kept(id, sent)
	return ttl, nil
}

func notHeldIf(gone bool) error {
	if gone {
		return lease.ErrNotHeld
	}
	return nil
}

// relet puts a grant on another lease: etcd cannot change how long one lasts.
func (c *conn) relet(ctx context.Context, kv *mvccpb.KeyValue, g *grantRecord, ttl time.Duration) (time.Duration, error) {
	began := c.clock.Now()
	held, err := c.leases.take(ctx, ttl+g.Delay, ttl, 1)
	if err != nil {
		return 0, err
	}
	l := held[0]
	next := *g
	next.TTL, next.Seconds = min(ttl, c.leases.left(l, began)-g.Delay), seconds(ttl+g.Delay)
	text, err := next.encode()
	if err != nil {
		c.leases.give(l)
		return 0, err
	}
	answer, err := c.commit(ctx, &txn{
		demands: []clientv3.Cmp{unchanged(string(kv.Key), kv.ModRevision)},
		then:    []clientv3.Op{clientv3.OpPut(string(kv.Key), text, clientv3.WithLease(l.id))},
	})
	switch {
	case errors.Is(err, errLeaseGone):
		c.leases.lose(l.id)
		return 0, fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	case err != nil: // what it is attached to is not known: neither is kept for others
		return 0, err
	case !answer.Succeeded:
		c.leases.give(l)
		return 0, fmt.Errorf("%w: the grant has changed just now", lease.ErrUnavailable)
	}
	c.leases.giveID(clientv3.LeaseID(kv.Lease))
	return next.TTL, nil
}

// closedByDelay reports whether a grant has run out, and is there only as its
// lock-delay: the lease of a grant lasts for both.
func (c *conn) closedByDelay(ctx context.Context, kv *mvccpb.KeyValue, g *grantRecord) (bool, error) {
	if g.Delay == 0 {
		return false, nil
	}
	left, alive, err := c.leases.remaining(ctx, clientv3.LeaseID(kv.Lease))
	return !alive || time.Duration(left)*time.Second < g.Delay, err
}
