package record

import (
	"bytes"
	"maps"
	"math"
	"slices"

	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// lockGrantLeast is the fewest bytes that an encoded LockGrant takes.
const lockGrantLeast = 7

// lockVersion2 begins a record of which some grant has a value. One without is
// written as version 1, so that programs from before values can read it.
const lockVersion2 = 2

func (l *Lock) hasValue() bool {
	return slices.ContainsFunc(l.Grants, func(g LockGrant) bool { return len(g.Value) > 0 })
}

// AppendLock appends the encoding of l.
func AppendLock(b []byte, l *Lock) []byte {
	v := byte(version)
	if l.hasValue() {
		v = lockVersion2
	}
	b = append(b, v, byte(l.Mode))
	b = appendUint(b, uint64(l.Permits))
	b = appendInt(b, int64(l.ClosedFor))
	b = appendUint(b, uint64(len(l.Grants)))
	for i := range l.Grants {
		b = appendLockGrant(b, &l.Grants[i])
		if v == lockVersion2 {
			b = append(appendUint(b, uint64(len(l.Grants[i].Value))), l.Grants[i].Value...)
		}
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
	d := &decoder{record: "lock", b: b}
	v := d.byte("version")
	if d.err == nil && v != version && v != lockVersion2 {
		d.failf("version", "%d is not known to this program", v)
	}
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
			if v == lockVersion2 {
				l.Grants[i].Value = bytes.Clone(d.bytes("grants.value"))
			}
			if len(l.Grants[i].Value) == 0 {
				l.Grants[i].Value = nil
			}
		}
	}
	if d.err == nil && v == lockVersion2 && !l.hasValue() {
		d.failf("version", "2 is for grants with values")
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
