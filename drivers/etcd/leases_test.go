package etcd

import (
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// TestLateRenewal: a renewal is on its way when its grant is released, and is
// noted while the next grant takes the same lease of etcd. For the race detector.
func TestLateRenewal(t *testing.T) {
	t.Parallel()
	const cycles = 50
	ctx := drivertest.Bounded(t)
	c := drivertest.OpenConn(t, quick(realserver.SharedEtcd(t).Addr())).(*conn)
	name := drivertest.Fresh(t)
	for range cycles {
		r := &driver.Request{Name: name, Holder: "h", TTL: time.Minute}
		g, _, err := c.Acquire(ctx, r)
		if err != nil || g == nil {
			t.Fatal(g, err)
		}
		refs := []driver.Ref{{Name: name, Holder: "h", Token: g.Token, TTL: time.Minute}}
		var renewal sync.WaitGroup
		renewal.Go(func() {
			if _, err := c.Renew(ctx, refs); err != nil {
				t.Error(err)
			}
		})
		if out, err := c.Release(ctx, refs); err != nil || out[0].Err != nil {
			t.Error(out, err)
		}
		next := &driver.Request{Name: name + "/next", Holder: "h", TTL: time.Minute}
		if g, _, err = c.Acquire(ctx, next); err != nil || g == nil {
			t.Fatal(g, err)
		}
		if err := c.Cancel(ctx, next); err != nil {
			t.Error(err)
		}
		renewal.Wait()
	}
}
