package redis

import (
	"errors"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// TestClockStep sets the server's clock by an hour either way. That is outside
// of what is assumed of it, driver.ClockServerWall, and this is what happens:
// forward, all leases are over at once; back, a lease has at most its TTL
// again. In both cases tokens go on growing.
func TestClockStep(t *testing.T) {
	t.Parallel()
	const ttl = 2 * time.Second
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			t.Parallel()
			s, set := realserver.StartRedisWithClock(t)
			ctx := drivertest.Bounded(t)
			c := drivertest.OpenConn(t, "redis://"+s.Addr())
			r := &driver.Request{Name: "step", Holder: "holder", TTL: ttl}
			g, _, err := c.Acquire(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			set(step)
			stepped := time.Now()
			next := &driver.Request{Name: "step", Holder: "next", TTL: ttl}
			var after *driver.Grant
			drivertest.Until(ctx, t, "the next is granted", func() bool {
				after, _, err = c.Acquire(ctx, next)
				if err != nil && !errors.Is(err, driver.ErrHeld) {
					t.Fatal(err)
				}
				return after != nil
			})
			took := time.Since(stepped)
			t.Logf("a clock set by %v: a lease of %v was over after %v", step, ttl, took.Round(time.Millisecond))
			if after.Token <= g.Token {
				t.Errorf("token %d after %d", after.Token, g.Token)
			}
			if step > 0 && took > ttl/2 || step < 0 && took > ttl+time.Second {
				t.Errorf("a lease of %v was over after %v", ttl, took)
			}
			out, err := c.Renew(ctx, []driver.Ref{{Name: "step", Holder: "holder", Token: g.Token, TTL: ttl}})
			if err != nil || !errors.Is(out[0].Err, lease.ErrNotHeld) {
				t.Errorf("Renew by the one before: %v, %v", out, err)
			}
			// The counter of a free name is kept for longer than the step.
			free := &driver.Request{Name: "step/free", Holder: "h", TTL: ttl}
			set(0)
			g1, _, err := c.Acquire(ctx, free)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Cancel(ctx, free); err != nil {
				t.Fatal(err)
			}
			set(-time.Hour)
			g2, _, err := c.Acquire(ctx, free)
			if err != nil || g2.Token <= g1.Token {
				t.Errorf("token %v after %v, %v", g2, g1, err)
			}
		})
	}
}
