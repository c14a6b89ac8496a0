package etcd

import (
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// metric sums up what a server counts under a name, with labels that have all
// of the given ones.
func metric(t testing.TB, s *realserver.Server, name string, labels ...string) int {
	t.Helper()
	sum := 0.0
lines:
	for line := range strings.Lines(realserver.EtcdMetrics(t, s)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue lines
			}
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(strings.TrimSpace(rest), ' ')+1:]), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sum += value
	}
	return int(sum)
}

// transactions returns how many a server has run; reads are among them.
func transactions(t testing.TB, s *realserver.Server) int {
	t.Helper()
	return metric(t, s, "grpc_server_handled_total", `grpc_method="Txn"`)
}

// unhurried has clients whose places outlast any stall of a loaded machine: these
// tests count, nobody in them dies.
func unhurried(addr string) string { return "etcd://" + addr + "?session=1m" }

// perGrant is how many transactions a grant costs that was waited for: the
// first attempt, the place, a look when the one ahead is gone, the grant, and
// the release, and a look after each of the two watches.
const perGrant = 7

// TestThousandWaiters: all are granted in order, and there is no herd.
func TestThousandWaiters(t *testing.T) {
	t.Parallel()
	const waiters = 1000
	s := realserver.StartEtcd(t)
	ctx := lasting(t)
	url := unhurried(s.Addr())
	conns := []driver.Conn{drivertest.OpenConn(t, url), drivertest.OpenConn(t, url), drivertest.OpenConn(t, url)}
	before := transactions(t, s)
	took := drivertest.Line(ctx, t, conns, waiters)
	ran := transactions(t, s) - before
	looks := int(took / checkPeriod)
	t.Logf("%d grants in %v: %d transactions, %.2f a grant", waiters, took.Round(time.Millisecond), ran, float64(ran)/waiters)
	if most := waiters*perGrant + waiters*looks*2 + 100; ran > most {
		t.Errorf("%d transactions for %d grants in %v; want at most %d", ran, waiters, took, most)
	}
}

// TestFreeNameCosts: an acquire of a free name is one transaction, and so is
// its release.
func TestFreeNameCosts(t *testing.T) {
	t.Parallel()
	const cycles = 10
	s := realserver.StartEtcd(t)
	ctx := drivertest.Bounded(t)
	c := drivertest.OpenConn(t, unhurried(s.Addr()))
	warm(ctx, t, c, time.Minute)
	before := transactions(t, s)
	for range cycles {
		warm(ctx, t, c, time.Minute)
	}
	if ran := transactions(t, s) - before; ran != 2*cycles {
		t.Errorf("%d transactions for %d grants and releases", ran, cycles)
	}
}

// TestNothingIsLeft locks and releases names, 100,000 of them with
// LOCKKEEPER_LEAK_NAMES=100000; after Close the server has no key, no lease and no
// watch of it.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	s := realserver.StartEtcd(t)
	ctx := lasting(t)
	c := openURL(t, quick(s.Addr()))
	drivertest.UseNames(ctx, t, c, many(t, "LOCKKEEPER_LEAK_NAMES", 1000), 64)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	closed := time.Now()
	client, err := clientv3.New((&target{addrs: []string{s.Addr()}}).config())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	drivertest.Until(ctx, t, "nothing is left", func() bool {
		keys, err := client.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		leases, err := client.Leases(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return keys.Count == 0 && len(leases.Leases) == 0
	})
	t.Logf("nothing was left %v after Close", time.Since(closed).Round(time.Millisecond))
	if n := metric(t, s, "etcd_debugging_mvcc_watcher_total"); n != 0 {
		t.Errorf("%d watches are left", n)
	}
}
