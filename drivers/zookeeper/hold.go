package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Bounds of batches.
const (
	maxParallel = 32        // calls at once for one batch
	maxChecked  = 512 << 10 // bytes of paths in one transaction: the servers refuse 1 MiB
)

func checkBatch(refs []driver.Ref) error {
	if len(refs) > driver.MaxBatch {
		return lease.Invalidf("leases", "must be at most %d, are %d", driver.MaxBatch, len(refs))
	}
	for i := range refs {
		if err := checkRef(refs[i].Name, refs[i].Holder); err != nil {
			return err
		}
	}
	return nil
}

// Renew implements driver.Conn. One transaction finds all the leases that are
// of this session: it goes through a quorum, so that a leader that was replaced
// and does not know it cannot answer. It changes nothing.
func (c *conn) Renew(ctx context.Context, refs []driver.Ref) ([]driver.Outcome, error) {
	if err := checkBatch(refs); err != nil {
		return nil, err
	}
	for i := range refs {
		if err := driver.ValidateTTL("ttl", refs[i].TTL, &c.caps); err != nil {
			return nil, err
		}
	}
	own := slices.Clone(refs)
	return do(ctx, c, "renew", true, func() ([]driver.Outcome, error) { return c.renew(own) })
}

// renewal is one lease of a batch that is of this session.
type renewal struct {
	at      int // in the batch
	p       *place
	path    string
	version int32
}

func (c *conn) renew(refs []driver.Ref) ([]driver.Outcome, error) {
	outcomes := make([]driver.Outcome, len(refs))
	var own []renewal
	var others []int
	c.mu.Lock()
	for i := range refs {
		p := c.places[placeKey{refs[i].Name, refs[i].Holder}]
		if p != nil && p.granted && c.token(p.zxid) == refs[i].Token && c.current(p) {
			own = append(own, renewal{i, p, p.path, p.version})
		} else {
			others = append(others, i)
		}
	}
	c.mu.Unlock()
	for len(own) > 0 {
		n, size := 0, 0
		for n < len(own) && size < maxChecked {
			size += len(own[n].path)
			n++
		}
		failed, err := c.renewOwn(own[:n], refs, outcomes)
		if err != nil {
			return nil, err
		}
		for _, k := range failed {
			others = append(others, k.at)
		}
		own = own[n:]
	}
	err := c.each(others, func(i int) error {
		outcomes[i] = c.renewOne(&refs[i])
		return transport(outcomes[i].Err)
	})
	if err != nil && len(others) == len(refs) {
		return nil, err
	}
	return outcomes, nil
}

// transport returns an error that says nothing about a lease, and nil for the
// others.
func transport(err error) error {
	if err == nil || isOneOf(err, []error{lease.ErrNotHeld, lease.ErrRevoked, lease.ErrBroken}) {
		return nil
	}
	return err
}

// renewOwn renews leases of this session, and returns those that were not
// found as they are known.
func (c *conn) renewOwn(own []renewal, refs []driver.Ref, outcomes []driver.Outcome) (failed []renewal, err error) {
	own = slices.Clone(own)
	for len(own) > 0 {
		ops := make([]any, len(own))
		for i := range own {
			ops[i] = &zk.CheckVersionRequest{Path: own[i].path, Version: own[i].version}
		}
		replies, err := c.client.Multi(ops...)
		if err == nil {
			break
		}
		at := failedAt(replies)
		if at < 0 {
			return nil, err
		}
		failed = append(failed, own[at])
		own = slices.Delete(own, at, at+1)
	}
	for _, k := range own {
		if !c.prolong(&k, refs[k.at].TTL) {
			failed = append(failed, k)
			continue
		}
		outcomes[k.at].TTL = c.give(refs[k.at].TTL)
	}
	return failed, nil
}

// prolong has a lease that was found last on, unless its end has begun here
// meanwhile.
func (c *conn) prolong(k *renewal, ttl time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.p.path != k.path || k.p.ending {
		return false
	}
	k.p.until = time.Now().Add(ttl)
	k.p.timer.Reset(ttl)
	return true
}

