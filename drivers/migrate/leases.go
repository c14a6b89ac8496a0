package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// batch is the calls for several Refs on both backends.
type batch struct {
	refs     []driver.Ref
	pairs    []pair
	outcomes []driver.Outcome
}

// batch finds the pairs for refs. One without a pair is not held.
func (c *conn) batch(ctx context.Context, refs []driver.Ref) (*batch, error) {
	if len(refs) > driver.MaxBatch {
		return nil, lease.Invalidf("refs", "must be at most %d, are %d", driver.MaxBatch, len(refs))
	}
	b := &batch{refs: refs, pairs: make([]pair, len(refs)), outcomes: make([]driver.Outcome, len(refs))}
	for i := range refs {
		r := &refs[i]
		if err := driver.ValidateName("name", r.Name); err != nil {
			return nil, err
		}
		if err := driver.ValidateHolder("holder", r.Holder); err != nil {
			return nil, err
		}
		p, ok := c.pairs.find(r)
		if !ok {
			var err error
			if p, err = c.lookFor(ctx, r.Name, func(g *driver.GrantInfo) bool { return g.Holder == r.Holder && g.Token == r.Token }); err != nil {
				if errors.Is(err, lease.ErrNotHeld) {
					b.outcomes[i].Err = err
					continue
				}
				return nil, err
			}
		}
		b.pairs[i] = p
	}
	return b, nil
}

// call makes a call of one backend for the Refs that nothing is wrong with so
// far. done is told of each answer.
func (b *batch) call(
	ctx context.Context, token func(*pair) lease.Token, fn func(context.Context, []driver.Ref) ([]driver.Outcome, error),
	done func(i int, o *driver.Outcome),
) error {
	var refs []driver.Ref
	var at []int
	for i := range b.refs {
		if t := token(&b.pairs[i]); t != 0 && b.outcomes[i].Err == nil {
			r := b.refs[i]
			r.Token = t
			refs, at = append(refs, r), append(at, i)
		}
	}
	if len(refs) == 0 {
		return nil
	}
	outcomes, err := fn(ctx, refs)
	if err != nil {
		return err
	}
	if len(outcomes) != len(refs) {
		return fmt.Errorf("%w: %d outcomes for %d leases", lease.ErrUnknown, len(outcomes), len(refs))
	}
	for n := range outcomes {
		done(at[n], &outcomes[n])
	}
	return nil
}

func oldToken(p *pair) lease.Token { return p.old }
func newToken(p *pair) lease.Token { return p.new }

// Renew implements driver.Conn. A lease that the old backend refuses is not
// renewed on the new one, and the other way round it is left to run out.
func (c *conn) Renew(ctx context.Context, refs []driver.Ref) ([]driver.Outcome, error) {
	for i := range refs {
		if err := driver.ValidateTTL("ttl", refs[i].TTL, &c.caps); err != nil {
			return nil, err
		}
	}
	b, err := c.batch(ctx, refs)
	if err != nil {
		return nil, err
	}
	take := func(i int, o *driver.Outcome) {
		if o.Err != nil {
			b.outcomes[i] = driver.Outcome{Err: o.Err}
			return
		}
		if now := b.outcomes[i].TTL; now == 0 || o.TTL < now {
			b.outcomes[i].TTL = o.TTL
		}
	}
	if err := b.call(ctx, oldToken, c.old.Renew, take); err != nil {
		return nil, err
	}
	if err := b.call(ctx, newToken, c.new.Renew, take); err != nil {
		return nil, err
	}
	for i := range refs {
		p := b.pairs[i]
		switch {
		case b.outcomes[i].Err == nil && (p.old == 0 || p.new == 0):
			b.outcomes[i] = driver.Outcome{Err: lease.ErrNotHeld} // on one of them alone
		case b.outcomes[i].Err == nil:
			p.until = keepUntil(refs[i].TTL)
			c.pairs.put(refs[i].Name, refs[i].Holder, p)
		}
	}
	return b.outcomes, nil
}

