package etcd

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
)

// TestCutOffMember cuts the member that the holder uses off from the others,
// while it goes on answering: the leader, which then is one no more without
// knowing it for a second, and a follower.
func TestCutOffMember(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			c := realserver.StartEtcdCluster(t)
			member := c.Leader(t)
			if who == "follower" {
				member = c.Members[(slices.Index(c.Members, member)+1)%len(c.Members)]
			}
			var others []string
			for _, s := range c.Members {
				if s != member {
					others = append(others, s.Addr())
				}
			}
			cutOffHolder(t, quick(member.Addr()), quick(others...), func() { c.Isolate(t, member) })
			c.Isolate(t, nil)
		})
	}
}

// cutOffHolder has the holder's end come before the grant of its rival.
func cutOffHolder(t *testing.T, url, rivalURL string, cut func()) {
	t.Helper()
	ctx, clock, name := drivertest.Bounded(t), lease.SystemClock(), drivertest.Fresh(t)
	held, err := drivertest.OpenLocker(t, url).Acquire(ctx, name, &lock.Options{TTL: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	rival := drivertest.OpenLocker(t, rivalURL)
	granted := make(chan lease.Instant, 1)
	go func() {
		le, err := rival.Acquire(ctx, name, nil)
		if err != nil || le.Token() <= held.Token() {
			t.Errorf("the rival: %v, %v; the holder's token is %d", le, err, held.Token())
		}
		granted <- clock.Now()
	}()
	drivertest.Waiting(ctx, t, rival, name, 1)
	began := clock.Now()
	cut()
	<-held.Context().Done()
	ended := clock.Now()
	if cause := context.Cause(held.Context()); !errors.Is(cause, lease.ErrExpired) {
		t.Errorf("the lease ended because of %v", cause)
	}
	at := <-granted
	t.Logf("the holder ended %v after the cut, and %v before the rival was granted",
		ended.Sub(began).Round(time.Millisecond), at.Sub(ended).Round(time.Millisecond))
	if at <= ended {
		t.Error("the rival was granted before the holder's end")
	}
}
