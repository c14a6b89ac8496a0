package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Bounds of a watch.
const (
	maxChanged = 10_000      // names that are known to have changed; past it, all are looked at
	maxEvents  = 1000        // of one Next
	rescan     = time.Minute // a look at all names, should a watch tell nothing
	farAway    = 365 * 24 * time.Hour
)

// watcher is a driver.Watcher. A watch at etcd tells which names have changed;
// what became of them is looked at when Next is called. It also tells what
// ends by its time, since etcd deletes that as well; only the beginning of a
// lock-delay is not told, and is looked at when it is due. A watch that has
// broken, or has fallen behind a compaction, is begun anew, and all names are
// looked at.
type watcher struct {
	c *conn
	r driver.WatchRequest

	mu      sync.Mutex
	changed map[string]struct{} // names
	all     bool                // look at all names

	poke   chan struct{} // holds one: something has changed
	ctx    context.Context
	cancel context.CancelFunc // by Close

	// Next's own:
	known   map[string]*told
	rescan  time.Time
	begun   bool
	pending []driver.Event
}

// told is what was told of a name, and when it is to be looked at again.
type told struct {
	info driver.Info
	due  time.Time
}

// Watch implements driver.Conn.
func (c *conn) Watch(ctx context.Context, r *driver.WatchRequest) (driver.Watcher, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	w := &watcher{c: c, r: *r, changed: map[string]struct{}{}, poke: make(chan struct{}, 1), known: map[string]*told{}}
	w.ctx, w.cancel = context.WithCancel(c.ctx)
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
		w.noteAll()
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
			w.noteAll() // what was before it
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
	k, ok := w.c.parseKey(b)
	if !ok || k.kind == kindBroken || k.kind == kindWaiter {
		return
	}
	w.mu.Lock()
	if len(w.changed) < maxChanged {
		w.changed[k.name] = struct{}{}
	} else {
		w.all = true
	}
	w.mu.Unlock()
	w.wake()
}

func (w *watcher) noteAll() {
	w.mu.Lock()
	w.all = true
	w.mu.Unlock()
	w.wake()
}

func (w *watcher) wake() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// Close implements driver.Watcher.
func (w *watcher) Close() error {
	w.cancel()
	return nil
}

// Next implements driver.Watcher.
func (w *watcher) Next(ctx context.Context) ([]driver.Event, error) {
	for {
		if w.ctx.Err() != nil {
			return nil, lease.ErrClosed
		}
		if err := w.look(ctx); err != nil {
			return nil, w.failed(ctx, err)
		}
		if n := min(len(w.pending), maxEvents); n > 0 {
			events := w.pending[:n:n]
			w.pending = w.pending[n:]
			return events, nil
		}
		timer := time.NewTimer(time.Until(w.earliest()))
		select {
		case <-w.poke:
		case <-timer.C:
		case <-w.ctx.Done():
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

// failed says what an error of look means for the watch.
func (w *watcher) failed(ctx context.Context, err error) error {
	switch {
	case w.ctx.Err() != nil:
		return lease.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, lease.ErrUnknown): // it asked only
		return fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	default:
		return err
	}
}

// earliest returns when something is to be looked at that etcd does not tell.
func (w *watcher) earliest() time.Time {
	at := w.rescan
	for _, t := range w.known {
		if t.due.Before(at) {
			at = t.due
		}
	}
	return at
}

// look looks at what has changed or may have, and puts what is to be told into
// pending. If it fails nothing is lost.
func (w *watcher) look(ctx context.Context) error {
	if len(w.pending) > 0 {
		return nil
	}
	now := time.Now()
	w.mu.Lock()
	all := w.all || !w.begun || !now.Before(w.rescan)
	changed := w.changed
	w.changed, w.all = map[string]struct{}{}, false
	w.mu.Unlock()
	err := w.tell(ctx, now, all, changed)
	if err != nil {
		w.mu.Lock()
		maps.Copy(w.changed, changed)
		w.all = w.all || all
		w.mu.Unlock()
	}
	return err
}

func (w *watcher) tell(ctx context.Context, now time.Time, all bool, names map[string]struct{}) error {
	look := maps.Clone(names)
	if all {
		found, err := w.find(ctx)
		if err != nil {
			return err
		}
		for _, name := range found {
			look[name] = struct{}{}
		}
	}
	for name, t := range w.known {
		if all || !now.Before(t.due) {
			look[name] = struct{}{}
		}
	}
	var events []driver.Event
	for batch := range slices.Chunk(slices.Sorted(maps.Keys(look)), maxDescribe) {
		states, err := w.c.states(ctx, batch)
		if err != nil {
			if w.begun {
				w.pending = append(w.pending, events...) // the rest is looked at again
			} else {
				clear(w.known)
			}
			return err
		}
		for i, in := range states {
			events = w.compare(events, batch[i], in)
		}
	}
	if all {
		w.rescan = time.Now().Add(rescan)
	}
	if !w.begun {
		w.begun = true
		events = slices.Insert(events, 0, driver.Event{Kind: driver.EventReset})
		events = append(events, driver.Event{Kind: driver.EventSynced})
	}
	w.pending = append(w.pending, events...)
	return nil
}

// find returns the names of the watch that somebody holds or awaits.
func (w *watcher) find(ctx context.Context) ([]string, error) {
	if w.r.Name != "" {
		return []string{w.r.Name}, nil
	}
	return w.c.scan(ctx, w.r.Prefix, "", 0)
}

// compare adds what is to be told of a name, if it is news.
func (w *watcher) compare(events []driver.Event, name string, in *driver.Info) []driver.Event {
	if w.r.Name == "" && !strings.HasPrefix(name, w.r.Prefix) {
		return events
	}
	before := w.known[name]
	if in == nil {
		if before == nil {
			return events
		}
		delete(w.known, name)
		return append(events, driver.Event{Kind: driver.EventGone, Info: driver.Info{Name: name}})
	}
	w.known[name] = &told{info: *in, due: dueOf(in)}
	if before != nil && sameState(&before.info, in) {
		return events
	}
	return append(events, driver.Event{Kind: driver.EventState, Info: *in})
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

// sameState reports whether nothing that a watch tells has changed: times go
// on, and renewals are no news.
func sameState(a, b *driver.Info) bool {
	return a.Mode == b.Mode && a.Permits == b.Permits && a.Waiting == b.Waiting && (a.ClosedFor > 0) == (b.ClosedFor > 0) &&
		slices.EqualFunc(a.Grants, b.Grants, func(a, b driver.GrantInfo) bool {
			return a.Holder == b.Holder && a.Token == b.Token && a.Mode == b.Mode && a.Revoked == b.Revoked &&
				maps.Equal(a.Meta, b.Meta) && bytes.Equal(a.Value, b.Value)
		}) &&
		slices.EqualFunc(a.Waiters, b.Waiters, func(a, b driver.WaiterInfo) bool {
			return a.Holder == b.Holder && a.Mode == b.Mode
		})
}
