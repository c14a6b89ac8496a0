package migrate

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Revoke implements driver.Conn. A holder on one of the backends alone is
// revoked there.
func (c *conn) Revoke(ctx context.Context, r *driver.RevokeRequest) error {
	if err := driver.ValidateName("name", r.Name); err != nil {
		return err
	}
	old, next := *r, *r
	if r.Token != 0 {
		p, err := c.lookFor(ctx, r.Name, func(g *driver.GrantInfo) bool { return g.Token == r.Token })
		if err != nil {
			return err
		}
		old.Token, next.Token = p.old, p.new
	}
	found := false
	for _, on := range []struct {
		conn driver.Conn
		r    *driver.RevokeRequest
	}{{c.old, &old}, {c.new, &next}} {
		if r.Token != 0 && on.r.Token == 0 {
			continue // not there
		}
		switch err := on.conn.Revoke(ctx, on.r); {
		case err == nil:
			found = true
		case !errors.Is(err, lease.ErrNotHeld):
			return err
		}
	}
	if !found {
		return lease.ErrNotHeld
	}
	return nil
}

// List implements driver.Conn.
func (c *conn) List(ctx context.Context, r *driver.ListRequest) ([]driver.Info, error) {
	old, err := c.old.List(ctx, r)
	if err != nil {
		return nil, err
	}
	next, err := c.new.List(ctx, r)
	if err != nil {
		return nil, err
	}
	most := r.Max
	if most == 0 {
		most = driver.DefaultList
	}
	all := []driver.Info{}
	for len(old)+len(next) > 0 && len(all) < most {
		var o, n driver.Info
		switch {
		case len(next) == 0 || len(old) > 0 && old[0].Name < next[0].Name:
			o, old = old[0], old[1:]
		case len(old) == 0 || next[0].Name < old[0].Name:
			n, next = next[0], next[1:]
		default:
			o, old, n, next = old[0], old[1:], next[0], next[1:]
		}
		all = append(all, c.merge(&o, &n))
	}
	return all, nil
}

// merge makes one state of two, either of which may be empty.
func (c *conn) merge(old, next *driver.Info) driver.Info {
	all := *old
	if old.Name == "" || len(old.Grants) == 0 && len(next.Grants) > 0 {
		all.Name, all.Mode, all.Permits = next.Name, next.Mode, next.Permits
	}
	all.ClosedFor = max(old.ClosedFor, next.ClosedFor)
	all.Grants, all.Waiters = nil, nil
	here := map[string]bool{} // who holds it on the old backend and waits on the new one
	for i := range next.Waiters {
		here[next.Waiters[i].Holder] = true
	}
	for i := range old.Grants {
		o := old.Grants[i]
		if n := grantOf(next, o.Holder); n.Token != 0 {
			o = c.one(old.Name, &o, &n)
		} else if here[o.Holder] {
			continue
		}
		all.Grants = append(all.Grants, o)
	}
	for i := range next.Grants {
		if n := next.Grants[i]; grantOf(old, n.Holder).Token == 0 {
			all.Grants = append(all.Grants, n)
		}
	}
	slices.SortFunc(all.Grants, func(a, b driver.GrantInfo) int { return strings.Compare(a.Holder, b.Holder) })
	all.Waiting = next.Waiting + old.Waiting
	all.Waiters = append(slices.Clone(next.Waiters), old.Waiters...)
	for i := range all.Waiters {
		if i >= len(next.Waiters) {
			all.Waiters[i].Position += next.Waiting
		}
	}
	all.Waiters = all.Waiters[:min(len(all.Waiters), driver.MaxListWaiters)]
	return all
}

// one makes one grant of two.
func (c *conn) one(name string, old, next *driver.GrantInfo) driver.GrantInfo {
	g := *next
	handed := TokensNew
	if p, ok := c.pairs.of(name, g.Holder); ok && p.new == next.Token {
		handed = p.handed
	} else if !c.turn.has() {
		handed = TokensOld
	}
	if handed == TokensOld {
		g.Token = old.Token
	}
	g.Held, g.Remaining, g.TTL = min(old.Held, next.Held), min(old.Remaining, next.Remaining), min(old.TTL, next.TTL)
	g.Revoked = old.Revoked || next.Revoked
	return g
}
