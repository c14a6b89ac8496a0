package etcd

import "github.com/lockkeeper/lockkeeper/lock/driver"

// Profiles returns what locks on etcd have and assume.
func Profiles() []driver.Profile {
	o, err := (*Options)(nil).withDefaults()
	if err != nil {
		panic(err) // the defaults are within their bounds
	}
	return []driver.Profile{{
		Title: "etcd", URLs: []string{"etcd://", "etcds://"}, Caps: capabilities(o),
		Note: "The session parameter says how long a dead waiter is in the way. Have etcd compact (--auto-compaction-retention): the keys that a busy name had are walked over until then.",
	}}
}

func capabilities(o *Options) driver.Caps {
	return driver.Caps{
		Backend:    "etcd",
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
		Election:   true,
		Watch:      true,
		Loss:       driver.LossBeforeGrant,
		Clock:      driver.ClockMonotonic,
		DeadWaiter: o.Session + expiryLag,
		MinTTL:     MinTTL,
		MaxTTL:     MaxTTL,
		Durable:    true,
		Assumes: driver.Statement{
			Clock: "The leader's monotonic clock, by etcd leases of whole seconds; it must not run faster than the holder's. A stepped wall clock does not matter. " +
				"A name comes free up to two seconds after its TTL. Election time-outs above the default lengthen the shortest TTLs.",
			Fence: "The revision of the store that made the grant: it grows over all names and members. A store that is restored without --bump-revision takes it back; token_base helps.",
			Node: "A majority has written what was granted, so no failover loses it; a new leader gives all leases their time anew, and waiters go on by themselves. " +
				"In older versions a leader that is stuck in its disk and replaced may still answer renewals: the token protects.",
			Waiter: "The places of a client's waiters end with its session, a lease at etcd; one that its client stops waiting for is taken out after as long.",
		},
	}
}
