package machine

import (
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper/engine/internal/record"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// lockName is the state of one name. It exists while there is a grant, a
// waiter, a lock-delay, or the time after an open in which a ticket may return.
type lockName struct {
	name    string
	mode    lockdriver.Mode // of the grants
	permits int
	grants  []*lockGrant          // in order of their tokens
	holders map[string]*lockGrant // the same, once there are more than fewGrants
	line    lockLine

	// passed is the largest number in the line that has been granted, or the
	// last one issued before the name came into use: a ticket up to it has
	// had its turn and counts for nothing.
	passed uint64

	closedUntil  lease.Instant // lock-delay
	closedFor    time.Duration // as it was when it began; 0: none
	ticketsUntil lease.Instant // after an open: let returning tickets go first
	gate         lockTimer     // the later of the two

	recorded bool // the store has a record of it
	dirty    bool // the record is not what it should be
	changed  bool // since the last Write, for those who watch
}

// lockGrant is a live lease.
type lockGrant struct {
	record.LockGrant // TTL is the longest one given: what a restart gives anew
	ttl              time.Duration
	resumed          bool
	since            lease.Instant
	deadline         lease.Instant // live up to and including it
	timer            lockTimer     // never after the deadline, often before: renewals do not move it
}

// inUse reports whether anything is left to remember.
func (n *lockName) inUse() bool {
	return len(n.grants) > 0 || n.line.len() > 0 || n.closedFor != 0 || n.ticketsUntil != 0
}

// open reports whether neither a lock-delay nor a ticket that may return
// keeps the name from being granted.
func (n *lockName) open() bool { return n.closedFor == 0 && n.ticketsUntil == 0 }

// fits reports whether one more grant can be live beside those there are.
func (n *lockName) fits(mode lockdriver.Mode) bool {
	switch {
	case len(n.grants) == 0:
		return true
	case n.permits > 1:
		return len(n.grants) < n.permits
	default:
		return mode == lockdriver.Shared && n.mode == lockdriver.Shared && len(n.grants) < MaxSharedGrants
	}
}

// accepts reports whether a request for so many permits agrees with the
// grants and waiters.
func (n *lockName) accepts(permits int) bool {
	return n.permits == permits || len(n.grants) == 0 && n.line.len() == 0
}

// fewGrants is how many are looked through one by one for a holder's.
const fewGrants = 4

// grantOf returns the holder's grant, or nil.
func (n *lockName) grantOf(holder string) *lockGrant {
	if n.holders != nil {
		return n.holders[holder]
	}
	for _, g := range n.grants {
		if g.Holder == holder {
			return g
		}
	}
	return nil
}

// addGrant adds one with a larger token than those there are.
func (n *lockName) addGrant(g *lockGrant) {
	assert(len(n.grants) == 0 || n.grants[len(n.grants)-1].Token < g.Token, "tokens grow")
	n.grants = append(n.grants, g)
	switch {
	case n.holders != nil:
		n.holders[g.Holder] = g
	case len(n.grants) > fewGrants:
		n.holders = make(map[string]*lockGrant)
		for _, g := range n.grants {
			n.holders[g.Holder] = g
		}
	}
}

// dropGrant removes one of them.
func (n *lockName) dropGrant(g *lockGrant) {
	i := n.grantIndex(g.Token)
	assert(i < len(n.grants) && n.grants[i] == g, "a grant that ends was live")
	n.grants = slices.Delete(n.grants, i, i+1)
	if n.holders != nil {
		delete(n.holders, g.Holder)
	}
}

// grantWith returns the grant with the token, or nil.
func (n *lockName) grantWith(t lease.Token) *lockGrant {
	i := n.grantIndex(t)
	if i == len(n.grants) || n.grants[i].Token != t {
		return nil
	}
	return n.grants[i]
}

func (n *lockName) grantIndex(t lease.Token) int {
	i, _ := slices.BinarySearchFunc(n.grants, t, func(g *lockGrant, t lease.Token) int {
		switch {
		case g.Token < t:
			return -1
		case g.Token > t:
			return 1
		}
		return 0
	})
	return i
}

// record fills in the durable part.
func (n *lockName) record(r *record.Lock) {
	r.Mode, r.Permits, r.ClosedFor = n.mode, n.permits, n.closedFor
	r.Grants = r.Grants[:0]
	for _, g := range n.grants {
		r.Grants = append(r.Grants, g.LockGrant)
	}
}

// recordSize estimates the bytes of the record.
func (n *lockName) recordSize() int {
	size := len(n.name) + 16
	for _, g := range n.grants {
		size += len(g.Holder) + len(g.RequestID) + len(g.Value) + 32
		for k, v := range g.Meta {
			size += len(k) + len(v) + 4
		}
	}
	return size
}
