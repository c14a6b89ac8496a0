// Package driver is what a lock backend implements.
//
// The portable package lock owns everything that is the same everywhere:
// validation of what users pass, renewal, loss timers, error wrapping. A
// driver makes one attempt and returns the raw error; it does not retry, does
// not renew, and starts no goroutine per lease. package locktest is the
// conformance suite; a driver is done when it passes.
//
// # Holders, requests and tokens
//
// A Holder is the identity of one (would-be) holder of a name, chosen by the
// client and unique per acquisition unless the user names it. A holder holds
// a name at most once. Request.ID tells a repeat from a second request: the
// same holder and ID after a lost reply get the same grant and the same
// token, or the same place in the line. The same holder with another ID is
// refused with ErrAlreadyHeld, unless Resume is set. An empty ID is an ID.
//
// # Several names at once
//
// A Request with More asks for all its names or none. It has one place, which
// stands in the lines of all of them with the same rank, so that requests for
// several names cannot wait for each other in a circle, in whatever order
// their users think of the names. It is granted when it is the first and fits
// in all of them, and keeps its place at the head of a free name meanwhile.
// All its grants are made in one step, with a token for each name; they are
// renewed, released and revoked one by one. A repeat finds all of them, or is
// refused with lease.ErrNotHeld if some have ended.
//
// # Deadlocks
//
// A request says in Within which holders keep what they hold while it waits,
// besides its own Holder. With Caps.Deadlock the backend looks for circles of
// such waits over plain locks; the youngest waiter of a circle leaves its
// lines and gets a *DeadlockError. A request for a plain lock that one of
// Within holds could never be granted and is refused with ErrAlreadyHeld,
// which also means that a shared lock is not upgraded.
//
// # Errors
//
// Drivers return the sentinels of package lease and of this package, wrapped
// or bare, so that errors.Is finds them. A transport error after which the
// request may have been carried out must match lease.ErrUnknown; one before
// which nothing was sent must match lease.ErrUnavailable.
package driver

import (
	"context"
	"errors"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
)

// Errors of locks only; see package lease for the others.
var (
	// ErrHeld: the name is not free for this request and it did not ask to queue.
	ErrHeld = errors.New("lock is held")
	// ErrAlreadyHeld: this holder already holds or awaits the name under
	// another request ID, or one of Request.Within holds it.
	ErrAlreadyHeld = errors.New("lock is already held by this holder")
	// ErrDeadlock is the class of every *DeadlockError: the request waited
	// in a circle and was the youngest of it. It waits for nothing any more.
	ErrDeadlock = errors.New("deadlock")
)

// Conn is one client's connection to a backend. All methods may be called
// concurrently.
type Conn interface {
	// Caps says what the backend has and assumes. It does not change over
	// the life of the Conn and does no I/O.
	Caps() Caps

	// Acquire makes one attempt. Exactly one result is non-nil.
	//
	// It returns a Grant if the name is (or already was, see Request.ID)
	// granted to the holder; one that it already had gets its TTL anew. Otherwise, without Request.Queue it returns
	// ErrHeld and leaves no trace; with it, the holder has a place in the
	// line and Acquire returns the Ticket for it, at once or after having
	// waited for the grant as long as it saw fit.
	//
	// After any error but those that say that nothing happened the caller
	// must Cancel: the request may be in the line or granted.
	Acquire(ctx context.Context, r *Request) (*Grant, *Ticket, error)

	// Wait blocks until it is worth attempting again: the request was
	// granted (then it may return the Grant), the line moved, the backend
	// wants a sign of life, or ctx ended. (nil, nil) means: call Acquire
	// again with the ticket. Grant.Waited counts from this call. A Wait may
	// end with ErrAlreadyHeld because another one of the same request, late on
	// its way, took its place: Acquire with the ticket says whose it is.
	Wait(ctx context.Context, r *Request, t *Ticket) (*Grant, error)

	// Cancel undoes a request: afterwards it waits for nothing, and a grant
	// made for its ID (and not resumed under another) is released. It
	// is idempotent; a request unknown to the backend is success.
	Cancel(ctx context.Context, r *Request) error

	// Renew gives each lease its TTL anew. len(outcomes) == len(refs) if
	// err is nil. Outcome.Err is lease.ErrNotHeld, lease.ErrRevoked or
	// lease.ErrBroken when it was refused.
	Renew(ctx context.Context, refs []Ref) ([]Outcome, error)

	// Release ends each lease. Outcome.Err is lease.ErrNotHeld for one that
	// was not held any more; nothing is changed by that.
	Release(ctx context.Context, refs []Ref) ([]Outcome, error)

	// Revoke acts on the grants of a name, see RevokeRequest. It returns
	// lease.ErrNotHeld if no live grant matches.
	Revoke(ctx context.Context, r *RevokeRequest) error

	// SetValue replaces the value of a live grant, see Request.Value; the
	// TTL of ref is not read and the lease is not renewed. It returns
	// lease.ErrNotHeld or lease.ErrBroken if the grant is not live.
	SetValue(ctx context.Context, ref Ref, value []byte) error

	// Watch begins to watch names, see Watcher. ctx bounds the beginning
	// only. The watch ends with the Conn.
	Watch(ctx context.Context, r *WatchRequest) (Watcher, error)

	// List returns up to r.Max names that have grants, waiters or a
	// lock-delay, in byte order of their names.
	List(ctx context.Context, r *ListRequest) ([]Info, error)

	// Close frees the connection. Leases held through it are left to
	// expire; the portable layer released what it wanted released. Calls
	// under way return lease.ErrClosed. Close is idempotent and waits for
	// the driver's goroutines.
	Close() error
}

