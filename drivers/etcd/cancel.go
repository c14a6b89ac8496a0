package etcd

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// How long what was cancelled is looked after: a request that the network held
// back could still arrive.
const doubtLife = time.Minute

// houseEvery is how often that and other things are looked after.
const houseEvery = time.Second

// doubt is what is not known of a request: an attempt that has no answer may
// have been carried out, or may be yet.
type doubt struct {
	leases []clientv3.LeaseID // that its grants would hang on
	orders []int64            // places it may have
	names  []string           // once it is cancelled, or was answered
	since  time.Time
}

// doubts are the requests of a conn with such attempts. A repeat settles what
// has happened. What may still happen is made impossible: the leases of grants
// are revoked, so that they cannot be made any more, and places are removed.
type doubts struct {
	mu       sync.Mutex
	open     map[claim]*doubt
	canceled map[claim]*doubt // or answered: places only
}

func newDoubts() *doubts { return &doubts{open: map[claim]*doubt{}, canceled: map[claim]*doubt{}} }

func (d *doubts) of(k claim) *doubt {
	if d.open[k] == nil {
		d.open[k] = &doubt{since: time.Now()}
	}
	return d.open[k]
}

// grant notes an attempt at a grant that was not answered.
func (d *doubts) grant(k claim, held []*etcdLease) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range held {
		d.of(k).leases = append(d.of(k).leases, l.id)
	}
}

// place notes an attempt at a place that was not answered.
func (d *doubts) place(k claim, order int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of(k).orders = append(d.of(k).orders, order)
}

// found keeps the leases of grants that were made after all.
func (d *doubts) found(k claim, s *snapshot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.open[k]
	if in == nil {
		return
	}
	keep := map[clientv3.LeaseID]bool{}
	for i := range s.names {
		keep[clientv3.LeaseID(s.names[i].own.Lease)] = true
	}
	rest := in.leases[:0]
	for _, id := range in.leases {
		if !keep[id] {
			rest = append(rest, id)
		}
	}
	in.leases = rest
}

// settle is called when an attempt was answered: what is still in doubt must
// not happen any more. A place that is taken behind that one's grant would be
// in everybody's way, with nobody to wait in it.
func (d *doubts) settle(c *conn, r *driver.Request) {
	k := claimOf(r)
	in := d.take(k)
	if in == nil {
		return
	}
	c.leases.lose(in.leases...)
	if n := len(in.orders); n > 1 || n == 1 && in.orders[0] != c.waiters.placeOf(k) {
		d.late(k, in, r)
	}
}

// late has places that may be taken yet looked after. They are removed whenever
// the request is in no line.
func (d *doubts) late(k claim, in *doubt, r *driver.Request) {
	in.names, in.since = namesOf(r), time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if before := d.canceled[k]; before != nil {
		in.orders = append(in.orders, before.orders...)
	}
	d.canceled[k] = in
}

// take returns and forgets what is in doubt.
func (d *doubts) take(k claim) *doubt {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.open[k]
	delete(d.open, k)
	return in
}

