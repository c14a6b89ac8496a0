package locktest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Values and watches of the reference driver.

func (c *refConn) SetValue(ctx context.Context, ref driver.Ref, value []byte) error {
	caps := c.Caps()
	if err := driver.ValidateValue(value, &caps); err != nil && c.s.flaw != "limits not checked" {
		return err
	}
	if err := c.enter(ctx); err != nil {
		return err
	}
	defer c.s.mu.Unlock()
	n, g := c.s.held(ref)
	if c.s.flaw == "anybody sets the value" && n != nil && len(n.grants) > 0 {
		g = n.grants[0]
	}
	if g == nil {
		return lease.ErrNotHeld
	}
	g.Value = slices.Clone(value)
	c.s.change()
	return nil
}

func (c *refConn) Watch(ctx context.Context, r *driver.WatchRequest) (driver.Watcher, error) {
	if err := r.Validate(); err != nil && c.s.flaw != "limits not checked" {
		return nil, err
	}
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	c.s.mu.Unlock()
	return &refWatcher{c: c, r: *r, closed: make(chan struct{})}, nil
}

// refWatcher compares the state with what it told last.
type refWatcher struct {
	c         *refConn
	r         driver.WatchRequest
	told      map[string]string // nil: nothing yet
	abandoned bool
	closed    chan struct{}
	once      sync.Once
}

func (w *refWatcher) Next(ctx context.Context) ([]driver.Event, error) {
	timer := w.c.s.clock.NewTimer()
	defer timer.Stop()
	for {
		if err := w.c.enter(ctx); err != nil {
			return nil, err
		}
		now := w.c.s.clock.Now()
		events := w.compare(now)
		if w.abandoned && w.c.s.flaw == "abandoned calls lose events" {
			events = nil
		}
		w.abandoned = false
		changed := w.c.s.changed
		timer.Reset(w.c.s.tidy(now))
		w.c.s.mu.Unlock()
		if len(events) > 0 {
			return events, nil
		}
		select {
		case <-changed:
		case <-timer.C():
		case <-ctx.Done():
			w.abandoned = true
			return nil, ctx.Err()
		case <-w.closed:
			return nil, lease.ErrClosed
		case <-w.c.closed:
			return nil, lease.ErrClosed
		}
	}
}

// compare returns what has changed.
func (w *refWatcher) compare(now lease.Instant) []driver.Event {
	first := w.told == nil
	is := map[string]string{}
	var events []driver.Event
	if first {
		w.told = map[string]string{}
		events = append(events, driver.Event{Kind: driver.EventReset})
	}
	for _, name := range slices.Sorted(maps.Keys(w.c.s.names)) {
		n := w.c.s.names[name]
		if w.r.Name != "" && name != w.r.Name || !strings.HasPrefix(name, w.r.Prefix) {
			continue
		}
		text := fmt.Sprint(n.closedUntil > now)
		for _, g := range n.grants {
			text += fmt.Sprint(g.token, g.revoked, g.Value)
		}
		for _, o := range n.line {
			text += o.Holder
		}
		is[name] = text
		if w.told[name] != text && !(first && w.c.s.flaw == "watch without a first state") {
			events = append(events, driver.Event{Kind: driver.EventState, Info: n.describe(name, now)})
		}
		if len(events) > 100 && w.c.s.flaw == "watch drops what is too much" {
			events = events[:100]
		}
	}
	for name := range w.told {
		if _, ok := is[name]; !ok && w.c.s.flaw != "watch without ends" {
			events = append(events, driver.Event{Kind: driver.EventGone, Info: driver.Info{Name: name}})
		}
	}
	if first {
		events = append(events, driver.Event{Kind: driver.EventSynced})
	}
	w.told = is
	return events
}

func (w *refWatcher) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}
