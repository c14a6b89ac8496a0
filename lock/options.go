package lock

import (
	"log/slog"
	"maps"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// What users and drivers share; package driver says what each promises.
type (
	// Token is a fencing token.
	Token = lease.Token
	// Mode says who may hold a name together.
	Mode = driver.Mode
	// Info is the state of one name.
	Info = driver.Info
	// GrantInfo describes a holder.
	GrantInfo = driver.GrantInfo
	// WaiterInfo describes a place in the line.
	WaiterInfo = driver.WaiterInfo
	// Caps is what a backend has and assumes.
	Caps = driver.Caps
	// DeadlockError says in which circle a request waited.
	DeadlockError = driver.DeadlockError
	// Event is something that Watch tells.
	Event = driver.Event
	// EventKind says what an Event tells.
	EventKind = driver.EventKind
	// Waiting is a wait of such a circle.
	Waiting = driver.Waiting
)

// Who may hold a name together.
const (
	Exclusive = driver.Exclusive // one holder, or Options.Permits many
	Shared    = driver.Shared    // any number of shared holders and no exclusive one
)

// Kinds of events.
const (
	EventReset  = driver.EventReset  // forget what was told: the state of all names follows
	EventState  = driver.EventState  // Info is the state of a name
	EventGone   = driver.EventGone   // Info.Name has neither holder nor waiter any more
	EventSynced = driver.EventSynced // all names have been told since the reset
)

// DefaultTTL is the TTL of a lease whose Options say nothing, or the nearest
// that the backend takes.
const DefaultTTL = 10 * time.Second

// Config of a Locker; nil and zero values work.
type Config struct {
	Logger *slog.Logger // nil: nothing is logged
	Clock  lease.Clock  // nil: the system's, which runs on through a suspend
}

// Options of an acquire; nil and zero values work. They are not kept.
type Options struct {
	// TTL is how long the lease outlives its holder. 0 is DefaultTTL.
	TTL time.Duration
	// LockDelay keeps the name closed for so long after the lease ended
	// other than by Release.
	LockDelay time.Duration
	Mode      Mode
	// Permits is how many may hold the name at once: 0 and 1 are a lock,
	// more a semaphore. All who use the name must agree.
	Permits int
	// Holder identifies the holder; "" makes one for this acquire. It must be
	// unique among all who use the name. Name it to be able to Resume.
	Holder string
	// Resume takes up the grant that Holder has from before a restart, with
	// the same token; Lease.Resumed says whether there was one.
	Resume bool
	// Within are holders (Lease.Holder) whose leases are kept while this
	// acquire waits, besides those that ctx comes from: with them a deadlock
	// is found. Up to 16 are looked at, these first.
	Within []string
	// Meta is shown to whoever lists the lock.
	Meta map[string]string
	// NoRenew: the lease ends after its TTL unless Lease.Renew is called.
	NoRenew bool
}

// RevokeOptions of a Revoke; nil and zero values work.
type RevokeOptions struct {
	// Break grants the name to the next at once. Two holders can overlap, and
	// only the token protects then.
	Break bool
}

// request makes the driver's request of a demand and options. id is for this
// acquire alone.
func (o *Options) request(d demand, id string, caps *Caps, around *holding) (*driver.Request, error) {
	r := &driver.Request{
		Name: d.name, More: d.more, Queue: d.queue, Holder: o.Holder, ID: id,
		Mode: o.Mode, Permits: o.Permits,
		TTL: o.TTL, LockDelay: o.LockDelay,
		Meta: maps.Clone(o.Meta), Value: d.value, Resume: o.Resume,
	}
	if o.Resume && o.Holder == "" {
		return nil, lease.Invalidf("holder", "must be named to resume its grant")
	}
	if r.Holder == "" {
		r.Holder = id
	}
	if r.TTL == 0 {
		r.TTL = min(max(DefaultTTL, caps.MinTTL), caps.MaxTTL)
	}
	if caps.Deadlock {
		r.Within = around.within(o.Within)
	}
	if err := r.Validate(caps); err != nil {
		return nil, err
	}
	lacks := d.campaign && !caps.Election || r.Mode == Shared && !caps.Shared ||
		r.Permits > 1 && !caps.Permits ||
		r.LockDelay > 0 && !caps.LockDelay ||
		len(r.Meta) > 0 && !caps.Meta ||
		r.Resume && !caps.Resume
	if lacks {
		return nil, ErrUnsupported
	}
	return r, nil
}
