package redis

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/drivertest"
	"github.com/lockkeeper/lockkeeper/internal/realserver"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// failoverTTL is the TTL of locks that a failover may lose.
const failoverTTL = 2 * time.Second

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	s := realserver.StartRedisSentinel(t)
	drivertest.Failover{
		URL: "redis+sentinel://" + strings.Join(s.Addrs(), ",") + "/" + realserver.SentinelName, Name: "failover",
		TTL: failoverTTL, Kill: func() { s.Primary(t).Kill(t) },
	}.Run(t)
}

func TestClusterFailover(t *testing.T) {
	t.Parallel()
	c := realserver.StartRedisCluster(t)
	key := keysOf(DefaultPrefix, "failover")[0]
	drivertest.Failover{
		URL: "redis+cluster://" + strings.Join(c.Addrs(), ","), Name: "failover",
		TTL: failoverTTL, Kill: func() { c.MasterOf(t, key).Kill(t) },
	}.Run(t)
}

// TestFailoverToLaggingReplica fails over to a replica that has missed a grant.
// The grant is lost, as the capabilities say: two hold the name, each with a
// token of its own, and the later one is larger. The counter of the replica
// lags, too, and that does not matter.
func TestFailoverToLaggingReplica(t *testing.T) {
	t.Parallel()
	primary := realserver.StartRedis(t)
	host, port, err := net.SplitHostPort(primary.Addr())
	if err != nil {
		t.Fatal(err)
	}
	replica := realserver.StartRedis(t, "--replicaof", host+" "+port)
	ctx := drivertest.Bounded(t)
	p := drivertest.NewProxy(t, primary.Addr())
	c := drivertest.OpenConn(t, "redis://"+p.Addr())
	if !c.Caps().FailoverLosesGrant {
		t.Error("the capabilities deny that a failover can lose a grant")
	}
	grant := func(holder string) *driver.Grant {
		t.Helper()
		r := &driver.Request{Name: "lag", Holder: holder, TTL: time.Minute}
		var g *driver.Grant
		drivertest.Until(ctx, t, holder+" is granted", func() bool {
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
	drivertest.Until(ctx, t, "the replica knows the first token", func() bool {
		return mustRedis(ctx, t, replica, "EXISTS", keysOf(DefaultPrefix, "lag")[4]) == "1"
	})
	mustRedis(ctx, t, replica, "REPLICAOF", "NO", "ONE") // from here on it misses everything
	lost := grant("lost")
	primary.Kill(t)
	p.Point(replica.Addr())
	rival := grant("rival")
	if rival.Token <= lost.Token {
		t.Errorf("token %d granted after %d", rival.Token, lost.Token)
	}
	out, err := c.Renew(ctx, []driver.Ref{{Name: "lag", Holder: "lost", Token: lost.Token, TTL: time.Minute}})
	if err != nil || out[0].Err == nil {
		t.Errorf("Renew of the grant that was lost: %v, %v; want it refused", out, err)
	}
}
