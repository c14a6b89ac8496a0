package zookeeper

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// counts returns what a server counts.
func counts(ctx context.Context, t testing.TB, s *realserver.Server) map[string]int {
	t.Helper()
	text, err := realserver.ZooKeeper(ctx, s.Addr(), "mntr")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = int(n)
		}
	}
	return out
}

// TestThousandWaiters: all are granted in order, and there is no herd. A grant
// costs six requests: the claim, the children, the watch, the children again,
// the confirmation, and the release. A few more are heartbeats and containers.
func TestThousandWaiters(t *testing.T) {
	const waiters, each = 1000, 6
	s := realserver.StartZooKeeper(t)
	ctx := drivertest.Bounded(t)
	var conns []driver.Conn
	for range 3 {
		conns = append(conns, drivertest.OpenConn(t, urlOf(s.Addr())))
	}
	before := counts(ctx, t, s)["zk_packets_received"]
	took := drivertest.Line(ctx, t, conns, waiters)
	ran := counts(ctx, t, s)["zk_packets_received"] - before
	t.Logf("%d grants in %v: %d requests, %.2f a grant", waiters, took.Round(time.Millisecond), ran, float64(ran)/waiters)
	if most := each*waiters + 100 + int(took/time.Second)*len(conns); ran > most {
		t.Errorf("%d requests for %d grants in %v; want at most %d", ran, waiters, took, most)
	}
}

// leakTime bounds the long form.
const leakTime = 10 * time.Minute

// TestNothingIsLeft locks and releases many names; some time later the server
// has no node that it did not have, and after Close no watch and no session.
// LOCKKEEPER_LEAK_NAMES=100000 is the long form.
func TestNothingIsLeft(t *testing.T) {
	const clients = 64
	s := realserver.StartZooKeeper(t)
	ctx, cancel := context.WithTimeout(t.Context(), leakTime)
	defer cancel()
	c := openURL(t, urlOf(s.Addr()))
	before := counts(ctx, t, s)["zk_znode_count"]
	drivertest.UseNames(ctx, t, c, setting(t, "LOCKKEEPER_LEAK_NAMES", 3000), clients)
	t.Logf("%d nodes are there", counts(ctx, t, s)["zk_znode_count"]-before)
	if n := counts(ctx, t, s)["zk_ephemerals_count"]; n != 0 {
		t.Errorf("%d claims are left", n)
	}
	drivertest.Until(ctx, t, "no node is left", func() bool { return counts(ctx, t, s)["zk_znode_count"] == before })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	drivertest.Until(ctx, t, "no watch and no session is left", func() bool {
		n := counts(ctx, t, s)
		return n["zk_watch_count"] == 0 && n["zk_global_sessions"] == 0
	})
}
