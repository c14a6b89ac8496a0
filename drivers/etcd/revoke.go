package etcd

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// brokenKeep is how much longer than its TTL a broken grant is remembered, so
// that its holder is told.
const brokenKeep = time.Minute

// Revoke implements driver.Conn.
func (c *conn) Revoke(ctx context.Context, r *driver.RevokeRequest) error {
	if err := driver.ValidateName("name", r.Name); err != nil {
		return err
	}
	token := int64(0)
	if r.Token != 0 {
		var ok bool
		if token, ok = c.strip(r.Token); !ok {
			return lease.ErrNotHeld
		}
	}
	base := c.base(r.Name)
	answers, _, err := c.read(ctx, []clientv3.Op{clientv3.OpGet(base+kindGrant, clientv3.WithRange(base+kindPastGrant))})
	if err != nil {
		return err
	}
	count := 0
	for _, kv := range answers[0].Kvs {
		if token != 0 && kv.CreateRevision != token {
			continue
		}
		found, err := c.revokeOne(ctx, base, kv, r.Break)
		if err != nil {
			return err
		}
		if found {
			count++
		}
	}
	if count == 0 {
		return lease.ErrNotHeld
	}
	return nil
}

// revokeOne acts on one grant, and reports whether it was live.
func (c *conn) revokeOne(ctx context.Context, base string, kv *mvccpb.KeyValue, brk bool) (bool, error) {
	key, token := string(kv.Key), kv.CreateRevision
	for range maxRaces {
		g, err := decodeGrant(kv.Value)
		if err != nil {
			return false, err
		}
		if gone, err := c.closedByDelay(ctx, kv, g); gone || err != nil {
			return false, err
		}
		var done bool
		if brk {
			done, err = c.breakGrant(ctx, base, kv, g)
		} else {
			done, err = c.rewrite(ctx, &held{kv: kv, record: g}, func(g *grantRecord) { g.Revoked = true })
		}
		if done || err != nil {
			return done, err
		}
		answers, _, err := c.read(ctx, []clientv3.Op{clientv3.OpGet(key)})
		if err != nil {
			return false, err
		}
		if kv = first(answers[0]); kv == nil || kv.CreateRevision != token {
			return false, nil
		}
	}
	return false, fmt.Errorf("%w: the grant changes as fast as it is revoked", lease.ErrUnavailable)
}

// breakGrant deletes a grant and leaves word of it.
func (c *conn) breakGrant(ctx context.Context, base string, kv *mvccpb.KeyValue, g *grantRecord) (bool, error) {
	l, err := c.leases.grant(ctx, g.Seconds+seconds(brokenKeep))
	if err != nil {
		return false, err
	}
	answer, err := c.commit(ctx, &txn{
		demands: []clientv3.Cmp{created(string(kv.Key), kv.CreateRevision)},
		then: []clientv3.Op{
			clientv3.OpDelete(string(kv.Key)),
			clientv3.OpPut(brokenKey(base, kv.CreateRevision), "", clientv3.WithLease(l.id)),
		},
	})
	switch {
	case err != nil:
		return false, err
	case !answer.Succeeded:
		c.leases.give(l)
		return false, nil
	}
	return true, nil
}