// renewOne renews a lease that is not known here as it is: it was changed, it
// is gone, or it is of another session, and then it moves to this one.
func (c *conn) renewOne(r *driver.Ref) driver.Outcome {
	p := c.enter(placeKey{r.Name, r.Holder}, &driver.Request{})
	defer c.exit(p)
	for range maxRounds {
		f, v, err := c.lookup(r.Name, r.Holder)
		switch {
		case err != nil:
			return driver.Outcome{Err: err}
		case f == nil || c.token(f.zxid()) != r.Token || f.place >= v.granted():
			if p.granted && c.token(p.zxid) == r.Token {
				c.reset(p)
			}
			return driver.Outcome{Err: c.whyNotHeld(r, v)}
		case f.rec.Revoked:
			c.shorten(p)
			return driver.Outcome{Err: lease.ErrRevoked}
		}
		if err := c.adopt(p, f, f.rec); err != nil {
			return driver.Outcome{Err: err}
		}
		if p.path == "" {
			continue
		}
		if err := c.confirm(p); err != nil {
			if errors.Is(err, errGone) {
				continue
			}
			return driver.Outcome{Err: err}
		}
		c.mu.Lock()
		p.granted = true
		c.mu.Unlock()
		c.last(p, r.TTL)
		return driver.Outcome{TTL: c.give(r.TTL)}
	}
	return driver.Outcome{Err: fmt.Errorf("%w: the claim changes all the time", lease.ErrUnavailable)}
}

// shorten has a revoked lease end at what its holder takes for its deadline,
// however long was asked for.
func (c *conn) shorten(p *place) {
	c.mu.Lock()
	given := time.Duration(p.rec.TTL) * time.Millisecond
	live := p.granted && !p.rec.Revoked && time.Until(p.until) > given
	p.rec.Revoked = p.rec.Revoked || p.granted
	c.mu.Unlock()
	if live {
		c.last(p, given)
	}
}

// whyNotHeld says what became of a lease that is not there. The mark of a
// broken one has done its work then.
func (c *conn) whyNotHeld(r *driver.Ref, v *view) error {
	if !slices.Contains(v.broken, r.Token.String()) {
		return lease.ErrNotHeld
	}
	_ = c.client.Delete(c.brokenPath(r.Name, r.Token), -1) // otherwise who looks later removes it
	return lease.ErrBroken
}

func (c *conn) brokenPath(name string, t lease.Token) string {
	return c.namePath(name) + "/" + markBroken + "." + t.String()
}

// each runs f for some parts of a batch, several at once, and returns the
// first error.
func (c *conn) each(parts []int, f func(i int) error) error {
	var g errgroup.Group
	g.SetLimit(maxParallel)
	for _, i := range parts {
		g.Go(func() error { return f(i) })
	}
	return g.Wait()
}

// Release implements driver.Conn.
func (c *conn) Release(ctx context.Context, refs []driver.Ref) ([]driver.Outcome, error) {
	if err := checkBatch(refs); err != nil {
		return nil, err
	}
	own := slices.Clone(refs)
	return do(ctx, c, "release", true, func() ([]driver.Outcome, error) {
		outcomes := make([]driver.Outcome, len(own))
		all := make([]int, len(own))
		for i := range all {
			all[i] = i
		}
		failed := 0
		err := c.each(all, func(i int) error {
			outcomes[i].Err = c.release(&own[i])
			return transport(outcomes[i].Err)
		})
		for i := range outcomes {
			if transport(outcomes[i].Err) != nil {
				outcomes[i].Err = classify(outcomes[i].Err, true)
				failed++
			}
		}
		if failed > 0 && failed == len(own) {
			return nil, err
		}
		return outcomes, nil
	})
}

func (c *conn) release(r *driver.Ref) error {
	if p := c.existing(placeKey{r.Name, r.Holder}); p != nil {
		defer c.exit(p)
		if p.granted && c.token(p.zxid) == r.Token && c.current(p) {
			if err := c.remove(p, true); !errors.Is(err, errGone) {
				return err
			}
		}
	}
	f, v, err := c.lookup(r.Name, r.Holder)
	if err != nil {
		return err
	}
	if f == nil || c.token(f.zxid()) != r.Token || f.place >= v.granted() {
		return lease.ErrNotHeld
	}
	there, err := c.erase(r.Name, f)
	if err == nil && !there {
		err = lease.ErrNotHeld
	}
	return err
}

