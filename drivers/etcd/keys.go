package etcd

import (
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// separator ends a name within a key. No name has it, and it sorts before all
// that a name can have: so the keys of a name are side by side, and names are
// in byte order.
const separator = "\x00"

// What follows the separator. The keys of those who hold a name come right
// before those of its line, so that one range has all that keeps an exclusive
// lock from a waiter: every holder, and those who are ahead.
const (
	kindBroken    = "b"  // and the token of a broken grant
	kindGrant     = "h"  // all holders: from here
	kindShared    = "hs" // and a holder
	kindExclusive = "hx" // and no more: there is one
	kindPermit    = "hz" // and a holder of a semaphore
	kindPastGrant = "i"
	kindPlace     = "q" // and the number of the place, and the waiter: the line
	kindPastPlace = "r"
	kindWaiter    = "w" // and a waiter: which place it has
)

// orderDigits is the length of a place's number in a key, in hexadecimal.
const orderDigits = 16

// base begins all keys of a name.
func (c *conn) base(name string) string { return c.prefix + name + separator }

// grantKinds are those of grants.
var grantKinds = []string{kindExclusive, kindShared, kindPermit}

// kindOf is the kind of a request's grant.
func kindOf(r *driver.Request) string {
	switch {
	case r.Mode == driver.Shared:
		return kindShared
	case r.Permits > 1:
		return kindPermit
	default:
		return kindExclusive
	}
}

// grantKey is the key of a grant. That of an exclusive one is the same for all
// holders: until it compacts, etcd walks over every key that a name ever had.
func grantKey(base, kind, holder string) string {
	if kind == kindExclusive {
		return base + kind
	}
	return base + kind + holder
}

// grantGets reads the keys that the grant of a holder can have.
func grantGets(base, holder string) []clientv3.Op {
	var gets []clientv3.Op
	for _, kind := range grantKinds {
		gets = append(gets, clientv3.OpGet(grantKey(base, kind, holder)))
	}
	return gets
}

// ownGrant returns the holder's grant among the answers to grantGets, and its
// kind.
func ownGrant(answers []*etcdserverpb.RangeResponse, holder string) (*mvccpb.KeyValue, string) {
	for i, kind := range grantKinds {
		if kv := first(answers[i]); kv != nil && isOf(kv.Value, holder) {
			return kv, kind
		}
	}
	return nil, ""
}

// blocking returns where the keys begin that keep a request of a mode from the
// name: a shared one does not mind others of its kind.
func blocking(base string, m driver.Mode) string {
	if m == driver.Shared {
		return base + kindExclusive
	}
	return base + kindGrant
}

func waiterKey(base, holder string) string { return base + kindWaiter + holder }

func brokenKey(base string, token int64) string {
	return fmt.Sprintf("%s%s%016x", base, kindBroken, token)
}

// placeKey is the key of a place in the line. Those with the same number came
// at once, and any order will do.
func placeKey(base string, order int64, holder string) string {
	return fmt.Sprintf("%s%s%0*x%s", base, kindPlace, orderDigits, order, holder)
}

// key is a key taken apart.
type key struct{ name, kind, rest string }

// parseKey takes a key apart. rest is the holder of a place.
func (c *conn) parseKey(b []byte) (key, bool) {
	s, ok := strings.CutPrefix(string(b), c.prefix)
	name, rest, ok2 := strings.Cut(s, separator)
	if !ok || !ok2 || rest == "" || name == "" {
		return key{}, false
	}
	switch {
	case strings.HasPrefix(rest, kindGrant) && len(rest) > 1:
		return key{name, rest[:2], rest[2:]}, true
	case strings.HasPrefix(rest, kindPlace) && len(rest) > 1+orderDigits:
		return key{name, kindPlace, rest[1+orderDigits:]}, true
	default:
		return key{name, rest[:1], rest[1:]}, true
	}
}

// none demands that a range has no key.
func none(from, end string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(from), "=", 0).WithRange(end)
}

// noneAfter demands that no key of a range was created after a revision.
func noneAfter(from, end string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(from), "<", revision+1).WithRange(end)
}

func absent(key string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
}

func present(key string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(key), ">", 0)
}

// created demands that a key is the one that was created at a revision.
func created(key string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(key), "=", revision)
}

// isHeldBy demands that the value of a grant's key is that of a holder, without a
// lock-delay.
func isHeldBy(key, holder string) []clientv3.Cmp {
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.Value(key), ">", holder+separator),
		clientv3.Compare(clientv3.Value(key), "<", holder+separator+plainMark),
	}
}

// unchanged demands that a key is as it was at a revision.
func unchanged(key string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", revision)
}

// strip returns a token as etcd knows it: the revision that created the grant.
// No grant has one that is not above the base.
func (c *conn) strip(t lease.Token) (int64, bool) {
	if t <= c.tokenBase || t-c.tokenBase > maxRevision {
		return 0, false
	}
	return int64(t - c.tokenBase), true
}

// maxRevision is the largest revision of a store.
const maxRevision = 1<<63 - 1

// dress is the inverse of strip.
func (c *conn) dress(revision int64) lease.Token {
	return c.tokenBase + lease.Token(revision)
}
