package driver

import (
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Loss says when a holder learns of a loss.
type Loss string

// Clock says which clock decides that a lease has expired.
type Clock string

// Values of Loss and Clock.
const (
	LossBeforeGrant Loss = "before_grant" // before anyone else can be granted, under the stated clock
	LossBestEffort  Loss = "best_effort"

	ClockMonotonic  Clock = "monotonic"   // the server's, immune to steps
	ClockServerWall Clock = "server_wall" // a step of the server's wall clock can end a lease early or late
	ClockSession    Clock = "session"     // a session kept by a quorum
)

// Caps is what a backend has and assumes, as data.
type Caps struct {
	Backend string // "engine", "redis", ...

	Fenced    bool
	FIFO      bool
	Shared    bool
	Permits   bool
	LockDelay bool
	Meta      bool
	Resume    bool
	Revoke    bool
	Break     bool
	Multi     bool // several names, all or nothing
	Deadlock  bool // circles of waiters are found, see Request.Within
	Election  bool // Request.Value and SetValue
	Watch     bool

	Loss               Loss
	Clock              Clock
	DeadWaiter         time.Duration // how long at most a dead waiter is in the way
	MinTTL, MaxTTL     time.Duration
	TTLPerConn         bool // one TTL for all leases of a connection
	FailoverLosesGrant bool
	Durable            bool // grants survive a restart of the backend

	// Assumes says in words what the fields above cannot.
	Assumes Statement

	// Store names what the backend keeps everything in, if it keeps queues
	// there too: their Caps have the same Store, and their commits can
	// release and require locks. "": it has no queues.
	Store string
}

// MaxStatement bounds each sentence of a Statement, in bytes.
const MaxStatement = 400

// Statement says for people what a backend assumes and what it may lose. Each
// field is one line of one or two sentences, without a word for "not known":
// what the driver cannot promise, it says.
type Statement struct {
	Clock  string // which clock ends leases, and what it costs if it is stepped or slow
	Fence  string // where tokens come from, and what could take them back
	Node   string // what the loss of a node that serves costs, and how it goes on
	Waiter string // how the backend learns that a waiter is dead
}

// Lines returns the fields with their titles.
func (s *Statement) Lines() [][2]string {
	return [][2]string{{"clock", s.Clock}, {"tokens", s.Fence}, {"a lost node", s.Node}, {"a dead waiter", s.Waiter}}
}

// Validate returns a *lease.FieldError unless each field is there, within
// MaxStatement and on one line.
func (s *Statement) Validate() error {
	for _, l := range s.Lines() {
		if err := lease.ValidateSentences(l[0], l[1], MaxStatement); err != nil {
			return err
		}
	}
	return nil
}

// Feature is a power that a backend has or lacks.
type Feature struct {
	Has  bool
	Name string
}

// Features returns the powers among the Caps, under the names that people are
// shown.
func (c *Caps) Features() []Feature {
	return []Feature{
		{c.Fenced, "fencing tokens"},
		{c.FIFO, "first come, first served"},
		{c.Shared, "shared"},
		{c.Permits, "permits"},
		{c.Multi, "several names"},
		{c.Election, "election"},
		{c.Watch, "watch"},
		{c.LockDelay, "lock-delay"},
		{c.Meta, "metadata"},
		{c.Resume, "resume"},
		{c.Revoke, "revoke"},
		{c.Break, "break"},
		{c.Deadlock, "deadlock search"},
	}
}

// Profile is what one kind of deployment of a backend has and assumes, known
// without reaching it. A driver's package returns all of its own from Profiles
// (LockProfiles where it has queues too), from which docs/backends.md is made.
// A Conn's Caps are those of its profile but for what its URL changes.
type Profile struct {
	Title string   // "Redis Cluster"
	URLs  []string // the schemes, as in "redis+cluster://"
	Note  string   // what a user should know besides, one line; "": nothing
	Caps  Caps
}
