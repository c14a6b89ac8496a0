package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/lease"
)

// How transactions are put together.
const (
	maxLanes = 2          // under way at once: more make smaller ones
	maxParts = maxOps / 2 // small transactions in one
)

// call is a small transaction on one name, on its way.
type call struct {
	name  string
	t     *txn
	taken bool // a lane has it
	left  bool // nobody waits for it any more

	done   chan struct{} // closed when the result is there
	answer *clientv3.TxnResponse
	err    error
}

// lanes put small transactions of different names that are made at once into
// one: what comes while all lanes are busy is the next one. A write costs etcd
// about the same, however much is in it. Those of one name are never in one
// transaction, for etcd compares before it writes anything. A caller that finds
// a lane free goes alone, without another goroutine. One whose ctx ends goes away
// at once.
type lanes struct {
	c *conn

	mu   sync.Mutex
	busy int
	line []*call
}

// run runs a transaction on one name.
func (l *lanes) run(ctx context.Context, name string, t *txn) (*clientv3.TxnResponse, error) {
	if err := l.c.ready(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	if l.busy < maxLanes {
		l.busy++
		l.mu.Unlock()
		defer l.pass()
		return l.c.commit(ctx, t)
	}
	k := &call{name: name, t: t, done: make(chan struct{})}
	l.line = append(l.line, k)
	l.mu.Unlock()
	select {
	case <-k.done:
		return k.answer, k.err
	case <-ctx.Done():
		if l.leave(k) {
			return nil, endedBefore(ctx)
		}
		return nil, fmt.Errorf("%w: %w", lease.ErrUnknown, context.Cause(ctx))
	case <-l.c.ctx.Done():
		return nil, fmt.Errorf("%w: %w", lease.ErrClosed, lease.ErrUnknown)
	}
}

// pass has a goroutine go on in the lane of a caller that has its answer, if
// there are calls.
func (l *lanes) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) == 0 || !l.c.work.Start(l.lane) { // closed: nobody waits any more
		l.busy--
	}
}

// leave gives a call up, and reports whether it was before it was sent.
func (l *lanes) leave(k *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.left = true
	return !k.taken
}

// lane runs transactions as long as there are calls.
func (l *lanes) lane() {
	for {
		batch := l.next()
		if len(batch) == 0 {
			return
		}
		l.send(batch)
		for _, k := range batch {
			close(k.done)
		}
	}
}

// next takes the calls of a transaction out of the line; none: the lane ends.
func (l *lanes) next() []*call {
	l.mu.Lock()
	defer l.mu.Unlock()
	var batch, rest []*call
	names := map[string]bool{}
	for _, k := range l.line {
		switch {
		case k.left:
		case names[k.name] || len(batch) == maxParts:
			rest = append(rest, k)
		default:
			names[k.name], k.taken = true, true
			batch = append(batch, k)
		}
	}
	l.line = rest
	if len(batch) == 0 {
		l.busy--
	}
	return batch
}

// send makes one attempt at a batch.
func (l *lanes) send(batch []*call) {
	if len(batch) == 1 {
		batch[0].answer, batch[0].err = l.c.commit(l.c.ctx, batch[0].t)
		return
	}
	all := &txn{}
	for _, k := range batch {
		all.then = append(all.then, clientv3.OpTxn(k.t.demands, k.t.then, k.t.or))
	}
	answer, err := l.c.commit(l.c.ctx, all)
	for i, k := range batch {
		switch {
		case errors.Is(err, errLeaseGone), errors.Is(err, lease.ErrLimit): // one of them: nothing was done
			k.answer, k.err = l.c.commit(l.c.ctx, k.t)
		case err != nil:
			k.err = err
		default:
			part := answer.Responses[i].GetResponseTxn()
			k.answer = (*clientv3.TxnResponse)(&etcdserverpb.TxnResponse{
				Header: answer.Header, Succeeded: part.Succeeded, Responses: part.Responses,
			})
		}
	}
}