// SetValue implements driver.Conn.
func (c *conn) SetValue(ctx context.Context, ref driver.Ref, value []byte) error {
	if err := checkRef(ref.Name, ref.Holder); err != nil {
		return err
	}
	if err := driver.ValidateValue(value, &c.caps); err != nil {
		return err
	}
	value = slices.Clone(value)
	_, err := do(ctx, c, "set a value", true, func() (struct{}, error) { return struct{}{}, c.setValue(&ref, value) })
	return err
}

func (c *conn) setValue(r *driver.Ref, value []byte) error {
	p := c.enter(placeKey{r.Name, r.Holder}, &driver.Request{})
	defer c.exit(p)
	for range maxRounds {
		if !p.granted || c.token(p.zxid) != r.Token || !c.current(p) {
			f, v, err := c.lookup(r.Name, r.Holder)
			switch {
			case err != nil:
				return err
			case f == nil || c.token(f.zxid()) != r.Token || f.place >= v.granted():
				return c.whyNotHeld(r, v)
			}
			rec := f.rec
			rec.Value = value
			return c.rewrite(r.Name, f, rec)
		}
		rec := p.rec
		rec.Value = value
		if err := c.write(p, rec); !errors.Is(err, errGone) {
			return err
		}
		c.reset(p)
	}
	return lease.ErrNotHeld
}

// rewrite replaces the data of a claim of whatever session.
func (c *conn) rewrite(name string, f *found, rec record) error {
	data, err := encode(&rec)
	if err != nil {
		return err
	}
	_, err = c.client.Multi(
		&zk.SetDataRequest{Path: f.path, Data: data, Version: f.stat.Version},
		&zk.SetDataRequest{Path: c.namePath(name), Version: -1})
	if errors.Is(err, zk.ErrNoNode) {
		return lease.ErrNotHeld
	}
	if errors.Is(err, zk.ErrBadVersion) {
		return fmt.Errorf("%w: the claim has changed meanwhile", lease.ErrUnavailable)
	}
	return err
}

// Revoke implements driver.Conn.
func (c *conn) Revoke(ctx context.Context, r *driver.RevokeRequest) error {
	if err := driver.ValidateName("name", r.Name); err != nil {
		return err
	}
	own := *r
	_, err := do(ctx, c, "revoke", true, func() (struct{}, error) { return struct{}{}, c.revoke(&own) })
	return err
}

func (c *conn) revoke(r *driver.RevokeRequest) error {
	if err := c.sync(); err != nil {
		return err
	}
	v, err := c.look(r.Name)
	if err != nil {
		return err
	}
	acted := false
	for i := range v.granted() {
		f, err := c.read(r.Name, v, i)
		if err != nil {
			return err
		}
		if f == nil || r.Token != 0 && c.token(f.zxid()) != r.Token {
			continue
		}
		rec := f.rec
		rec.Revoked = true
		if r.Break {
			err = c.breakGrant(r.Name, f)
		} else {
			err = c.rewrite(r.Name, f, rec)
		}
		switch {
		case err == nil:
			acted = true
		case !errors.Is(err, lease.ErrNotHeld): // else it has just ended by itself
			return err
		}
	}
	if !acted {
		return lease.ErrNotHeld
	}
	return nil
}

// breakGrant ends a grant, without its lock-delay, and leaves a mark for its
// holder.
func (c *conn) breakGrant(name string, f *found) error {
	ops := []any{
		&zk.DeleteRequest{Path: f.path, Version: -1},
		&zk.CreateRequest{Path: c.brokenPath(name, c.token(f.zxid())), Acl: c.acl, Flags: zk.FlagPersistent},
	}
	err := error(nil)
	if f.rec.Delay > 0 {
		mark := c.namePath(name) + "/" + markDelay + "." + f.claim.id
		_, err = c.client.Multi(append(ops, &zk.DeleteRequest{Path: mark, Version: -1})...)
	}
	if f.rec.Delay == 0 || errors.Is(err, zk.ErrNoNode) {
		_, err = c.client.Multi(ops...)
	}
	if errors.Is(err, zk.ErrNoNode) {
		return lease.ErrNotHeld
	}
	return err
}
