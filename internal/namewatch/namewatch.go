// Package namewatch turns hints that names may have changed into what a
// driver.Watcher tells: it looks at the names when Next is called, and compares
// with what it told before. So a hint may come twice, late, or for nothing, and
// a slow reader costs one entry a name.
package namewatch

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

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

const (
	maxChanged = 10_000 // names that are known to have changed; past it, all are looked at
	maxEvents  = 1000   // of one Next
)

// Source is the backend of a watch.
type Source struct {
	// Find returns the names below the prefix that have a state. What it does
	// besides is done before every look at all names.
	Find func(ctx context.Context) ([]string, error)
	// States describes names, nil for one without a state.
	States func(ctx context.Context, names []string) ([]*driver.Info, error)
	// Due says when a state may change without a hint.
	Due func(in *driver.Info) time.Time
	// Rescan is after how long all names are looked at without a hint.
	Rescan time.Duration
	// Batch is how many names States takes at once.
	Batch int
}

// Watch is the part of a driver.Watcher that is the same for backends whose
// hints are names. Hints may come from any goroutine; Next is for one at a time.
type Watch struct {
	r      driver.WatchRequest
	source Source
	ended  <-chan struct{}
	poke   chan struct{} // holds one: something has changed

	mu      sync.Mutex
	changed map[string]struct{} // names
	all     bool                // look at all names

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

// New makes a watch that is over when ended is closed. Its first Next looks at
// all names.
func New(r *driver.WatchRequest, ended <-chan struct{}, s Source) *Watch {
	return &Watch{
		r: *r, source: s, ended: ended, poke: make(chan struct{}, 1),
		changed: map[string]struct{}{}, known: map[string]*told{},
	}
}

// matches reports whether the watch is for the name.
func (w *Watch) matches(name string) bool {
	if w.r.Name != "" {
		return name == w.r.Name
	}
	return strings.HasPrefix(name, w.r.Prefix)
}

// Note is a hint: the name may have changed.
func (w *Watch) Note(name string) {
	if !w.matches(name) {
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

// NoteAll is a hint for all names: some may have been lost.
func (w *Watch) NoteAll() {
	w.mu.Lock()
	w.all = true
	w.mu.Unlock()
	w.wake()
}

func (w *Watch) wake() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

func (w *Watch) isEnded() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// Next is that of driver.Watcher.
func (w *Watch) Next(ctx context.Context) ([]driver.Event, error) {
	for {
		if w.isEnded() {
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
		case <-w.ended:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

// failed says what an error of look means for the watch.
func (w *Watch) failed(ctx context.Context, err error) error {
	switch {
	case w.isEnded():
		return lease.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, lease.ErrUnknown): // it asked only
		return fmt.Errorf("%w: %w", lease.ErrUnavailable, err)
	default:
		return err
	}
}

// earliest returns when something is to be looked at without a hint.
func (w *Watch) earliest() time.Time {
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
func (w *Watch) look(ctx context.Context) error {
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

func (w *Watch) tell(ctx context.Context, now time.Time, all bool, names map[string]struct{}) error {
	look := maps.Clone(names)
	if all {
		found, err := w.source.Find(ctx)
		if err != nil {
			return err
		}
		if w.r.Name != "" {
			found = []string{w.r.Name}
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
	for batch := range slices.Chunk(slices.Sorted(maps.Keys(look)), w.source.Batch) {
		states, err := w.source.States(ctx, batch)
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
		w.rescan = time.Now().Add(w.source.Rescan)
	}
	if !w.begun {
		w.begun = true
		events = slices.Insert(events, 0, driver.Event{Kind: driver.EventReset})
		events = append(events, driver.Event{Kind: driver.EventSynced})
	}
	w.pending = append(w.pending, events...)
	return nil
}

// compare adds what is to be told of a name, if it is news.
func (w *Watch) compare(events []driver.Event, name string, in *driver.Info) []driver.Event {
	before := w.known[name]
	if in == nil {
		if before == nil {
			return events
		}
		delete(w.known, name)
		return append(events, driver.Event{Kind: driver.EventGone, Info: driver.Info{Name: name}})
	}
	w.known[name] = &told{info: *in, due: w.source.Due(in)}
	if before != nil && Same(&before.info, in) {
		return events
	}
	return append(events, driver.Event{Kind: driver.EventState, Info: *in})
}

// Same reports whether nothing that a watch tells differs: times go on, and
// renewals are no news.
func Same(a, b *driver.Info) bool {
	return a.Mode == b.Mode && a.Permits == b.Permits && a.Waiting == b.Waiting && (a.ClosedFor > 0) == (b.ClosedFor > 0) &&
		slices.EqualFunc(a.Grants, b.Grants, func(a, b driver.GrantInfo) bool {
			return a.Holder == b.Holder && a.Token == b.Token && a.Mode == b.Mode && a.Revoked == b.Revoked &&
				maps.Equal(a.Meta, b.Meta) && bytes.Equal(a.Value, b.Value)
		}) &&
		slices.EqualFunc(a.Waiters, b.Waiters, func(a, b driver.WaiterInfo) bool {
			return a.Holder == b.Holder && a.Mode == b.Mode
		})
}
