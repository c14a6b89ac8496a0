package zookeeper

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// watch is something that is waited for.
type watch struct{ fired chan struct{} }

// hub shares watches of nodes between those who wait for the same one: a
// client cannot take a watch back.
type hub struct {
	c      *conn
	mu     sync.Mutex
	byPath map[string]*watch
}

// node watches a node, until it is changed or removed; nil: it is gone.
func (h *hub) node(path string) (*watch, error) {
	h.mu.Lock()
	w := h.byPath[path]
	h.mu.Unlock()
	if w != nil {
		return w, nil
	}
	_, _, events, err := h.c.client.GetW(path)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil //nolint:nilnil // it is no error
	}
	if err != nil {
		return nil, err
	}
	w = &watch{fired: make(chan struct{})}
	h.mu.Lock()
	if h.byPath == nil {
		h.byPath = map[string]*watch{}
	}
	h.byPath[path] = w
	h.mu.Unlock()
	h.follow(w, path, events)
	return w, nil
}

// follow fires a watch when its event comes. What is lost with the session is
// an event, too.
func (h *hub) follow(w *watch, path string, events <-chan zk.Event) {
	started := h.c.work.Start(func() {
		select {
		case <-events:
		case <-h.c.closed:
		}
		h.mu.Lock()
		if h.byPath[path] == w {
			delete(h.byPath, path)
		}
		h.mu.Unlock()
		close(w.fired)
	})
	if !started {
		close(w.fired)
	}
}

// wait has a claim wait: for the one claim that is in its way, or for the end
// of a lock-delay. A round begins anew if what was in its way is gone.
func (c *conn) wait(p *place, v *view, at int, until time.Time) (attempt, error) {
	granted := v.granted()
	if !until.IsZero() {
		granted = 0
	}
	var w *watch
	if until.IsZero() {
		var err error
		if w, err = c.watchFor(p, v, at, granted); err != nil || w == nil {
			return attempt{}, err
		}
	}
	c.mu.Lock()
	p.watch, p.recheck = w, until
	c.mu.Unlock()
	c.last(p, c.session)
	return attempt{ticket: &driver.Ticket{Opaque: p.id, Position: max(1, at-granted+1)}}, nil
}

// watchFor watches what a claim waits for; nil: it is gone.
//
// An exclusive claim waits for the one before it, a shared one for the last
// before it that is not. The first in line of a semaphore waits for any change
// of the name, since any of the holders may go; those behind it wait for the
// one before them, which is written when it is granted.
func (c *conn) watchFor(p *place, v *view, at, granted int) (*watch, error) {
	parent := c.namePath(p.key.name)
	before := at - 1
	switch {
	case p.kind == kindShared:
		for before > 0 && v.claims[before].kind == kindShared {
			before--
		}
	case p.kind != kindExclusive && at == granted:
		children, _, events, err := c.client.ChildrenW(parent)
		if err != nil {
			return nil, err
		}
		w := &watch{fired: make(chan struct{})}
		c.hub.follow(w, "", events)
		now := parseView(children)
		if !slices.Equal(now.claims, v.claims) {
			return nil, nil //nolint:nilnil // it is no error
		}
		return w, nil
	}
	return c.hub.node(parent + "/" + v.claims[before].node)
}

// Wait implements driver.Conn. It does no I/O: it returns (nil, nil) when what
// the request waits for has happened.
func (c *conn) Wait(ctx context.Context, r *driver.Request, _ *driver.Ticket) (*driver.Grant, error) {
	if err := r.Validate(&c.caps); err != nil {
		return nil, err
	}
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	c.mu.Lock()
	p := c.places[placeKey{r.Name, r.Holder}]
	if p == nil || p.request != r.ID || p.watch == nil && p.recheck.IsZero() {
		c.mu.Unlock()
		return nil, nil //nolint:nilnil // attempt again
	}
	w, at := p.watch, p.recheck
	p.waits++
	c.mu.Unlock()
	defer c.waited(p)
	var fired <-chan struct{}
	if w != nil {
		fired = w.fired
	}
	var due <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-fired:
	case <-due:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.closed:
		return nil, lease.ErrClosed
	}
	return nil, nil //nolint:nilnil // attempt again
}

// waited ends a Wait: the place is kept for a while for the next attempt.
func (c *conn) waited(p *place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.waits--
	if !p.granted && p.path != "" && !p.dead {
		p.until = time.Now().Add(c.session)
		p.timer.Reset(c.session)
	}
}
