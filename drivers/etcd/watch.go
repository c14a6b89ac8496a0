package etcd

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/internal/namewatch"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Bounds of a watch.
const (
	rescan  = time.Minute // a look at all names, should a watch tell nothing
	farAway = 365 * 24 * time.Hour
)

// watcher is a driver.Watcher. A watch at etcd tells which names have changed;
// what became of them is looked at when Next is called. It also tells what
// ends by its time, since etcd deletes that as well; only the beginning of a
// lock-delay is not told, and is looked at when it is due. A watch that has
// broken, or has fallen behind a compaction, is begun anew, and all names are
// looked at.
type watcher struct {
	*namewatch.Watch
	c      *conn
	r      driver.WatchRequest
	ctx    context.Context
	cancel context.CancelFunc // by Close
}

// Watch implements driver.Conn.
func (c *conn) Watch(ctx context.Context, r *driver.WatchRequest) (driver.Watcher, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	w := &watcher{c: c, r: *r}
	w.ctx, w.cancel = context.WithCancel(c.ctx)
	w.Watch = namewatch.New(r, w.ctx.Done(), namewatch.Source{
		Find: func(ctx context.Context) ([]string, error) {
			if w.r.Name != "" {
				return nil, nil
			}
			return c.scan(ctx, w.r.Prefix, "", 0)
		},
		States: c.states, Due: dueOf, Rescan: rescan, Batch: maxDescribe,
	})
	begun := make(chan error, 1)
	if !c.work.Start(func() { w.run(begun) }) {
		w.cancel()
		return nil, lease.ErrClosed
	}
	bounded, cancel := c.bound(ctx)
	defer cancel()
	var err error
	select {
	case err = <-begun:
	case <-bounded.Done():
		err = context.Cause(bounded)
	}
	if err != nil {
		w.cancel()
		return nil, c.failed(ctx, err, false)
	}
	return w, nil
}

// run keeps a watch at etcd until Close. It tells begun how the first one went.
func (w *watcher) run(begun chan<- error) {
	for {
		err := w.follow(begun)
		if w.ctx.Err() != nil {
			return
		}
		select {
		case begun <- err: // nobody takes it if it had begun
		default:
		}
		w.NoteAll()
		timer := time.NewTimer(watchDelay)
		select {
		case <-timer.C:
		case <-w.ctx.Done():
		}
		timer.Stop()
	}
}

// follow watches from now on until that fails.
func (w *watcher) follow(begun chan<- error) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(w.ctx))
	defer cancel()
	from, end := w.c.prefix+w.r.Prefix, clientv3.GetPrefixRangeEnd(w.c.prefix+w.r.Prefix)
	if w.r.Name != "" {
		from, end = w.c.base(w.r.Name), w.c.prefix+w.r.Name+pastKeys
	}
	for answer := range w.c.client.Watcher.Watch(ctx, from, clientv3.WithRange(end), clientv3.WithCreatedNotify()) {
		if err := answer.Err(); err != nil {
			return err
		}
		if answer.Created {
			w.NoteAll() // what was before it
			select {
			case begun <- nil:
			default:
			}
		}
		for _, e := range answer.Events {
			w.note(e.Kv.Key)
		}
	}
	return errors.New("the watch has ended")
}

func (w *watcher) note(b []byte) {
	if k, ok := w.c.parseKey(b); ok && k.kind != kindBroken && k.kind != kindWaiter {
		w.Note(k.name)
	}
}

// Close implements driver.Watcher.
func (w *watcher) Close() error {
	w.cancel()
	return nil
}

// dueOf returns when the state of a name may change without being told. Whether
// a grant has a lock-delay is not known here; one that runs out late enough is
// as well looked at then.
func dueOf(in *driver.Info) time.Time {
	after := farAway
	for i := range in.Grants {
		after = min(after, in.Grants[i].Remaining+aSecond)
	}
	return time.Now().Add(after)
}
