package etcd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// setFull raises the alarm that etcd raises when its store has reached its
// quota, or ends it as an operator does.
func setFull(ctx context.Context, t testing.TB, c driver.Conn, full bool) {
	t.Helper()
	action := etcdserverpb.AlarmRequest_DEACTIVATE
	if full {
		action = etcdserverpb.AlarmRequest_ACTIVATE
	}
	maintenance := etcdserverpb.NewMaintenanceClient(c.(*conn).client.ActiveConnection())
	if _, err := maintenance.Alarm(ctx, &etcdserverpb.AlarmRequest{Action: action, Alarm: etcdserverpb.AlarmType_NOSPACE}); err != nil {
		t.Fatal(err)
	}
}

// TestNoSpace: an etcd that is full grants nothing and says why. What is held is
// renewed and released all the same, nothing is left of what was refused, and
// with room it goes on.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	s := realserver.StartEtcd(t)
	ctx := drivertest.Bounded(t)
	url := "etcd://" + s.Addr() + patient
	c, fresh, l := drivertest.OpenConn(t, url), drivertest.OpenConn(t, url), drivertest.OpenLocker(t, url)
	held := &driver.Request{Name: "held", Holder: "h", TTL: 30 * time.Second}
	g, _, err := c.Acquire(ctx, held)
	if err != nil {
		t.Fatal(err)
	}
	warm(ctx, t, c, time.Minute) // this one needs no lease any more, only a key
	setFull(ctx, t, c, true)
	for _, conn := range []driver.Conn{c, fresh} {
		for _, r := range []*driver.Request{
			{Name: "free", Holder: "other", ID: "1", TTL: time.Minute},
			{Name: "held", Holder: "other", ID: "1", TTL: time.Minute, Queue: true},
			{Name: "one", More: []string{"two"}, Holder: "other", ID: "1", TTL: time.Minute},
		} {
			if g, tk, err := conn.Acquire(ctx, r); !errors.Is(err, lease.ErrNoSpace) {
				t.Errorf("Acquire of %s: %v, %v, %v; want %v", r.Name, g, tk, err, lease.ErrNoSpace)
			}
			if err := conn.Cancel(ctx, r); err != nil {
				t.Errorf("Cancel of %s: %v", r.Name, err)
			}
		}
	}
	// It is the caller's to try again: he is told at once.
	if _, err := l.Acquire(ctx, "held", nil); !errors.Is(err, lock.ErrNoSpace) || !strings.Contains(err.Error(), "space") {
		t.Errorf("Locker.Acquire: %v; want %v", err, lock.ErrNoSpace)
	}
	refs := []driver.Ref{{Name: "held", Holder: "h", Token: g.Token, TTL: held.TTL}}
	if out, err := c.Renew(ctx, refs); err != nil || out[0].Err != nil {
		t.Errorf("Renew: %v, %v", out, err)
	}
	if out, err := c.Release(ctx, refs); err != nil || out[0].Err != nil {
		t.Errorf("Release: %v, %v", out, err)
	}
	if infos, err := c.List(ctx, &driver.ListRequest{}); err != nil || len(infos) != 0 {
		t.Errorf("left: %+v, %v", infos, err)
	}
	setFull(ctx, t, c, false)
	le, err := l.Acquire(ctx, "held", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := le.Release(ctx); err != nil {
		t.Error(err)
	}
}