// Mode says who may hold a name together.
type Mode uint8

const (
	// Exclusive admits one holder, or Request.Permits many.
	Exclusive Mode = iota
	// Shared admits any number of shared holders and no exclusive one.
	Shared
)

// String returns "exclusive" or "shared".
func (m Mode) String() string {
	if m == Shared {
		return "shared"
	}
	return "exclusive"
}

// Request asks for one lease on one name, or on each of several.
type Request struct {
	Name   string   // 1 to MaxName bytes, see ValidateName
	More   []string // further names, which grow from Name on; MaxNames in all; needs Caps.Multi
	Holder string   // 1 to MaxHolder bytes
	ID     string   // 0 to MaxHolder bytes; tells a repeat from a second request
	Ticket *Ticket

	// Within are up to MaxWithin holders whose leases do not end before this
	// request is granted or given up: those of the calls around this one. It
	// matters with Caps.Deadlock only.
	Within []string

	Mode Mode
	// Permits is how many grants the name admits at once: 0 and 1 mean a
	// plain lock, 2 to MaxPermits a semaphore. It must be 0 or 1 with
	// Shared. All grants and waiters of a name at one time agree on whether
	// it is a lock or a semaphore and on the number; one that does not gets
	// lease.ErrConflict.
	Permits int

	TTL       time.Duration // Caps.MinTTL to Caps.MaxTTL
	LockDelay time.Duration // 0 to MaxLockDelay: closed so long after an unclean loss
	Meta      map[string]string
	Value     []byte // shown with the grant, up to MaxValue bytes: a leader's; for one plain exclusive lock; needs Caps.Election

	Queue  bool // take a place in the line when it is not free
	Resume bool // if the holder holds the name, take that grant up: same token, TTL anew
}

// Names returns how many names the request asks for.
func (r *Request) Names() int { return 1 + len(r.More) }

// NameAt returns one of them: Name is the first.
func (r *Request) NameAt(i int) string {
	if i == 0 {
		return r.Name
	}
	return r.More[i-1]
}

// Ticket is a place in the line. A client whose backend restarted comes back
// with it and is put where it was.
type Ticket struct {
	Opaque   string // at most MaxTicket bytes; to be handed back as it is
	Position int    // 1 is the head of the line; 0: not known
}

// Grant is a live lease on each name of its request.
type Grant struct {
	Token   lease.Token
	More    []lease.Token // one for each of Request.More
	TTL     time.Duration // what the backend gave, at most what was asked
	Waited  time.Duration // between the backend's receipt of the request and the moment from which TTL counts
	Resumed bool          // Request.Resume found the holder's own grant
}

// TokenAt returns the token for Request.NameAt(i).
func (g *Grant) TokenAt(i int) lease.Token {
	if i == 0 {
		return g.Token
	}
	return g.More[i-1]
}

// Ref names one grant. TTL is read by Renew only.
type Ref struct {
	Name   string
	Holder string
	Token  lease.Token
	TTL    time.Duration
}

// Outcome is the result for one Ref. TTL is set by a successful Renew.
type Outcome struct {
	Err error
	TTL time.Duration
}

// RevokeRequest asks an operator's act on the grants of Name: on the one with
// Token, or on all if Token is 0.
type RevokeRequest struct {
	Name  string
	Token lease.Token
	// Break grants the name to the next at once: two holders can overlap
	// and only the token protects. Without it the grant cannot be renewed
	// any more and ends at its old deadline, which is safe.
	Break bool
}

// ListRequest bounds a List. After continues behind that name.
type ListRequest struct {
	Prefix string
	Name   string // exactly this name; excludes Prefix and After
	After  string
	Max    int // 1 to MaxList; 0 means DefaultList
}

// Info is the state of one name.
type Info struct {
	Name      string
	Mode      Mode
	Permits   int // 1 for a plain lock
	Grants    []GrantInfo
	Waiters   []WaiterInfo  // the first MaxListWaiters of the line
	Waiting   int           // how long the line is
	ClosedFor time.Duration // what is left of a lock-delay
}

// GrantInfo describes a holder. There are no absolute times: clocks differ.
type GrantInfo struct {
	Holder    string
	Token     lease.Token
	Mode      Mode
	Held      time.Duration // since it was granted, or since the store was opened
	Remaining time.Duration // until it ends unless renewed
	TTL       time.Duration
	Revoked   bool
	Meta      map[string]string
	Value     []byte
}

// WaiterInfo describes a place in the line.
type WaiterInfo struct {
	Holder   string
	Mode     Mode
	Position int // 1 is the head
	Waiting  time.Duration
}
