package machine

import (
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// The lock commands. SKETCH of the interface between Locks and the shell.

// Acquire is one attempt. Exactly one of Grant, Ticket and Err is set when it
// is finished; it finishes in the round in which it is passed.
type Acquire struct {
	Request  *lockdriver.Request // validated
	Received lease.Instant       // when the shell got it

	Grant  *lockdriver.Grant
	Ticket *lockdriver.Ticket
	Err    error
}

// Await attaches a listener to a place in the line; it finishes when the
// request is granted, or with an error if it has no such place.
type Await struct {
	Request  *lockdriver.Request
	Received lease.Instant

	Grant *lockdriver.Grant
	Again bool // no such place is known (a restart, pruned): acquire again with the ticket
	Err   error
}

// Leave detaches an Await whose caller went away. The place is kept for
// DeadWaiter. If the Await has finished already, nothing happens.
type Leave struct{ Await *Await }

// CancelLock undoes a request, see lockdriver.Conn.Cancel.
type CancelLock struct {
	Request *lockdriver.Request
	Err     error
}

// RenewLocks and ReleaseLocks act on many leases.
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

// DeadWaiter is how long a waiter without a listener keeps its place.
const DeadWaiter = time.Second

func (*Acquire) command()      {}
func (*Await) command()        {}
func (*Leave) command()        {}
func (*CancelLock) command()   {}
func (*RenewLocks) command()   {}
func (*ReleaseLocks) command() {}
func (*RevokeLock) command()   {}
func (*ListLocks) command()    {}
