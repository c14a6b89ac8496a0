package redis

import (
	"context"
	"errors"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// Wait implements driver.Conn. It returns (nil, nil) when the request is called,
// or when it is time to look and to show a sign of life; and the grant when a
// release of this client brought it.
func (c *conn) Wait(ctx context.Context, r *driver.Request, _ *driver.Ticket) (*driver.Grant, error) {
	if err := r.Validate(&c.caps); err != nil {
		return nil, err
	}
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	w := c.wakes.find(claimOf(r))
	if w == nil {
		return nil, nil //nolint:nilnil // attempt again
	}
	a := c.ahead(r, w)
	timer := time.NewTimer(c.wakes.begin(w, a))
	defer timer.Stop()
	defer c.wakes.end(w, a)
	called := w.called
	for {
		select {
		case <-called:
			if !c.wakes.isSent(a) {
				return nil, nil //nolint:nilnil // attempt again
			}
			called = nil // the answer is on its way
		case <-timer.C:
			return nil, nil //nolint:nilnil // attempt again
		case <-a.done():
			return c.brought(r, w, a), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-c.closed:
			return nil, lease.ErrClosed
		}
	}
}

// ahead is the next attempt of a Wait, made ready before it is due: a release of
// this client takes it along if the waiter is the first of this client's. So a
// hand-over within a client is one script.
type ahead struct {
	call  *call
	began time.Time // the Wait
	sent  time.Time // zero: it was not; under wakes.mu
}

// ahead makes an attempt ready; nil: there is none.
func (c *conn) ahead(r *driver.Request, w *waiter) *ahead {
	if len(r.More) > 0 || r.Mode != driver.Exclusive || c.waitReplicas > 0 { // then there is more to it
		return nil
	}
	k, err := c.attempt(r, w)
	if err != nil { // Acquire will say so
		return nil
	}
	k.done = make(chan struct{})
	return &ahead{call: k, began: time.Now()}
}

// done is closed when the attempt was answered.
func (a *ahead) done() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.call.done
}

// brought returns the grant of an attempt that a release took along; nil: the
// waiter attempts again by itself.
func (c *conn) brought(r *driver.Request, w *waiter, a *ahead) *driver.Grant {
	if errors.Is(a.call.err, errInVain) {
		c.wakes.missed(r.Name)
	}
	if a.call.err != nil {
		return nil
	}
	g, _, err := c.acquired(r, w, a.call)
	if g == nil || err != nil {
		return nil
	}
	c.wakes.met(claimOf(r))
	g.Waited = a.sent.Sub(a.began) // it was sent no earlier, so that the holder ends no later
	return g
}

// first returns the attempt of the first of this client's waiters for a name,
// to be sent along with a release; nil if there is none. Where others' waiters
// come first that is in vain, so that it is then left out for some time.
func (w *wakes) first(name string) *ahead {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.lines[name]
	switch {
	case l == nil:
		return nil
	case l.skip > 0:
		l.skip--
		return nil
	}
	a := l.waiters[0].ahead
	if a == nil || !a.sent.IsZero() {
		return nil
	}
	a.sent = time.Now()
	return a
}

// putBack takes back that an attempt was sent; a may be nil.
func (w *wakes) putBack(a *ahead) {
	if a == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a.sent = time.Time{}
}

// isSent reports whether an attempt was taken along.
func (w *wakes) isSent(a *ahead) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return a != nil && !a.sent.IsZero()
}

// maxSkip is how many releases at most take no attempt along after some that
// did so in vain.
const maxSkip = 64

// missed notes that a release took an attempt along in vain.
func (w *wakes) missed(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.lines[name]; l != nil {
		l.misses++
		l.skip = min(maxSkip, 1<<min(l.misses, 8))
	}
}

// met ends a waiter whose turn has come by a release.
func (w *wakes) met(k claim) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.lines[k.name]; l != nil {
		l.misses = 0
	}
	w.forgetLocked(k)
}
