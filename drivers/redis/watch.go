package redis

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

	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// How a watch sees what no message tells.
const (
	rescanPeriod = 5 * time.Second // a look at all names, should messages be lost
	linePeriod   = time.Second     // a look at a name with a line, where waiters may die
	maxChanged   = 10_000          // names that are known to have changed; past it, all are looked at
	maxEvents    = 1000            // of one Next
)

// watcher is a driver.Watcher. Scripts publish the keys of names whose state
// they change to those who are subscribed at their server. What ends without a
// script, by its time, is looked at then; and all names are now and then.
// Between two calls of Next only the messages are collected.
type watcher struct {
	c *conn
	r driver.WatchRequest

	mu      sync.Mutex
	changed map[string]struct{} // names
	all     bool                // look at all names
	subs    map[*goredis.Client]*goredis.PubSub
	closed  bool

	poke   chan struct{} // holds one: something has changed
	gone   chan struct{} // closed by Close
	ending sync.Once

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
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	w := &watcher{
		c: c, r: *r, changed: map[string]struct{}{}, subs: map[*goredis.Client]*goredis.PubSub{},
		poke: make(chan struct{}, 1), gone: make(chan struct{}), known: map[string]*told{},
	}
	if err := w.subscribe(ctx); err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

// subscribe subscribes at each server that is not subscribed at yet, and
// returns when they have confirmed it.
func (w *watcher) subscribe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.c.timeout)
	defer cancel()
	var err error
	if w.c.cluster != nil {
		err = w.c.cluster.ForEachMaster(ctx, w.subscribeAt)
	} else {
		err = w.subscribeAt(ctx, w.c.single)
	}
	switch {
	case err == nil:
		return nil
	case w.c.isClosed():
		return lease.ErrClosed
	default:
		return fmt.Errorf("%w: subscribe: %w", lease.ErrUnavailable, err)
	}
}

func (w *watcher) subscribeAt(ctx context.Context, client *goredis.Client) error {
	w.mu.Lock()
	if w.closed || w.subs[client] != nil {
		w.mu.Unlock()
		return nil
	}
	// The subscription ends by Close and not with ctx.
	sub := client.Subscribe(w.c.ctx)
	w.subs[client] = sub
	w.mu.Unlock()
	err := sub.Subscribe(ctx, w.c.watch)
	if err == nil {
		_, err = sub.Receive(ctx)
	}
	if err == nil && !w.c.work.Start(func() { w.receive(sub) }) {
		err = lease.ErrClosed
	}
	if err != nil {
		w.mu.Lock()
		delete(w.subs, client)
		w.mu.Unlock()
		_ = sub.Close()
	}
	return err
}

// receive collects what is published. go-redis subscribes again by itself when
// a connection was lost; then all names are looked at.
func (w *watcher) receive(sub *goredis.PubSub) {
	defer sub.Close() //nolint:errcheck // nothing is lost with a subscription
	messages := sub.ChannelWithSubscriptions(goredis.WithChannelSize(1024))
	for {
		select {
		case <-w.gone:
			return
		case <-w.c.closed:
			return
		case m, ok := <-messages:
			if !ok {
				return
			}
			if m, ok := m.(*goredis.Message); ok {
				w.note(m.Payload)
			} else {
				w.noteAll()
			}
		}
	}
}

func (w *watcher) matches(name string) bool {
	if w.r.Name != "" {
		return name == w.r.Name
	}
	return strings.HasPrefix(name, w.r.Prefix)
}

func (w *watcher) note(key string) {
	name, ok := nameOf(w.c.prefix, key)
	if !ok || !w.matches(name) {
		return
	}
	w.mu.Lock()
	if len(w.changed) < maxChanged {
		w.changed[name] = struct{}{}
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
	w.ending.Do(func() {
		close(w.gone)
		w.mu.Lock()
		w.closed = true
		subs := slices.Collect(maps.Values(w.subs))
		w.mu.Unlock()
		for _, sub := range subs {
			_ = sub.Close() // nothing is lost with a subscription
		}
	})
	return nil
}

// Next implements driver.Watcher.
func (w *watcher) Next(ctx context.Context) ([]driver.Event, error) {
	for {
		if err := w.ended(); err != nil {
			return nil, err
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
		case <-w.gone:
		case <-w.c.closed:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
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

// failed says what an error of look means for the watch.
func (w *watcher) failed(ctx context.Context, err error) error {
	switch {
	case w.ended() != nil:
		return lease.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, lease.ErrUnknown): // it asked only
		return fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	default:
		return err
	}
}

// earliest returns when something is to be looked at that no message tells.
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
		if err := w.subscribe(ctx); err != nil { // a Cluster may have another master
			return err
		}
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
		w.rescan = time.Now().Add(rescanPeriod)
	}
	if !w.begun {
		w.begun = true
		events = slices.Insert(events, 0, driver.Event{Kind: driver.EventReset})
		events = append(events, driver.Event{Kind: driver.EventSynced})
	}
	w.pending = append(w.pending, events...)
	return nil
}

// find returns the names of the watch that have a state.
func (w *watcher) find(ctx context.Context) ([]string, error) {
	if w.r.Name != "" {
		return []string{w.r.Name}, nil
	}
	return w.c.scan(ctx, &driver.ListRequest{Prefix: w.r.Prefix})
}

// compare adds what is to be told of a name, if it is news.
func (w *watcher) compare(events []driver.Event, name string, in *driver.Info) []driver.Event {
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

// dueOf returns when the state of a name may change without a message.
func dueOf(in *driver.Info) time.Time {
	after := time.Duration(1<<63 - 1)
	for i := range in.Grants {
		after = min(after, in.Grants[i].Remaining)
	}
	if in.ClosedFor > 0 {
		after = min(after, in.ClosedFor)
	}
	if in.Waiting > 0 {
		after = min(after, linePeriod)
	}
	return time.Now().Add(min(after, rescanPeriod) + time.Millisecond)
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
