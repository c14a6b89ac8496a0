package migrate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

const (
	// maxChanged is how many changed names a watch keeps; past it the watches
	// of the backends keep them.
	maxChanged = 1024
	// maxEvents bounds one Next: each is a look at both backends.
	maxEvents = 64
)

// watcher tells of the names that either backend tells of, by looking at both.
type watcher struct {
	c       *conn
	request driver.WatchRequest
	ctx     context.Context // ends with the watch
	cancel  context.CancelFunc
	wake    chan struct{} // there may be something to tell
	room    chan struct{} // there may be room

	mu      sync.Mutex
	inner   [2]driver.Watcher
	run     int // of which inner watchers what comes counts
	changed map[string]bool
	line    []string // the same, in order
	synced  [2]bool
	told    stage
	err     error // that ended it
}

// stage is what has been told.
type stage uint8

const (
	toldNothing stage = iota
	toldReset
	toldSynced
)

// Watch implements driver.Conn.
func (c *conn) Watch(ctx context.Context, r *driver.WatchRequest) (driver.Watcher, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if !c.caps.Watch {
		return nil, fmt.Errorf("watching locks: %w", lease.ErrUnsupported)
	}
	w := &watcher{c: c, request: *r, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), changed: map[string]bool{}}
	w.ctx, w.cancel = context.WithCancel(c.ctx)
	if err := w.begin(ctx); err != nil {
		w.cancel()
		return nil, err
	}
	return w, nil
}

// begin watches both backends from the beginning.
func (w *watcher) begin(ctx context.Context) error {
	var inner [2]driver.Watcher
	for i, on := range []driver.Conn{w.c.old, w.c.new} {
		one, err := on.Watch(ctx, &w.request)
		if err != nil {
			if i == 1 {
				_ = inner[0].Close()
			}
			return err
		}
		inner[i] = one
	}
	w.mu.Lock()
	w.run++
	run, before := w.run, w.inner
	w.inner, w.synced, w.told = inner, [2]bool{}, toldNothing
	w.changed, w.line = map[string]bool{}, nil
	w.mu.Unlock()
	signal(w.room)
	signal(w.wake)
	for i := range inner {
		if before[i] != nil {
			_ = before[i].Close()
		}
		w.c.start(func() { w.follow(inner[i], i, run) })
	}
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// follow takes what one backend tells.
func (w *watcher) follow(from driver.Watcher, side, run int) {
	for first := true; ; {
		events, err := from.Next(w.ctx)
		if err != nil {
			w.fail(err, run)
			return
		}
		for i := range events {
			e := &events[i]
			if e.Kind == driver.EventReset && !first {
				// What was told of the other backend would have to be told
				// again, too.
				if err := w.begin(w.ctx); err != nil {
					w.fail(err, run)
				}
				return
			}
			first = false
			if !w.take(e, side, run) {
				return
			}
		}
		signal(w.wake)
	}
}

// take notes an event; false if it is not wanted any more.
func (w *watcher) take(e *driver.Event, side, run int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.run == run && len(w.line) >= maxChanged && w.err == nil {
		w.mu.Unlock()
		signal(w.wake)
		select {
		case <-w.room:
		case <-w.ctx.Done():
		}
		w.mu.Lock()
		if w.ctx.Err() != nil {
			return false
		}
	}
	if w.run != run || w.err != nil {
		signal(w.room) // for the other one
		return false
	}
	switch e.Kind {
	case driver.EventReset: // told when this began
	case driver.EventSynced:
		w.synced[side] = true
	case driver.EventState, driver.EventGone:
		if !w.changed[e.Info.Name] {
			w.changed[e.Info.Name] = true
			w.line = append(w.line, e.Info.Name)
		}
	}
	return true
}

// fail ends the watch, or the part of it that counts no more.
func (w *watcher) fail(err error, run int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.run == run && w.err == nil {
		w.err = err
	}
	signal(w.wake)
	signal(w.room)
}

// Next implements driver.Watcher.
func (w *watcher) Next(ctx context.Context) ([]driver.Event, error) {
	for {
		if w.ctx.Err() != nil {
			return nil, lease.ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		w.mu.Lock()
		run, names, kind, err := w.run, w.line[:min(len(w.line), maxEvents)], w.due(), w.err
		w.mu.Unlock()
		switch {
		case err != nil:
			if w.ctx.Err() != nil || errors.Is(err, context.Canceled) {
				err = lease.ErrClosed
			}
			return nil, err
		case kind != "":
			return []driver.Event{{Kind: kind}}, nil
		case len(names) > 0:
			events, err := w.look(ctx, names, run)
			if err != nil || len(events) > 0 {
				return events, err
			}
			continue
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
		case <-w.ctx.Done():
		}
	}
}

// due returns the event that comes before or after the names. It is called
// with mu held.
func (w *watcher) due() driver.EventKind {
	switch {
	case w.err != nil:
	case w.told == toldNothing:
		w.told = toldReset
		return driver.EventReset
	case w.told == toldReset && w.synced[0] && w.synced[1] && len(w.line) == 0:
		w.told = toldSynced
		return driver.EventSynced
	}
	return ""
}

// look reads the states of names, which are changed until they have been read.
func (w *watcher) look(ctx context.Context, names []string, run int) ([]driver.Event, error) {
	w.mu.Lock()
	if w.run != run {
		w.mu.Unlock()
		return nil, nil
	}
	for _, name := range names {
		delete(w.changed, name) // a change from now on is another one
	}
	w.line = w.line[len(names):]
	w.mu.Unlock()
	signal(w.room)
	events := make([]driver.Event, 0, len(names))
	for i, name := range names {
		old, next, err := w.c.look(ctx, name)
		if err != nil {
			w.again(names[i:], run)
			if len(events) > 0 {
				return events, nil
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, fmt.Errorf("%w: look at a name that has changed: %w", lease.ErrUnavailable, err)
		}
		if in := w.c.merge(old, next); in.Name != "" {
			events = append(events, driver.Event{Kind: driver.EventState, Info: in})
		} else {
			events = append(events, driver.Event{Kind: driver.EventGone, Info: driver.Info{Name: name}})
		}
	}
	return events, nil
}

// again puts back what could not be read.
func (w *watcher) again(names []string, run int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.run != run {
		return
	}
	for _, name := range names {
		if !w.changed[name] {
			w.changed[name] = true
			w.line = append(w.line, name)
		}
	}
}

// Close implements driver.Watcher.
func (w *watcher) Close() error {
	w.cancel()
	w.mu.Lock()
	inner := w.inner
	w.mu.Unlock()
	return errors.Join(inner[0].Close(), inner[1].Close())
}
