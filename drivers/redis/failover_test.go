package redis

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// failover kills a primary under load and has the waiters go on by themselves.
// Tokens never go back, whatever the failover lost.
func failover(t *testing.T, url, name string, kill func()) {
	t.Helper()
	const clients = 4
	ctx := bounded(t)
	var mu sync.Mutex
	var last lease.Token
	var grants, after int
	killed := false
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range clients {
		l := openLocker(t, url)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				le, err := l.Acquire(ctx, name, &lock.Options{TTL: 2 * time.Second})
				if err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
				mu.Lock()
				if le.Token() <= last {
					t.Errorf("token %d granted after %d", le.Token(), last)
				}
				last = le.Token()
				grants++
				if killed {
					after++
				}
				mu.Unlock()
				short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				_ = le.Release(short) // it may be away; then it is released later
				cancel()
			}
		})
	}
	count := func(n *int) int { mu.Lock(); defer mu.Unlock(); return *n }
	until(ctx, t, "grants are made", func() bool { return count(&grants) > 100 })
	kill()
	mu.Lock()
	killed = true
	mu.Unlock()
	start := time.Now()
	until(ctx, t, "grants go on", func() bool { return count(&after) > 2*clients })
	t.Logf("grants went on within %v", time.Since(start).Round(time.Millisecond))
	until(ctx, t, "grants go on", func() bool { return count(&after) > 100 })
	close(stop)
	wg.Wait()
}

func TestSentinelFailover(t *testing.T) {
	s := realserver.StartRedisSentinel(t)
	failover(t, "redis+sentinel://"+strings.Join(s.Addrs(), ",")+"/"+realserver.SentinelName, "failover", func() { s.Primary(t).Kill(t) })
}

func TestClusterFailover(t *testing.T) {
	c := realserver.StartRedisCluster(t)
	key := keysOf(DefaultPrefix, "failover")[0]
	failover(t, "redis+cluster://"+strings.Join(c.Addrs(), ","), "failover", func() { c.MasterOf(t, key).Kill(t) })
}

// TestFailoverToLaggingReplica fails over to a replica that has missed a grant.
// The grant is lost, as the capabilities say: two hold the name, each with a
// token of its own, and the later one is larger. The counter of the replica
// lags, too, and that does not matter.
func TestFailoverToLaggingReplica(t *testing.T) {
	primary := realserver.StartRedis(t)
	host, port, err := net.SplitHostPort(primary.Addr())
	if err != nil {
		t.Fatal(err)
	}
	replica := realserver.StartRedis(t, "--replicaof", host+" "+port)
	ctx := bounded(t)
	p := newProxy(t, primary.Addr())
	c := openConn(t, "redis://"+p.addr())
	if !c.Caps().FailoverLosesGrant {
		t.Error("the capabilities deny that a failover can lose a grant")
	}
	grant := func(holder string) *driver.Grant {
		t.Helper()
		r := &driver.Request{Name: "lag", Holder: holder, TTL: time.Minute}
		var g *driver.Grant
		until(ctx, t, holder+" is granted", func() bool {
			var err error
			g, _, err = c.Acquire(ctx, r)
			return err == nil
		})
		return g
	}
	first := grant("first")
	if out, err := c.Release(ctx, []driver.Ref{{Name: "lag", Holder: "first", Token: first.Token}}); err != nil || out[0].Err != nil {
		t.Fatal(out, err)
	}
	if n := mustRedis(ctx, t, primary, "WAIT", "1", "5000"); n != "1" {
		t.Fatalf("%s replicas have the first grant", n)
	}
	until(ctx, t, "the replica knows the first token", func() bool {
		return mustRedis(ctx, t, replica, "EXISTS", keysOf(DefaultPrefix, "lag")[4]) == "1"
	})
	mustRedis(ctx, t, replica, "REPLICAOF", "NO", "ONE") // from here on it misses everything
	lost := grant("lost")
	primary.Kill(t)
	p.point(replica.Addr())
	rival := grant("rival")
	if rival.Token <= lost.Token {
		t.Errorf("token %d granted after %d", rival.Token, lost.Token)
	}
	out, err := c.Renew(ctx, []driver.Ref{{Name: "lag", Holder: "lost", Token: lost.Token, TTL: time.Minute}})
	if err != nil || out[0].Err == nil {
		t.Errorf("Renew of the grant that was lost: %v, %v; want it refused", out, err)
	}
}
