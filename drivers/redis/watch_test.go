package redis

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// TestWatchWithoutMessages: a watch whose subscription is lost sees what
// happens all the same.
func TestWatchWithoutMessages(t *testing.T) {
	t.Parallel()
	s := realserver.StartRedis(t)
	ctx := drivertest.Bounded(t)
	watching, c := drivertest.OpenConn(t, "redis://"+s.Addr()), drivertest.OpenConn(t, "redis://"+s.Addr())
	w, err := watching.Watch(ctx, &driver.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	told := func(kind driver.EventKind) time.Duration {
		t.Helper()
		start := time.Now()
		for {
			events, err := w.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if e.Kind == kind {
					return time.Since(start)
				}
			}
		}
	}
	told(driver.EventSynced)
	r := &driver.Request{Name: "n", Holder: "h", TTL: time.Minute}
	for range 3 {
		mustRedis(ctx, t, s, "CLIENT", "KILL", "TYPE", "pubsub")
		if _, _, err := c.Acquire(ctx, r); err != nil {
			t.Fatal(err)
		}
		if took := told(driver.EventState); took > rescanPeriod+time.Second {
			t.Errorf("the grant was told after %v", took)
		}
		if err := c.Cancel(ctx, r); err != nil {
			t.Fatal(err)
		}
		if took := told(driver.EventGone); took > rescanPeriod+time.Second {
			t.Errorf("the end was told after %v", took)
		}
	}
}

// TestNobodyWatches: without a watch nothing is published.
func TestNobodyWatches(t *testing.T) {
	s := realserver.StartRedis(t)
	ctx := drivertest.Bounded(t)
	c := drivertest.OpenConn(t, "redis://"+s.Addr())
	r := &driver.Request{Name: "n", Holder: "h", TTL: time.Minute}
	published := func() bool {
		t.Helper()
		_, _, err := c.Acquire(ctx, r)
		if err == nil {
			err = c.Cancel(ctx, r)
		}
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(mustRedis(ctx, t, s, "INFO", "commandstats"), "cmdstat_publish:")
	}
	if published() {
		t.Error("a script published to nobody")
	}
	w, err := c.Watch(context.Background(), &driver.WatchRequest{Name: "n"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if !published() {
		t.Error("a script published nothing to a watch")
	}
}
