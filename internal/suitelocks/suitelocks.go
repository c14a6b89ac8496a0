// Package suitelocks shows a connection for locks to the suite of queues, which
// does not know lock drivers: its cases on commits take, renew and release
// locks of the same backend. It is for the tests of drivers.
package suitelocks

import (
	"context"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// Locks is the lock side of a queuetest.Harness.
type Locks struct{ lockdriver.Conn }

// Acquire takes a free lock.
func (l Locks) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (lease.Token, error) {
	g, _, err := l.Conn.Acquire(ctx, &lockdriver.Request{Name: name, Holder: holder, TTL: ttl})
	if err != nil {
		return 0, err
	}
	return g.Token, nil
}

// Renew renews one.
func (l Locks) Renew(ctx context.Context, ref queuedriver.LockRef, ttl time.Duration) error {
	out, err := l.Conn.Renew(ctx, []lockdriver.Ref{{Name: ref.Name, Holder: ref.Holder, Token: ref.Token, TTL: ttl}})
	if err != nil {
		return err
	}
	return out[0].Err
}

// Release releases one.
func (l Locks) Release(ctx context.Context, ref queuedriver.LockRef) error {
	out, err := l.Conn.Release(ctx, []lockdriver.Ref{{Name: ref.Name, Holder: ref.Holder, Token: ref.Token}})
	if err != nil {
		return err
	}
	return out[0].Err
}
