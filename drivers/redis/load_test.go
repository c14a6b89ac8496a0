package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// calls returns how often a server has run a command.
func calls(ctx context.Context, t testing.TB, s *realserver.Server, command string) int {
	t.Helper()
	for line := range strings.Lines(mustRedis(ctx, t, s, "INFO", "commandstats")) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
			count, _, _ := strings.Cut(rest, ",")
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// scripts returns how many scripts a server has run.
func scripts(ctx context.Context, t testing.TB, s *realserver.Server) int {
	t.Helper()
	return calls(ctx, t, s, "evalsha")
}

// TestThousandWaiters: all are granted in order, and there is no herd. A grant
// costs three scripts: the acquire that queues, the one that is granted, and
// the release; besides, each waiter looks once in checkPeriod, and the first two
// of the line twice. A few more come from the first two, who look when the
// lease that is before them may run out.
func TestThousandWaiters(t *testing.T) {
	const waiters = 1000
	s := realserver.StartRedis(t)
	ctx := drivertest.Bounded(t)
	url := "redis://" + s.Addr()
	conns := []driver.Conn{drivertest.OpenConn(t, url), drivertest.OpenConn(t, url), drivertest.OpenConn(t, url)}
	before := scripts(ctx, t, s)
	took := drivertest.Line(ctx, t, conns, waiters)
	ran := scripts(ctx, t, s) - before
	looks := int(took/checkPeriod) + 1
	t.Logf("%d grants in %v: %d scripts, %.2f a grant", waiters, took.Round(time.Millisecond), ran, float64(ran)/waiters)
	if most := waiters*3 + waiters*looks + 100; ran > most {
		t.Errorf("%d scripts for %d grants in %v; want at most %d", ran, waiters, took, most)
	}
}

// TestHandOverWithinAClient: the release of one takes the attempt of the next
// along, so that nobody is called.
func TestHandOverWithinAClient(t *testing.T) {
	t.Parallel()
	const waiters = 50
	s := realserver.StartRedis(t)
	ctx := drivertest.Bounded(t)
	c := drivertest.OpenConn(t, "redis://"+s.Addr())
	drivertest.Line(ctx, t, []driver.Conn{c}, waiters)
	if n := calls(ctx, t, s, "publish"); n > waiters/5 { // some are not waiting yet when it begins
		t.Errorf("%d were called in %d hand-overs", n, waiters)
	}
	if n := len(c.(*conn).wakes.lines); n != 0 {
		t.Errorf("%d lines are left", n)
	}
}

// lazy is how long Redis may take to remove keys whose time is over: it looks
// at a few of them ten times a second.
const lazy = 15 * time.Second

// leakTime bounds the work of a test that does very much, on a slow machine.
const leakTime = 5 * time.Minute

// TestNothingIsLeft locks and releases 100,000 names; some time later the
// server has no key, and after Close no subscription and no connection.
func TestNothingIsLeft(t *testing.T) {
	const names, clients, keep = 100_000, 64, 2 * time.Second
	s := realserver.StartRedis(t)
	ctx, cancel := context.WithTimeout(t.Context(), leakTime)
	defer cancel()
	c := openURL(t, fmt.Sprintf("redis://%s?fence_keep=%v", s.Addr(), keep))
	cancelled := drivertest.UseNames(ctx, t, c, names, clients)
	t.Logf("%s keys are there", mustRedis(ctx, t, s, "DBSIZE"))
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	done := time.Now()
	// What was cancelled is remembered for cancelLife: do not wait for that.
	drivertest.Until(ctx, t, "only what was cancelled is left", func() bool {
		n, err := strconv.Atoi(mustRedis(ctx, t, s, "DBSIZE"))
		return err == nil && n <= 2*cancelled
	})
	if took := time.Since(done); took > keep+lazy {
		t.Errorf("the keys were gone after %v; they are kept for %v", took, keep)
	}
	if left := mustRedis(ctx, t, s, "KEYS", DefaultPrefix+"{*}[hqlwfb]"); left != "" {
		t.Errorf("left: %s", left)
	}
	for _, key := range strings.Split(mustRedis(ctx, t, s, "KEYS", "*"), "\n") {
		if ttl, err := strconv.Atoi(mustRedis(ctx, t, s, "PTTL", key)); err != nil || ttl <= 0 || ttl > int(cancelLife.Milliseconds()) {
			t.Errorf("%s lives for another %d ms", key, ttl)
			break
		}
	}
	if channels := mustRedis(ctx, t, s, "PUBSUB", "CHANNELS"); channels != "" {
		t.Errorf("subscriptions are left: %s", channels)
	}
	drivertest.Until(ctx, t, "the client's connections are gone", func() bool {
		return strings.Count(mustRedis(ctx, t, s, "CLIENT", "LIST"), "id=") == 1
	})
}
