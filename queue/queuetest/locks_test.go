package queuetest_test

import (
	"context"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// driverLocks shows a lock driver to the suite.
type driverLocks struct{ lockdriver.Conn }

func (l driverLocks) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (lease.Token, error) {
	g, _, err := l.Conn.Acquire(ctx, &lockdriver.Request{Name: name, Holder: holder, TTL: ttl})
	if err != nil {
		return 0, err
	}
	return g.Token, nil
}

func (l driverLocks) Renew(ctx context.Context, ref driver.LockRef, ttl time.Duration) error {
	out, err := l.Conn.Renew(ctx, []lockdriver.Ref{{Name: ref.Name, Holder: ref.Holder, Token: ref.Token, TTL: ttl}})
	if err != nil {
		return err
	}
	return out[0].Err
}

func (l driverLocks) Release(ctx context.Context, ref driver.LockRef) error {
	out, err := l.Conn.Release(ctx, []lockdriver.Ref{{Name: ref.Name, Holder: ref.Holder, Token: ref.Token}})
	if err != nil {
		return err
	}
	return out[0].Err
}
