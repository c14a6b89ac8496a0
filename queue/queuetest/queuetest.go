// Package queuetest is the conformance suite of queue drivers: a driver is
// done when it passes.
//
//	func TestConformance(t *testing.T) {
//		queuetest.Run(t, queuetest.Harness{
//			Open: func(t *testing.T) driver.Conn { ... },
//		})
//	}
//
// Each subtest is one documented promise; its name is the short of it, and
// its comment the whole. Where Caps say that a backend lacks a power, the
// suite asserts that using it is lease.ErrUnsupported: nothing is skipped.
package queuetest

import (
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Harness tells the suite how to reach the backend under test.
type Harness struct {
	// Open opens a new connection. All connections of one Run lead to the
	// same backend, also after a Restart. The suite closes them.
	Open func(t *testing.T) driver.Conn
	// Restart stops the backend as a crash would, and starts it again with
	// what was durable. Connections from before may be dead afterwards.
	// nil: the backend keeps nothing, or cannot be restarted; the promises
	// about restarts are then not tested.
	Restart func(t *testing.T)
	// Locks opens a connection to the locks in the store of the queues, which
	// their Caps.Store says to be there; nil: there are none. Connections
	// made after a Restart are to the backend that it started.
	Locks func(t *testing.T) Locks
	// Lease is the unit of time of the suite: deliveries are leased for it
	// where they are meant to expire. At least what the backend can take,
	// and long enough that the machine does not stall for half of it. 0
	// means 500 ms, or Caps.MinLease if that is longer.
	Lease time.Duration
	// Patience is how long the suite waits for what must happen. 0 means
	// 30 s.
	Patience time.Duration
}

// check is one promise.
type check struct {
	name string
	run  func(*suite)
}

// Run runs the suite. Each check uses queues and exchanges of its own, and
// leaves none behind.
func Run(t *testing.T, h Harness) {
	if h.Open == nil {
		t.Fatal("queuetest: Harness.Open is missing")
	}
	if h.Patience == 0 {
		h.Patience = 30 * time.Second
	}
	groups := []struct {
		name   string
		checks []check
	}{
		{"Topology", topologyChecks},
		{"Routing", routingChecks},
		{"Exchanges", exchangeChecks},
		{"Publish", publishChecks},
		{"Receive", receiveChecks},
		{"Consumers", consumerChecks},
		{"Settle", settleChecks},
		{"Lease", leaseChecks},
		{"DeadLetter", deadLetterChecks},
		{"Dedup", dedupChecks},
		{"Delay", delayChecks},
		{"Order", orderChecks},
		{"Priority", priorityChecks},
		{"Length", lengthChecks},
		{"TTL", ttlChecks},
		{"Limits", limitChecks},
		{"Inspect", inspectChecks},
		{"Stream", streamChecks},
		{"Schedule", scheduleChecks},
		{"Commit", commitChecks},
	}
	if h.Restart != nil {
		groups = append(groups, struct {
			name   string
			checks []check
		}{"Restart", restartChecks})
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, c := range g.checks {
				t.Run(c.name, func(t *testing.T) { c.run(newSuite(t, h)) })
			}
		})
	}
}
