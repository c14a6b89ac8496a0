package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/lockkeeper/lockkeeper/internal/namewatch"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// maxEvents bounds what one Next tells.
const maxEvents = 1000

// watcher is a driver.Watcher. It watches the root, the shards that have names
// of the watch, and of each of these names the claims and the container's data,
// which is written when a claim's data changes. An event says where to look
// again; a watch is set before it is looked. What ends by its time, a
// lock-delay, is looked at then.
type watcher struct {
	c *conn
	r driver.WatchRequest

	mu      sync.Mutex
	set     map[string]bool // watches, by kind and path
	root    bool            // look at it again
	shards  map[string]bool // likewise
	changed map[string]bool // names, likewise
	running chan error      // a look under way
	pending []driver.Event

	poke   chan struct{} // holds one: something has changed
	gone   chan struct{} // closed by Close
	ending sync.Once

	// The look's own:
	known map[string]*driver.Info
	due   map[string]time.Time
	begun bool
}

// Watch implements driver.Conn.
func (c *conn) Watch(ctx context.Context, r *driver.WatchRequest) (driver.Watcher, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	w := &watcher{
		c: c, r: *r, root: true, set: map[string]bool{}, shards: map[string]bool{}, changed: map[string]bool{},
		poke: make(chan struct{}, 1), gone: make(chan struct{}), known: map[string]*driver.Info{}, due: map[string]time.Time{},
	}
	_, err := do(ctx, c, "watch", false, func() (struct{}, error) { return struct{}{}, c.sync() })
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (w *watcher) matches(name string) bool {
	if w.r.Name != "" {
		return name == w.r.Name
	}
	return strings.HasPrefix(name, w.r.Prefix)
}

func (w *watcher) ended() error {
	select {
	case <-w.gone:
		return lease.ErrClosed
	case <-w.c.closed:
		return lease.ErrClosed
	default:
		return nil
	}
}

// Close implements driver.Watcher.
func (w *watcher) Close() error {
	w.ending.Do(func() { close(w.gone) })
	return nil
}

// Next implements driver.Watcher.
func (w *watcher) Next(ctx context.Context) ([]driver.Event, error) {
	for {
		if err := w.ended(); err != nil {
			return nil, err
		}
		if events := w.take(); len(events) > 0 {
			return events, nil
		}
		at, err := w.look()
		if err != nil {
			return nil, w.failed(err)
		}
		timer := time.NewTimer(time.Until(at))
		select {
		case <-w.poke:
		case <-timer.C:
		case <-w.gone:
		case <-w.c.closed:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

// failed says what an error of a look means for the watch.
func (w *watcher) failed(err error) error {
	if ended := w.ended(); ended != nil {
		return ended
	}
	return classify(err, false)
}

// take returns what is to be told.
func (w *watcher) take() []driver.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.pending), maxEvents)
	events := w.pending[:n:n]
	w.pending = w.pending[n:]
	return events
}

// look begins to look at what has changed, unless that is under way, and
// returns when it is to be called at the latest. It goes on if the Next that
// began it is abandoned; its end pokes, and its error is returned by the next
// call.
func (w *watcher) look() (at time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at = time.Now().Add(time.Hour)
	select {
	case err = <-w.running:
		w.running = nil
		if err != nil {
			return at, err
		}
	default:
		if w.running != nil {
			return at, nil
		}
	}
	for name, due := range w.due {
		if !due.After(time.Now()) {
			w.changed[name] = true
		} else if due.Before(at) {
			at = due
		}
	}
	if !w.root && len(w.shards)+len(w.changed) == 0 && w.begun {
		return at, nil
	}
	done := make(chan error, 1)
	started := w.c.work.Start(func() {
		done <- w.tell()
		w.wake()
	})
	if !started {
		return at, lease.ErrClosed
	}
	w.running = done
	return at, nil
}

func (w *watcher) wake() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// watch sets a watch unless it is set, and notes with its event what to look
// at. It returns what set returns.
func (w *watcher) watch(key string, set func() ([]string, <-chan zk.Event, error), note func()) ([]string, error) {
	w.mu.Lock()
	there := w.set[key]
	w.mu.Unlock()
	if there {
		return nil, nil
	}
	found, events, err := set()
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.set[key] = true
	w.mu.Unlock()
	w.c.work.Start(func() {
		select {
		case <-events:
		case <-w.gone:
			return
		case <-w.c.closed:
			return
		}
		w.mu.Lock()
		delete(w.set, key)
		note()
		w.mu.Unlock()
		w.wake()
	})
	return found, nil
}

// children sets a watch on the children of a node.
func (w *watcher) children(path string, note func()) ([]string, error) {
	return w.watch("children "+path, func() ([]string, <-chan zk.Event, error) {
		children, _, events, err := w.c.client.ChildrenW(path)
		return children, events, err
	}, note)
}

// tell looks at what has changed, and puts what is to be told into pending. If
// it fails nothing is lost.
func (w *watcher) tell() error {
	w.mu.Lock()
	root, sh, names := w.root, w.shards, w.changed
	w.root, w.shards, w.changed = false, map[string]bool{}, map[string]bool{}
	w.mu.Unlock()
	err := w.find(root, sh, names)
	if err == nil {
		err = w.compareAll(names)
	}
	if err == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.root = w.root || root
	maps.Copy(w.shards, sh)
	maps.Copy(w.changed, names)
	return err
}

// find adds shards that have come up, and names of shards that have changed.
func (w *watcher) find(root bool, sh, names map[string]bool) error {
	if root {
		found, err := w.children(w.c.root, func() { w.root = true })
		if err != nil {
			return err
		}
		for _, s := range found {
			if w.r.Name == "" || s == shardOf(w.r.Name) {
				sh[s] = true
			}
		}
	}
	for s := range sh {
		found, err := w.children(w.c.root+"/"+s, func() { w.shards[s] = true })
		if err != nil {
			return err
		}
		for _, child := range found {
			if name, ok := unescape(child); ok && w.matches(name) {
				names[name] = true
			}
		}
	}
	return nil
}

func (w *watcher) compareAll(names map[string]bool) error {
	sorted := slices.Sorted(maps.Keys(names))
	states := make([]*driver.Info, len(sorted))
	var g errgroup.Group
	g.SetLimit(maxParallel)
	for i, name := range sorted {
		g.Go(func() (err error) {
			states[i], err = w.state(name)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var events []driver.Event
	if !w.begun {
		events = append(events, driver.Event{Kind: driver.EventReset})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, name := range sorted {
		events = w.compare(events, name, states[i])
	}
	if !w.begun {
		w.begun = true
		events = append(events, driver.Event{Kind: driver.EventSynced})
	}
	w.pending = append(w.pending, events...)
	return nil
}

// state watches a name and describes it.
func (w *watcher) state(name string) (*driver.Info, error) {
	note := func() { w.changed[name] = true }
	path := w.c.namePath(name)
	if _, err := w.children(path, note); err != nil {
		return nil, err
	}
	_, err := w.watch("data "+path, func() ([]string, <-chan zk.Event, error) {
		_, _, events, err := w.c.client.GetW(path)
		return nil, events, err
	}, note)
	if err != nil {
		return nil, err
	}
	in, err := w.c.info(name)
	if err != nil {
		return nil, fmt.Errorf("describe %q: %w", name, err)
	}
	return in, nil
}

// compare adds what is to be told of a name, if it is news. mu is held.
func (w *watcher) compare(events []driver.Event, name string, in *driver.Info) []driver.Event {
	before := w.known[name]
	delete(w.due, name)
	if in == nil {
		if before == nil {
			return events
		}
		delete(w.known, name)
		return append(events, driver.Event{Kind: driver.EventGone, Info: driver.Info{Name: name}})
	}
	if in.ClosedFor > 0 {
		w.due[name] = time.Now().Add(in.ClosedFor + time.Millisecond)
	}
	w.known[name] = in
	if before != nil && namewatch.Same(before, in) {
		return events
	}
	return append(events, driver.Event{Kind: driver.EventState, Info: *in})
}
