package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// refsPerTxn is how many grants one transaction looks at or releases.
const refsPerTxn = maxOps / 4

// maxTxns is how many transactions of one call are under way at once.
const maxTxns = 4

// chunks calls f with parts of n things, some at once, and returns the first
// error.
func chunks(ctx context.Context, n int, f func(ctx context.Context, from, end int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxTxns)
	for from := 0; from < n; from += refsPerTxn {
		group.Go(func() error { return f(ctx, from, min(from+refsPerTxn, n)) })
	}
	return group.Wait()
}

// held is a grant as it is at etcd.
type held struct {
	kv     *mvccpb.KeyValue // nil: it is not there
	record *grantRecord
	broken bool
}

// find looks for grants by holder and token.
func (c *conn) find(ctx context.Context, refs []driver.Ref) ([]held, error) {
	out := make([]held, len(refs))
	err := chunks(ctx, len(refs), func(ctx context.Context, from, end int) error {
		var gets []clientv3.Op
		for i := from; i < end; i++ {
			base := c.base(refs[i].Name)
			token, _ := c.strip(refs[i].Token)
			gets = append(gets, grantGets(base, refs[i].Holder)...)
			gets = append(gets, clientv3.OpGet(brokenKey(base, token), clientv3.WithKeysOnly()))
		}
		answers, _, err := c.read(ctx, gets)
		if err != nil {
			return err
		}
		for i := from; i < end; i++ {
			of := answers[(len(grantKinds)+1)*(i-from):]
			token, ok := c.strip(refs[i].Token)
			if kv, _ := ownGrant(of, refs[i].Holder); ok && kv != nil && kv.CreateRevision == token {
				out[i].kv = kv
				if out[i].record, err = decodeGrant(kv.Value); err != nil {
					return err
				}
			}
			out[i].broken = ok && first(of[len(grantKinds)]) != nil
		}
		return nil
	})
	return out, err
}

// refusal says why a grant cannot be renewed; nil: it can.
func (h *held) refusal() error {
	switch {
	case h.kv == nil && h.broken:
		return lease.ErrBroken
	case h.kv == nil:
		return lease.ErrNotHeld
	case h.record.Revoked:
		return lease.ErrRevoked
	default:
		return nil
	}
}

// Renew implements driver.Conn. It looks whether the grants are there, and then
// renews the leases that they hang on.
func (c *conn) Renew(ctx context.Context, refs []driver.Ref) ([]driver.Outcome, error) {
	if err := checkBatch(refs); err != nil {
		return nil, err
	}
	for i := range refs {
		if err := driver.ValidateTTL("ttl", refs[i].TTL, &c.caps); err != nil {
			return nil, err
		}
	}
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	grants, err := c.find(ctx, refs)
	if err != nil {
		return nil, err
	}
	outcomes := make([]driver.Outcome, len(refs))
	var ids []clientv3.LeaseID
	var which []int
	for i := range grants {
		h := &grants[i]
		outcomes[i].Err = h.refusal()
		switch {
		case outcomes[i].Err != nil:
		case h.record.Delay > 0, seconds(refs[i].TTL) != h.record.Seconds: // one by one
			outcomes[i].TTL, outcomes[i].Err = c.extend(ctx, h.kv, h.record, refs[i].TTL)
		default:
			ids, which = append(ids, clientv3.LeaseID(h.kv.Lease)), append(which, i)
		}
	}
	sent := c.clock.Now()
	left, err := c.leases.keepAlive(ctx, ids)
	if err != nil {
		return nil, err
	}
	for j, i := range which {
		if left[j] == 0 {
			outcomes[i].Err = lease.ErrNotHeld
			continue
		}
		outcomes[i].TTL = refs[i].TTL
		c.leases.kept(ids[j], sent)
	}
	return outcomes, nil
}

// Release implements driver.Conn.
func (c *conn) Release(ctx context.Context, refs []driver.Ref) ([]driver.Outcome, error) {
	if err := checkBatch(refs); err != nil {
		return nil, err
	}
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	outcomes := make([]driver.Outcome, len(refs))
	failed := make([]error, len(refs))
	_ = chunks(context.WithoutCancel(ctx), len(refs), func(_ context.Context, from, end int) error {
		if err := c.releaseSome(ctx, refs[from:end], outcomes[from:end]); err != nil {
			for i := from; i < end; i++ {
				failed[i] = err
			}
		}
		return nil // the others are released all the same
	})
	n := 0
	for i, err := range failed {
		if err != nil {
			outcomes[i].Err = err
			n++
		}
	}
	if n > 0 && n == len(refs) {
		return nil, failed[0]
	}
	return outcomes, nil
}

// releaseSome releases what is in one transaction: a transaction within for
// each grant.
func (c *conn) releaseSome(ctx context.Context, refs []driver.Ref, outcomes []driver.Outcome) error {
	if len(refs) == 1 {
		if done, err := c.releaseOwn(ctx, &refs[0]); done || err != nil {
			return err
		}
		t, ok := c.releasing(&refs[0])
		if !ok {
			outcomes[0].Err = lease.ErrNotHeld
			return nil
		}
		answer, err := c.lanes.run(ctx, refs[0].Name, t)
		if err != nil {
			return err
		}
		outcomes[0].Err = c.released(ctx, &refs[0], (*etcdserverpb.TxnResponse)(answer))
		return nil
	}
	all := &txn{}
	var which []int
	for i := range refs {
		t, ok := c.releasing(&refs[i])
		if !ok {
			outcomes[i].Err = lease.ErrNotHeld
			continue
		}
		all.then = append(all.then, clientv3.OpTxn(t.demands, t.then, t.or))
		which = append(which, i)
	}
	if len(which) == 0 {
		return nil
	}
	answer, err := c.commit(ctx, all)
	if err != nil {
		return err
	}
	for j, i := range which {
		outcomes[i].Err = c.released(ctx, &refs[i], answer.Responses[j].GetResponseTxn())
	}
	return nil
}

