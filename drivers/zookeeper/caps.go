package zookeeper

import (
	"time"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Profiles returns what locks on ZooKeeper have and assume.
func Profiles() []driver.Profile {
	return []driver.Profile{{
		Title: "ZooKeeper", URLs: []string{scheme + "://"}, Caps: capabilities(DefaultSession, DefaultTick),
		Note: "A lease is given session - session/3 - tick at most, 4.7 s by default, whatever TTL is asked for, and is renewed as often as that needs; " +
			"a holder that dies is in the way until its session ends.",
	}}
}

func capabilities(session, tick time.Duration) driver.Caps {
	return driver.Caps{
		Backend:    "zookeeper",
		Fenced:     true,
		FIFO:       true,
		Shared:     true,
		Permits:    true,
		LockDelay:  true,
		Meta:       true,
		Resume:     true,
		Revoke:     true,
		Break:      true,
		Election:   true,
		Watch:      true,
		Loss:       driver.LossBeforeGrant,
		Clock:      driver.ClockSession,
		DeadWaiter: session + 2*tick,
		MinTTL:     MinTTL,
		MaxTTL:     MaxTTL,
		Durable:    true,
		Assumes: driver.Statement{
			Clock: "The leader's clock that nobody sets ends sessions; the clients' must run as fast. A holder counts from its last transaction through a quorum, " +
				"less a heartbeat and a tick: tick in the URL must not be less than the servers' tickTime. Lock-delays are by the leader's wall clock.",
			Fence:  "The zxid of the transaction that made the claim: it grows over all names, restarts and leaders. Servers that are restored from an older copy go back, unless token_base lifts it.",
			Node:   "A majority goes on with a new leader, which gives every session its full time-out; clients go to another server by themselves and nothing is lost. Without a majority nobody is granted anything.",
			Waiter: "Its session ends when the servers have not heard of it for the session's time-out. A waiter that nobody asks for is given up by its live client after as long.",
		},
	}
}
