package remote

import (
	"context"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// suiteLocks shows a lock connection to the suite of queues.
type suiteLocks struct{ lockdriver.Conn }

func (l suiteLocks) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (lease.Token, error) {
	g, _, err := l.Conn.Acquire(ctx, &lockdriver.Request{Name: name, Holder: holder, TTL: ttl})
	if err != nil {
		return 0, err
	}
	return g.Token, nil
}

func (l suiteLocks) Renew(ctx context.Context, ref queuedriver.LockRef, ttl time.Duration) error {
	out, err := l.Conn.Renew(ctx, []lockdriver.Ref{{Name: ref.Name, Holder: ref.Holder, Token: ref.Token, TTL: ttl}})
	if err != nil {
		return err
	}
	return out[0].Err
}

func (l suiteLocks) Release(ctx context.Context, ref queuedriver.LockRef) error {
	out, err := l.Conn.Release(ctx, []lockdriver.Ref{{Name: ref.Name, Holder: ref.Holder, Token: ref.Token}})
	if err != nil {
		return err
	}
	return out[0].Err
}