// releaseOwn releases a grant that this client has made, and that nothing has
// changed since, with the least that etcd must be told. It reports whether it
// was that.
func (c *conn) releaseOwn(ctx context.Context, r *driver.Ref) (bool, error) {
	revision, ok := c.strip(r.Token)
	if !ok {
		return false, nil
	}
	l, key := c.leases.of(grantID{r.Name, r.Holder, revision})
	if l == nil {
		return false, nil
	}
	answer, err := c.lanes.run(ctx, r.Name, &txn{
		demands: []clientv3.Cmp{unchanged(key, revision)},
		then:    []clientv3.Op{clientv3.OpDelete(key)},
	})
	if err != nil || !answer.Succeeded {
		return false, err
	}
	c.leases.give(l)
	return true, nil
}

// releasing returns the transaction that releases a grant, unless it has a
// lock-delay.
func (c *conn) releasing(r *driver.Ref) (*txn, bool) {
	token, ok := c.strip(r.Token)
	if !ok {
		return nil, false
	}
	base := c.base(r.Name)
	t := &txn{or: grantGets(base, r.Holder)}
	for _, kind := range grantKinds {
		key := grantKey(base, kind, r.Holder)
		ours := append(isHeldBy(key, r.Holder), created(key, token))
		gone := []clientv3.Op{clientv3.OpDelete(key, clientv3.WithPrevKV())}
		if kind == kindExclusive {
			t.demands, t.then = ours, gone
		} else {
			t.or = append(t.or, clientv3.OpTxn(ours, gone, nil))
		}
	}
	return t, true
}

// released reads the answer to releasing, and releases what has a lock-delay.
func (c *conn) released(ctx context.Context, r *driver.Ref, answer *etcdserverpb.TxnResponse) error {
	if answer.Succeeded {
		return c.deleted(answer.Responses[0].GetResponseDeleteRange())
	}
	for _, other := range answer.Responses[len(grantKinds):] {
		if inner := other.GetResponseTxn(); inner.Succeeded {
			return c.deleted(inner.Responses[0].GetResponseDeleteRange())
		}
	}
	token, _ := c.strip(r.Token)
	if kv, _ := ownGrant(ranges(answer.Responses), r.Holder); kv != nil && kv.CreateRevision == token {
		return c.releaseDelayed(ctx, kv)
	}
	return lease.ErrNotHeld
}

// deleted takes back the lease of a grant that was released.
func (c *conn) deleted(d *etcdserverpb.DeleteRangeResponse) error {
	if d.Deleted == 0 || len(d.PrevKvs) == 0 {
		return lease.ErrNotHeld // twice in one call
	}
	c.leases.giveID(clientv3.LeaseID(d.PrevKvs[0].Lease))
	return nil
}

// releaseDelayed releases a grant with a lock-delay, unless it has run out: the
// delay is for that.
func (c *conn) releaseDelayed(ctx context.Context, kv *mvccpb.KeyValue) error {
	g, err := decodeGrant(kv.Value)
	if err != nil {
		return err
	}
	if gone, err := c.closedByDelay(ctx, kv, g); gone || err != nil {
		return errors.Join(err, notHeldIf(gone))
	}
	answer, err := c.commit(ctx, &txn{
		demands: []clientv3.Cmp{created(string(kv.Key), kv.CreateRevision)},
		then:    []clientv3.Op{clientv3.OpDelete(string(kv.Key), clientv3.WithPrevKV())},
	})
	if err != nil {
		return err
	}
	if !answer.Succeeded {
		return lease.ErrNotHeld
	}
	return c.deleted(answer.Responses[0].GetResponseDeleteRange())
}

// SetValue implements driver.Conn.
func (c *conn) SetValue(ctx context.Context, ref driver.Ref, value []byte) error {
	if err := checkRef(ref.Name, ref.Holder); err != nil {
		return err
	}
	if err := driver.ValidateValue(value, &c.caps); err != nil {
		return err
	}
	return c.change(ctx, ref, func(g *grantRecord) { g.Value = value })
}

// change changes the record of a live grant.
func (c *conn) change(ctx context.Context, ref driver.Ref, how func(g *grantRecord)) error {
	for range maxRaces {
		grants, err := c.find(ctx, []driver.Ref{ref})
		if err != nil {
			return err
		}
		h := &grants[0]
		if err := h.refusal(); err != nil && !errors.Is(err, lease.ErrRevoked) {
			return err
		}
		if gone, err := c.closedByDelay(ctx, h.kv, h.record); gone || err != nil {
			return errors.Join(err, notHeldIf(gone))
		}
		done, err := c.rewrite(ctx, h, how)
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: the grant changes as fast as it is written", lease.ErrUnavailable)
}

// rewrite writes a changed record, and reports whether the grant was as it is
// in h.
func (c *conn) rewrite(ctx context.Context, h *held, how func(g *grantRecord)) (bool, error) {
	next := *h.record
	how(&next)
	text, err := next.encode()
	if err != nil {
		return false, err
	}
	answer, err := c.commit(ctx, &txn{
		demands: []clientv3.Cmp{unchanged(string(h.kv.Key), h.kv.ModRevision)},
		then:    []clientv3.Op{clientv3.OpPut(string(h.kv.Key), text, clientv3.WithIgnoreLease())},
	})
	if err != nil {
		return false, err
	}
	return answer.Succeeded, nil
}
