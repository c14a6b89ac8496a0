package etcd

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// How long a waiter waits at most until it looks by itself.
const (
	checkPeriod = 10 * time.Second       // should a watch tell nothing
	raceDelay   = 20 * time.Millisecond  // after having lost every race
	watchDelay  = 300 * time.Millisecond // after a watch that failed
)

// claim is whose a waiter is.
type claim struct{ name, holder, id string }

func claimOf(r *driver.Request) claim { return claim{r.Name, r.Holder, r.ID} }

// blocker is what is in a waiter's way: the key of the one ahead, or of a
// holder, or the range of all holders. When a key of it is deleted the waiter
// looks again. Only those watch it whom it concerns: of a line each its
// predecessor, and the head a holder.
type blocker struct {
	key, end string
	room     int64 // of the range: when fewer keys are there it is passed
	holder   bool  // then it is likely to be the waiter's turn
	revision int64 // at which it was there
}

// waiter is one request in a line.
type waiter struct {
	claim claim
	order int64
	names []string
	block *blocker  // nil: only look again
	check time.Time // when to look without being told

	near    bool // what was in the way was a holder, and is gone
	touched time.Time
	waits   map[int]context.CancelFunc // Waits under way
	next    int
}

// waiters are the requests of a conn that are in a line.
type waiters struct {
	mu  sync.Mutex
	all map[claim]*waiter
}

func newWaiters() *waiters { return &waiters{all: map[claim]*waiter{}} }

// found is what Acquire must know of a waiter.
type found struct {
	order int64
	near  bool
}

// looksFirst reports whether an attempt would likely be in vain.
func (f *found) looksFirst() bool { return !f.near }

// find returns what is known of a claim, nil if it is not in a line.
func (ws *waiters) find(k claim) *found {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.all[k]
	if w == nil {
		return nil
	}
	w.touched = time.Now()
	near := w.near
	w.near = false
	return &found{order: w.order, near: near}
}

// has reports whether a request is in a line.
func (ws *waiters) has(k claim) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.all[k] != nil
}

// placeOf returns the number of the place that a request has, 0 if it is in no
// line.
func (ws *waiters) placeOf(k claim) int64 {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w := ws.all[k]; w != nil {
		return w.order
	}
	return 0
}

// register notes that a request is in a line.
func (ws *waiters) register(a *acquiring) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.all[a.claim]
	if w == nil {
		w = &waiter{claim: a.claim, waits: map[int]context.CancelFunc{}}
		for i := range a.r.Names() {
			w.names = append(w.names, a.r.NameAt(i))
		}
		ws.all[a.claim] = w
	}
	w.order, w.touched = a.order, time.Now()
}

// block notes what a request waits for.
func (ws *waiters) block(k claim, b *blocker, check time.Duration) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w := ws.all[k]; w != nil {
		w.block, w.touched, w.check = b, time.Now(), time.Now().Add(check)
	}
}

// forget ends a waiter.
func (ws *waiters) forget(k claim) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w := ws.all[k]; w != nil {
		delete(ws.all, k)
		w.wakeLocked()
	}
}

// wake has all look again.
func (ws *waiters) wake() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.all {
		w.block = nil
		w.check = time.Now()
		w.wakeLocked()
	}
}

func (w *waiter) wakeLocked() {
	for _, cancel := range w.waits {
		cancel()
	}
}

// len returns how many are in a line.
func (ws *waiters) len() int {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.all)
}

// silent takes out those that nobody has asked for in a while.
func (ws *waiters) silent(after time.Duration) []*waiter {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	var out []*waiter
	for k, w := range ws.all {
		if len(w.waits) == 0 && time.Since(w.touched) > after {
			delete(ws.all, k)
			out = append(out, w)
		}
	}
	return out
}

// begin registers a Wait: it returns what to watch and until when.
func (ws *waiters) begin(k claim, cancel context.CancelFunc) (w *waiter, n int, b *blocker, check time.Time) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w = ws.all[k]; w == nil {
		return nil, 0, nil, time.Time{}
	}
	w.next++
	w.waits[w.next] = cancel
	return w, w.next, w.block, w.check
}

// end is the end of a Wait. near: a holder is gone.
func (ws *waiters) end(w *waiter, n int, near bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(w.waits, n)
	w.touched = time.Now()
	w.near = w.near || near
}

// Wait implements driver.Conn: it returns (nil, nil) when what was in the way
// is gone, or when it is time to look.
func (c *conn) Wait(ctx context.Context, r *driver.Request, _ *driver.Ticket) (*driver.Grant, error) {
	if err := r.Validate(&c.caps); err != nil {
		return nil, err
	}
	if c.isClosed() {
		return nil, c.ready(ctx)
	}
	waits, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	w, n, b, check := c.waiters.begin(claimOf(r), cancel)
	if w == nil {
		return nil, nil //nolint:nilnil // attempt again
	}
	near := c.watchFor(waits, b, check)
	c.waiters.end(w, n, near)
	switch {
	case c.isClosed():
		return nil, c.ready(ctx)
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	default:
		return nil, nil //nolint:nilnil // attempt again
	}
}

// watchFor returns when a key of the blocker is deleted, at the time to look,
// or when ctx ends. It reports whether a holder is gone.
//
// It watches from now on, and looks whether the key is still there if etcd has
// changed since it was seen. To watch from then on would need no look, but etcd
// catches up with the past only ten times a second.
func (c *conn) watchFor(ctx context.Context, b *blocker, check time.Time) bool {
	ctx, cancel := context.WithDeadline(ctx, check)
	defer cancel()
	if b == nil {
		<-ctx.Done()
		return false
	}
	ops := []clientv3.OpOption{clientv3.WithCreatedNotify(), clientv3.WithFilterPut()}
	if b.end != "" {
		ops = append(ops, clientv3.WithRange(b.end))
	}
	for answer := range c.client.Watcher.Watch(clientv3.WithRequireLeader(ctx), b.key, ops...) {
		if answer.Err() != nil {
			break
		}
		if len(answer.Events) > 0 || answer.Created && answer.Header.Revision != b.revision && c.passed(ctx, b) {
			return b.holder
		}
	}
	if ctx.Err() == nil { // the watch has failed: not at once again
		timer := time.NewTimer(watchDelay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return false
}

// passed reports whether a blocker is not in the way any more.
func (c *conn) passed(ctx context.Context, b *blocker) bool {
	get, most := clientv3.OpGet(b.key, clientv3.WithCountOnly()), int64(1)
	if b.end != "" {
		get, most = clientv3.OpGet(b.key, clientv3.WithRange(b.end), clientv3.WithCountOnly()), b.room
	}
	answers, _, err := c.read(ctx, []clientv3.Op{get})
	return err != nil || answers[0].Count < most // should it have failed, the next attempt says why
}