// Release implements driver.Conn: the new backend first, so that whoever the
// old one wakes finds the name free there.
func (c *conn) Release(ctx context.Context, refs []driver.Ref) ([]driver.Outcome, error) {
	b, err := c.batch(ctx, refs)
	if err != nil {
		return nil, err
	}
	lost := make([]error, len(refs))
	onNew := func(p *pair) lease.Token {
		if p.released {
			return 0
		}
		return p.new
	}
	err = b.call(ctx, onNew, c.new.Release, func(i int, o *driver.Outcome) {
		lost[i] = o.Err
		if o.Err == nil {
			// A repeat must not find it gone.
			b.pairs[i].released = true
			c.pairs.put(refs[i].Name, refs[i].Holder, b.pairs[i])
		}
	})
	if err != nil {
		return nil, err
	}
	err = b.call(ctx, oldToken, c.old.Release, func(i int, o *driver.Outcome) { b.outcomes[i].Err = o.Err })
	if err != nil {
		return nil, unknown(err)
	}
	for i := range refs {
		p := &b.pairs[i]
		if b.outcomes[i].Err == nil && (p.old == 0 || p.new == 0) {
			lost[i] = lease.ErrNotHeld // it was held on one of them alone
		}
		if b.outcomes[i].Err == nil {
			b.outcomes[i].Err = lost[i]
		}
		c.pairs.end(refs[i].Name, refs[i].Holder, p)
	}
	return b.outcomes, nil
}

// SetValue implements driver.Conn.
func (c *conn) SetValue(ctx context.Context, ref driver.Ref, value []byte) error {
	if err := driver.ValidateValue(value, &c.caps); err != nil {
		return err
	}
	b, err := c.batch(ctx, []driver.Ref{ref})
	if err != nil {
		return err
	}
	if err := b.outcomes[0].Err; err != nil {
		return err
	}
	p := &b.pairs[0]
	if p.old == 0 || p.new == 0 {
		return lease.ErrNotHeld
	}
	ref.Token = p.old
	if err := c.old.SetValue(ctx, ref, value); err != nil {
		return err
	}
	ref.Token = p.new
	return c.new.SetValue(ctx, ref, value)
}

// lookFor finds a grant on either backend, and its holder's on the other. A
// token of 0 in the pair means that there is none.
func (c *conn) lookFor(ctx context.Context, name string, is func(*driver.GrantInfo) bool) (pair, error) {
	old, next, err := c.look(ctx, name)
	if err != nil {
		return pair{}, err
	}
	p := pair{}
	holder, found := "", false
	for _, on := range []struct {
		info   *driver.Info
		handed Tokens
	}{{old, TokensOld}, {next, TokensNew}} {
		for i := range on.info.Grants {
			if g := &on.info.Grants[i]; !found && is(g) {
				holder, found, p.handed = g.Holder, true, on.handed
			}
		}
	}
	if !found {
		return p, lease.ErrNotHeld
	}
	p.old, p.new = grantOf(old, holder).Token, grantOf(next, holder).Token
	return p, nil
}

// grantOf returns what a holder has, or nothing.
func grantOf(in *driver.Info, holder string) driver.GrantInfo {
	for i := range in.Grants {
		if in.Grants[i].Holder == holder {
			return in.Grants[i]
		}
	}
	return driver.GrantInfo{}
}

// look returns the state of a name on both backends, an empty one if there is
// none.
func (c *conn) look(ctx context.Context, name string) (old, next *driver.Info, err error) {
	var found [2]*driver.Info
	for i, on := range []driver.Conn{c.old, c.new} {
		infos, err := on.List(ctx, &driver.ListRequest{Name: name, Max: 1})
		if err != nil {
			return nil, nil, err
		}
		found[i] = &driver.Info{}
		if len(infos) > 0 {
			found[i] = &infos[0]
		}
	}
	return found[0], found[1], nil
}
