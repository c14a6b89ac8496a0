package engine

import (
	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// LockProfiles returns what locks on the engine have and assume.
func LockProfiles() []lockdriver.Profile {
	return []lockdriver.Profile{
		{Title: "Engine on disk", URLs: []string{"file://"}, Caps: lockCaps(false), Note: "min_ttl in the URL admits shorter TTLs."},
		{Title: "Engine in memory", URLs: []string{"mem://"}, Caps: lockCaps(true), Note: "For tests: it ends with its process."},
	}
}

func lockCaps(memory bool) lockdriver.Caps {
	c := lockdriver.Caps{
		Backend:    "engine",
		Fenced:     true,
		FIFO:       true,
		Shared:     true,
		Permits:    true,
		LockDelay:  true,
		Meta:       true,
		Resume:     true,
		Revoke:     true,
		Break:      true,
		Multi:      true,
		Deadlock:   true,
		Election:   true,
		Watch:      true,
		Loss:       lockdriver.LossBeforeGrant,
		Clock:      lockdriver.ClockMonotonic,
		DeadWaiter: machine.DeadWaiter,
		MinTTL:     DefaultMinTTL,
		MaxTTL:     MaxTTL,
		Durable:    !memory,
		Assumes: lockdriver.Statement{
			Clock:  "The server's clock that nobody sets and that runs on through a suspend; it must run as fast as the clients'. Steps of the wall clock change nothing.",
			Fence:  "A counter of the store, written before each grant is told. A store that is restored from an older copy goes back, unless token_base lifts it.",
			Node:   "There is one node. While it is down nobody is granted anything and leases run out at their holders; after a restart each grant is there with its full TTL, and waiters return to their places.",
			Waiter: "A waiter whose call or connection has ended keeps its place for that long, so that it can come back with its ticket.",
		},
	}
	if memory {
		c.Assumes.Fence = "A counter in memory, which begins anew with the process."
		c.Assumes.Node = "There is one process. What it held is forgotten when it ends, and the next one may grant a name while an old holder believes in its lease."
	}
	return c
}