// Cancel implements driver.Conn.
func (c *conn) Cancel(ctx context.Context, r *driver.Request) error {
	if err := r.ValidateCancel(); err != nil {
		return err
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	k := claimOf(r)
	c.waiters.forget(k)
	if in := c.doubts.take(k); in != nil {
		if left := c.leases.revokeAll(ctx, in.leases); len(left) > 0 {
			c.doubts.mu.Lock()
			c.doubts.open[k] = in
			c.doubts.mu.Unlock()
			return fmt.Errorf("%w: %d leases of attempts without an answer could not be revoked", lease.ErrUnavailable, len(left))
		}
		if len(in.orders) > 0 {
			c.doubts.late(k, in, r)
		}
	}
	for range maxRaces {
		done, err := c.cancelOnce(ctx, r)
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: the request changes as fast as it is cancelled", lease.ErrUnavailable)
}

func namesOf(r *driver.Request) []string {
	names := make([]string, r.Names())
	for i := range names {
		names[i] = r.NameAt(i)
	}
	return names
}

// cancelOnce looks for what the request has, and deletes it. It reports whether
// nothing is left.
func (c *conn) cancelOnce(ctx context.Context, r *driver.Request) (bool, error) {
	var gets []clientv3.Op
	for i := range r.Names() {
		base := c.base(r.NameAt(i))
		gets = append(gets, grantGets(base, r.Holder)...)
		gets = append(gets, clientv3.OpGet(waiterKey(base, r.Holder)))
	}
	answers, _, err := c.read(ctx, gets)
	if err != nil {
		return false, err
	}
	t := &txn{}
	var freed []clientv3.LeaseID
	for i, answer := range answers {
		n := len(grantKinds) + 1
		kv, base := first(answer), c.base(r.NameAt(i/n))
		if kv == nil {
			continue
		}
		if i%n < len(grantKinds) {
			if !isOf(kv.Value, r.Holder) {
				continue
			}
			g, err := decodeGrant(kv.Value)
			if err != nil {
				return false, err
			}
			if g.ID == r.ID {
				t.demands = append(t.demands, unchanged(string(kv.Key), kv.ModRevision))
				t.then = append(t.then, clientv3.OpDelete(string(kv.Key)))
				freed = append(freed, clientv3.LeaseID(kv.Lease))
			}
			continue
		}
		w, err := decodeWaiter(kv.Value)
		if err != nil {
			return false, err
		}
		if w.ID == r.ID {
			t.demands = append(t.demands, unchanged(string(kv.Key), kv.ModRevision))
			t.then = append(t.then, clientv3.OpDelete(string(kv.Key)), clientv3.OpDelete(placeKey(base, w.Order, r.Holder)))
		}
	}
	if len(t.then) == 0 {
		return true, nil
	}
	answer, err := c.commit(ctx, t)
	if err != nil || !answer.Succeeded {
		return false, err
	}
	for _, id := range freed {
		c.leases.giveID(id)
	}
	return true, nil
}

// keepHouse does what nobody waits for: it removes the places of waiters that
// are silent, and those that came after their cancel, and revokes leases.
func (c *conn) keepHouse() {
	tick := time.NewTicker(houseEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return
		}
		for _, w := range c.waiters.silent(c.session.ttl) {
			c.remove(w.names, w.claim.holder, w.order)
		}
		for k, in := range c.doubts.due(c) {
			if c.waiters.has(k) {
				continue
			}
			for _, order := range in.orders {
				c.remove(in.names, k.holder, order)
			}
		}
		c.leases.tidy(c.ctx)
	}
}

// due returns the requests that are over and to be looked after, and forgets what is
// too old, or has not been heard of again.
func (d *doubts) due(c *conn) map[claim]*doubt {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, in := range d.open {
		if time.Since(in.since) > doubtLife {
			delete(d.open, k)
			c.leases.lose(in.leases...)
		}
	}
	out := map[claim]*doubt{}
	for k, in := range d.canceled {
		if time.Since(in.since) > doubtLife {
			delete(d.canceled, k)
		} else {
			out[k] = in
		}
	}
	return out
}

// remove deletes places that hang on this client's session, if they are there.
func (c *conn) remove(names []string, holder string, order int64) {
	var gets []clientv3.Op
	for _, name := range names {
		gets = append(gets, clientv3.OpGet(placeKey(c.base(name), order, holder)))
	}
	answers, _, err := c.read(c.ctx, gets)
	if err != nil {
		return // the session's end does it, or the next round
	}
	t := &txn{}
	for i, answer := range answers {
		kv, base := first(answer), c.base(names[i])
		if kv != nil && c.session.is(clientv3.LeaseID(kv.Lease)) {
			t.demands = append(t.demands, unchanged(string(kv.Key), kv.ModRevision))
			t.then = append(t.then, clientv3.OpDelete(string(kv.Key)), clientv3.OpDelete(waiterKey(base, holder)))
		}
	}
	if len(t.then) > 0 {
		_, _ = c.commit(c.ctx, t) // likewise
	}
}
