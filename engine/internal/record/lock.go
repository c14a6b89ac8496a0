package record

import (
	"maps"
	"math"
	"slices"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// lockGrantLeast is the fewest bytes that an encoded LockGrant takes.
const lockGrantLeast = 7

// AppendLock appends the encoding of l.
func AppendLock(b []byte, l *Lock) []byte {
	b = append(b, version, byte(l.Mode))
	b = appendUint(b, uint64(l.Permits))
	b = appendInt(b, int64(l.ClosedFor))
	b = appendUint(b, uint64(len(l.Grants)))
	for i := range l.Grants {
		b = appendLockGrant(b, &l.Grants[i])
	}
	return b
}

func appendLockGrant(b []byte, g *LockGrant) []byte {
	b = appendString(b, g.Holder)
	b = appendString(b, g.RequestID)
	b = appendUint(b, uint64(g.Token))
	b = appendInt(b, int64(g.TTL))
	b = appendInt(b, int64(g.LockDelay))
	b = appendBool(b, g.Revoked)
	b = appendUint(b, uint64(len(g.Meta)))
	for _, k := range slices.Sorted(maps.Keys(g.Meta)) {
		b = appendString(appendString(b, k), g.Meta[k])
	}
	return b
}

// DecodeLock is the inverse of AppendLock.
func DecodeLock(b []byte) (*Lock, error) {
	d := decode("lock", b)
	l := &Lock{Mode: lockdriver.Mode(d.byte("mode"))}
	if l.Mode > lockdriver.Shared {
		d.failf("mode", "%d is not known", l.Mode)
	}
	l.Permits = int(d.uintTo("permits", math.MaxInt32))
	l.ClosedFor = d.duration("closed_for")
	if n := d.count("grants", lockGrantLeast); n > 0 {
		l.Grants = make([]LockGrant, n)
		for i := range l.Grants {
			d.lockGrant(&l.Grants[i])
		}
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return l, nil
}

func (d *decoder) lockGrant(g *LockGrant) {
	g.Holder = d.string("grants.holder")
	g.RequestID = d.string("grants.request_id")
	g.Token = lease.Token(d.uint("grants.token"))
	g.TTL = d.duration("grants.ttl")
	g.LockDelay = d.duration("grants.lock_delay")
	g.Revoked = d.bool("grants.revoked")
	n := d.count("grants.meta", 2)
	if n == 0 {
		return
	}
	g.Meta = make(map[string]string, n)
	last := ""
	for i := range n {
		k, v := d.string("grants.meta key"), d.string("grants.meta value")
		if i > 0 && k <= last {
			d.failf("grants.meta", "is not in order")
			return
		}
		g.Meta[k], last = v, k
	}
}
