package redis

import (
	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Profiles returns what locks on Redis have and assume.
func Profiles() []driver.Profile {
	return []driver.Profile{
		{Title: "Redis", URLs: []string{"redis://", "rediss://", "unix://"}, Caps: capabilities(nodeSingle),
			Note: "maxmemory-policy must be noeviction."},
		{Title: "Redis by Sentinel", URLs: []string{"redis+sentinel://"}, Caps: capabilities(nodeSentinel),
			Note: "maxmemory-policy must be noeviction."},
		{Title: "Redis Cluster", URLs: []string{"redis+cluster://"}, Caps: capabilities(nodeCluster),
			Note: "Names that are acquired together need one tag in braces, as in {orders}/1. maxmemory-policy must be noeviction."},
	}
}

// What the loss of a node costs.
const (
	mayLose = "loses the last grants, renewals and releases that it had not: two can hold one name for the rest of a TTL, " +
		"and the token protects if the new primary's clock is not behind. wait_replicas makes it less likely."
	nodeSingle   = "While the server is down nobody is granted anything. A restart without an append-only file that is synced each time, or a replica put in its place, " + mayLose
	nodeSentinel = "The Sentinels put a replica in its place, and waiters go on by themselves. It " + mayLose
	nodeCluster  = "A replica takes over the names of the lost master, and waiters go on by themselves. It " + mayLose
)

// capsOf returns the capabilities behind a client.
func capsOf(client goredis.UniversalClient) driver.Caps {
	switch client := client.(type) {
	case *goredis.ClusterClient:
		return capabilities(nodeCluster)
	case *goredis.Client:
		if client.Options().Addr == sentinelAddr {
			return capabilities(nodeSentinel)
		}
	}
	return capabilities(nodeSingle)
}

// sentinelAddr is what go-redis calls the address of a client that asks
// Sentinels.
const sentinelAddr = "FailoverClient"

func capabilities(node string) driver.Caps {
	return driver.Caps{
		Backend:            "redis",
		Fenced:             true,
		FIFO:               true,
		Shared:             true,
		Permits:            true,
		LockDelay:          true,
		Meta:               true,
		Resume:             true,
		Revoke:             true,
		Break:              true,
		Multi:              true,
		Election:           true,
		Watch:              true,
		Loss:               driver.LossBeforeGrant,
		Clock:              driver.ClockServerWall,
		DeadWaiter:         deadWaiter,
		MinTTL:             MinTTL,
		MaxTTL:             MaxTTL,
		FailoverLosesGrant: true,
		Assumes: driver.Statement{
			Clock: "The server's wall clock, read in the scripts; clients' clocks do not matter. Set forward, it ends all leases early by as much, and two can hold one name; " +
				"set back, a lease that nobody renews lasts longer. Slew it, do not step it.",
			Fence:  "The larger of the last number plus one and the server's time in microseconds, so that it grows after FLUSHALL too. A clock that is set back by more than fence_keep takes it back.",
			Node:   node,
			Waiter: "Each waiter looks about once a second. A head of the line that is called and does not answer in that time is passed.",
		},
	}
}
