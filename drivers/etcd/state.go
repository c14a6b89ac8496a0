package etcd

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// nameState is what a request must know of one name.
type nameState struct {
	own    *mvccpb.KeyValue // the holder's own grant
	mode   driver.Mode      // of own
	waiter *mvccpb.KeyValue // the holder's own place

	holders int64            // that are in the way
	holder  *mvccpb.KeyValue // the first of them
	waiting int64            // those who are ahead; without a place all who wait
	ahead   *mvccpb.KeyValue // the one right ahead; without a place the head
}

// snapshot is the state of all names of a request.
type snapshot struct {
	revision int64
	names    []nameState
}

// readsPerName is how many reads tell the state of a name.
const readsPerName = 6

// look returns the reads for the state of all names. order is the request's
// place, 0 for none.
func (a *acquiring) look(order int64) []clientv3.Op {
	ops := make([]clientv3.Op, 0, readsPerName*len(a.bases))
	for _, base := range a.bases {
		ops = append(ops, grantGets(base, a.r.Holder)...)
		ops = append(
			ops,
			clientv3.OpGet(waiterKey(base, a.r.Holder)),
			clientv3.OpGet(blocking(base, a.r.Mode), clientv3.WithRange(base+kindPastGrant), clientv3.WithLimit(1)),
		)
		if order == 0 {
			ops = append(ops, clientv3.OpGet(base+kindPlace, clientv3.WithRange(base+kindPastPlace), clientv3.WithLimit(1)))
		} else {
			ops = append(ops, clientv3.OpGet(base+kindPlace, clientv3.WithRange(placeKey(base, order, a.r.Holder)),
				clientv3.WithLimit(1), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)))
		}
	}
	return ops
}

// see makes a snapshot of the answers to look.
func (a *acquiring) see(answers []*etcdserverpb.RangeResponse, revision int64) *snapshot {
	s := &snapshot{revision: revision, names: make([]nameState, len(answers)/readsPerName)}
	for i := range s.names {
		n, of := &s.names[i], answers[i*readsPerName:]
		var kind string
		if n.own, kind = ownGrant(of, a.r.Holder); kind == kindShared {
			n.mode = driver.Shared
		}
		n.waiter = first(of[3])
		n.holder, n.holders = first(of[4]), of[4].Count
		n.ahead, n.waiting = first(of[5]), of[5].Count
	}
	return s
}

func first(r *etcdserverpb.RangeResponse) *mvccpb.KeyValue {
	if len(r.Kvs) == 0 {
		return nil
	}
	return r.Kvs[0]
}

// seeAfter makes a snapshot of a transaction that looked, or looks now if that
// was too much for one transaction.
func (a *acquiring) seeAfter(ctx context.Context, answer *clientv3.TxnResponse, order int64) (*snapshot, error) {
	if a.looksAtOnce() {
		return a.see(ranges(answer.Responses), answer.Header.Revision), nil
	}
	return a.seeNow(ctx, order)
}

// seeNow looks without doing anything.
func (a *acquiring) seeNow(ctx context.Context, order int64) (*snapshot, error) {
	answers, revision, err := a.c.read(ctx, a.look(order))
	if err != nil {
		return nil, err
	}
	return a.see(answers, revision), nil
}

// looksAtOnce reports whether a transaction has room for the look besides what
// it does.
func (a *acquiring) looksAtOnce() bool { return (readsPerName+2)*len(a.bases) <= maxOps }

// lookIfRoom is look where there is room for it.
func (a *acquiring) lookIfRoom(order int64) []clientv3.Op {
	if !a.looksAtOnce() {
		return nil
	}
	return a.look(order)
}

// glances reports whether a first attempt looks at what is in its way only:
// what every attempt carries along and few need is to be little.
func (a *acquiring) glances() bool {
	return len(a.bases) == 1 && a.r.Mode == driver.Exclusive && a.permits() == 1
}

// glance returns the reads for that.
func (a *acquiring) glance() []clientv3.Op {
	base := a.bases[0]
	return []clientv3.Op{
		clientv3.OpGet(waiterKey(base, a.r.Holder)),
		clientv3.OpGet(base+kindGrant, clientv3.WithRange(base+kindPastPlace), clientv3.WithLimit(1)),
	}
}

// glanced makes a snapshot of the answers to glance. It is nil where they do
// not tell all: beside other grants than an exclusive one of somebody else.
func (a *acquiring) glanced(answer *clientv3.TxnResponse) *snapshot {
	answers := ranges(answer.Responses)
	n := nameState{waiter: first(answers[0]), waiting: answers[1].Count}
	if kv := first(answers[1]); kv != nil {
		switch k, ok := a.c.parseKey(kv.Key); {
		case ok && k.kind == kindPlace:
			n.ahead = kv
		case ok && k.kind == kindExclusive && !isOf(kv.Value, a.r.Holder):
			n.holder, n.holders, n.waiting = kv, 1, n.waiting-1
		default:
			return nil
		}
	}
	return &snapshot{revision: answer.Header.Revision, names: []nameState{n}}
}

// owned counts the names that the holder holds.
func (s *snapshot) owned() (n int) {
	for i := range s.names {
		if s.names[i].own != nil {
			n++
		}
	}
	return n
}

// waits reports whether the holder has a place in one of the lines.
func (s *snapshot) waits() bool {
	for i := range s.names {
		if s.names[i].waiter != nil {
			return true
		}
	}
	return false
}

// fits reports whether a name has room for the request, whoever waits.
func (a *acquiring) fits(n *nameState) bool { return n.holders < int64(a.permits()) }

// open reports whether it is the request's turn on all names.
func (a *acquiring) open(s *snapshot) bool {
	for i := range s.names {
		if s.names[i].waiting > 0 || !a.fits(&s.names[i]) {
			return false
		}
	}
	return true
}

// conflict compares the number of permits with that of who holds or awaits the
// names. It is what the request finds when it comes; should two kinds get in
// line at the same moment, they are served in turn, and never at once.
func (a *acquiring) conflict(s *snapshot) error {
	for i := range s.names {
		n := &s.names[i]
		found := 0
		if n.holder != nil {
			g, err := decodeGrant(n.holder.Value)
			if err != nil {
				return err
			}
			found = g.permits()
		} else if n.ahead != nil {
			w, err := decodeWaiter(n.ahead.Value)
			if err != nil {
				return err
			}
			found = w.permits()
		}
		if found != 0 && found != a.permits() {
			return a.differs(found)
		}
	}
	return nil
}

func (a *acquiring) differs(found int) error {
	return fmt.Errorf("the name is in use with %d permits, not with %d: %w", found, a.permits(), lease.ErrConflict)
}
