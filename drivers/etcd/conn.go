package etcd

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/internal/closegroup"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// conn is a driver.Conn on an etcd.
type conn struct {
	client    *clientv3.Client
	rpc       etcdserverpb.LeaseClient // client's, for streams of several leases
	owned     bool                     // Close closes client
	caps      driver.Caps
	prefix    string
	tokenBase lease.Token // added to every token
	timeout   time.Duration
	clock     lease.Clock

	lanes   *lanes
	leases  *leases
	session *session
	waiters *waiters
	doubts  *doubts

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	once   sync.Once
	work   closegroup.Group
}

var _ driver.Conn = (*conn)(nil)

// newConn makes a conn without I/O. o has no zero values.
func newConn(client *clientv3.Client, o *Options) *conn {
	c := &conn{
		client: client, rpc: clientv3.RetryLeaseClient(client), caps: capabilities(o),
		prefix: o.Prefix, tokenBase: o.TokenBase, timeout: o.Timeout, clock: lease.SystemClock(),
		waiters: newWaiters(), doubts: newDoubts(),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.lanes = &lanes{c: c}
	c.leases = newLeases(c)
	c.session = &session{c: c, ttl: o.Session}
	c.work.Start(c.keepHouse)
	return c
}

// Caps implements driver.Conn.
func (c *conn) Caps() driver.Caps { return c.caps }

func (c *conn) isClosed() bool { return c.ctx.Err() != nil }

// Close implements driver.Conn. Leases that nothing is attached to are given
// back, if that takes no time; what waits is left to its session.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.work.Close()
		c.cancel()
		c.work.Wait()
		c.leases.close()
		if c.owned {
			// What a connection says when it is closed tells nobody anything.
			_ = c.client.Close()
		}
	})
	return nil
}

// bound returns the context of one call: it ends in good time and with Close,
// and a member that knows of no leader refuses the call at once.
func (c *conn) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), c.timeout)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// ready reports what keeps a call from being made at all.
func (c *conn) ready(ctx context.Context) error {
	switch {
	case c.isClosed():
		return lease.ErrClosed
	case ctx.Err() != nil:
		return endedBefore(ctx)
	default:
		return nil
	}
}

// txn is what a step asks of etcd: whether all conditions hold, and what is
// done in either case.
type txn struct {
	demands []clientv3.Cmp
	then    []clientv3.Op
	or      []clientv3.Op
	reads   bool // it changes nothing
}

// errLeaseGone says that a transaction was refused since a lease that it
// attaches keys to has ended. Nothing was done.
var errLeaseGone = errors.New("the lease at etcd has ended")

// commit makes one attempt at a transaction.
func (c *conn) commit(ctx context.Context, t *txn) (*clientv3.TxnResponse, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	bounded, cancel := c.bound(ctx)
	defer cancel()
	answer, err := c.client.KV.Txn(bounded).If(t.demands...).Then(t.then...).Else(t.or...).Commit()
	switch {
	case err == nil:
		return answer, nil
	case isGone(err):
		return nil, errLeaseGone
	default:
		return nil, c.failed(ctx, err, !t.reads)
	}
}

// maxOps is how many operations, or demands, one transaction may have: the
// default of etcd's --max-txn-ops.
const maxOps = 128

// read runs reads, in as many transactions as they need, and returns the
// answers in their order, with the earliest revision that they show.
func (c *conn) read(ctx context.Context, ops []clientv3.Op) ([]*etcdserverpb.RangeResponse, int64, error) {
	var out []*etcdserverpb.RangeResponse
	revision := int64(0)
	for len(ops) > 0 {
		n := min(len(ops), maxOps)
		answer, err := c.commit(ctx, &txn{then: ops[:n], reads: true})
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = answer.Header.Revision
		}
		out = append(out, ranges(answer.Responses)...)
		ops = ops[n:]
	}
	return out, revision, nil
}

// ranges returns the answers to reads at the end of a transaction's.
func ranges(responses []*etcdserverpb.ResponseOp) []*etcdserverpb.RangeResponse {
	var out []*etcdserverpb.RangeResponse
	for _, r := range responses {
		if rr := r.GetResponseRange(); rr != nil {
			out = append(out, rr)
		}
	}
	return out
}
