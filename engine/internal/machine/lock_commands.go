package machine

import (
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// The lock commands: what the shell passes to Locks and gets back. Each is
// decided when the method that takes it returns, except Await, which may wait
// and is then appended to Finished in the round that decides it.

// Acquire is one attempt. Exactly one of Grant, Ticket and Err is set when it
// is decided.
type Acquire struct {
	Request  *lockdriver.Request // validated; its Meta is kept and must not be changed
	Received lease.Instant       // when the shell got it

	Grant  *lockdriver.Grant
	Ticket *lockdriver.Ticket
	Err    error
}

// Await attaches a listener to a place in the line; it finishes when the
// request is granted, when there is no such place, or when another Await took
// over the place.
type Await struct {
	Request  *lockdriver.Request
	Received lease.Instant
	Owner    any // the shell's own, to recognise it in Finished

	Grant *lockdriver.Grant
	Again bool // no such place is known (a restart, pruned), or Leave: acquire again with the ticket
	Err   error

	waiter *lockWaiter // the place it listens at; nil once it has finished
}

// Leave detaches an Await whose caller went away. The place is kept for
// DeadWaiter. If the Await has finished already, nothing happens.
type Leave struct{ Await *Await }

// CancelLock undoes a request, see lockdriver.Conn.Cancel.
type CancelLock struct {
	Request *lockdriver.Request
	Err     error
}

// RenewLocks gives leases their TTL anew.
type RenewLocks struct {
	Refs     []lockdriver.Ref
	Outcomes []lockdriver.Outcome
}

// ReleaseLocks ends leases.
type ReleaseLocks struct {
	Refs     []lockdriver.Ref
	Outcomes []lockdriver.Outcome
}

// RevokeLock is an operator's act.
type RevokeLock struct {
	Request *lockdriver.RevokeRequest
	Err     error
}

// ListLocks reads; it changes nothing.
type ListLocks struct {
	Request *lockdriver.ListRequest
	Infos   []lockdriver.Info
}

// SetLockValue replaces the value of a grant.
type SetLockValue struct {
	Ref   lockdriver.Ref
	Value []byte // nil if empty; kept
	Err   error
}

// WatchLocks begins a watch.
type WatchLocks struct {
	Request *lockdriver.WatchRequest
	Watch   *LockWatch
	Err     error
}

// NextEvents waits for events of a watch; it finishes in the round in which
// there are some, or with an error when the watch ends. One at a time.
type NextEvents struct {
	Watch *LockWatch
	Owner any // the shell's own, to recognise it in Finished

	Events []lockdriver.Event
	Err    error
}

// LeaveEvents detaches a NextEvents whose caller went away. If it has finished
// already, what it was told is lost, and the watch begins anew.
type LeaveEvents struct{ Next *NextEvents }

// Unwatch ends a watch.
type Unwatch struct{ Watch *LockWatch }

// Limits of the locks, and times that clients can rely on.
const (
	// DeadWaiter is how long a waiter without a listener keeps its place,
	// and how long after an open newcomers let returning tickets go first.
	DeadWaiter = time.Second

	MaxLockNames      = 1_000_000 // names with a grant, a waiter or a lock-delay
	MaxLockWaiters    = 100_000   // places in the lines of all names
	MaxWaitersPerName = 10_000
	MaxSharedGrants   = 1024 // shared holders of one name
	MaxLockWatches    = 1024 // at once
	MaxWatchPending   = 1024 // changed names kept for a watch; past it, it begins anew
	maxWatchEvents    = 100  // told at once
	maxBrokenTokens   = 4096 // broken grants remembered, so that a renewal can say so
)

func (*Acquire) command()      {}
func (*Await) command()        {}
func (*Leave) command()        {}
func (*CancelLock) command()   {}
func (*RenewLocks) command()   {}
func (*ReleaseLocks) command() {}
func (*RevokeLock) command()   {}
func (*ListLocks) command()    {}
func (*SetLockValue) command() {}
func (*WatchLocks) command()   {}
func (*NextEvents) command()   {}
func (*LeaveEvents) command()  {}
func (*Unwatch) command()      {}
