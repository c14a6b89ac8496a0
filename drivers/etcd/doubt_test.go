package etcd

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// TestLatePlaceOfGranted: a place that is taken after its request was granted at
// another attempt is removed, though others of its client wait and keep the
// session: nobody waits in it.
func TestLatePlaceOfGranted(t *testing.T) {
	t.Parallel()
	addr := quick(realserver.SharedEtcd(t).Addr())
	ctx := drivertest.Bounded(t)
	c, other := drivertest.OpenConn(t, addr), drivertest.OpenConn(t, addr)
	late, name := c.(*conn), drivertest.Fresh(t)
	r := &driver.Request{Name: name, Holder: "late", ID: "1", TTL: time.Minute, Queue: true}
	a := &acquiring{c: late, r: r, claim: claimOf(r), began: late.clock.Now(), bases: []string{late.base(name)}}
	s, err := a.seeNow(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := late.session.lease(ctx)
	if err != nil {
		t.Fatal(err)
	}
	waits, stop := context.WithCancel(ctx)
	waiter := make(chan struct{})
	go func() {
		defer close(waiter)
		keepWaiting(waits, t, c, other)
	}()
	defer func() { stop(); <-waiter }()
	a.order = s.revision
	late.doubts.place(a.claim, a.order) // an attempt to get in line was not answered
	if g, _, err := c.Acquire(ctx, r); err != nil || g == nil {
		t.Fatalf("the repeat: %v, %v", g, err)
	}
	join := &txn{demands: []clientv3.Cmp{absent(waiterKey(a.bases[0], r.Holder))}, then: a.puts(a.place(), id)}
	if answer, err := late.commit(ctx, join); err != nil || !answer.Succeeded {
		t.Fatalf("it arrives late: %v, %v", answer, err)
	}
	drivertest.Until(ctx, t, "the place is removed", func() bool {
		infos, err := other.List(ctx, &driver.ListRequest{Name: name})
		return err == nil && len(infos) == 1 && infos[0].Waiting == 0
	})
}

// keepWaiting has c wait, until ctx ends, for a name that other holds.
func keepWaiting(ctx context.Context, t *testing.T, c, other driver.Conn) {
	t.Helper()
	name := drivertest.Fresh(t)
	if g, _, err := other.Acquire(ctx, &driver.Request{Name: name, Holder: "holder", TTL: time.Hour}); ctx.Err() == nil && (err != nil || g == nil) {
		t.Errorf("%v, %v", g, err)
	}
	for r := (&driver.Request{Name: name, Holder: "waiter", ID: "1", TTL: time.Minute, Queue: true}); ctx.Err() == nil; {
		_, ticket, err := c.Acquire(ctx, r)
		if err == nil {
			_, err = c.Wait(ctx, r, ticket)
		}
		if err != nil && ctx.Err() == nil {
			t.Error(err)
			return
		}
	}
}
