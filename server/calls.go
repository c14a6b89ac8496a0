package server

import (
	"context"
	"sync"
)

// calls are requests under way that another request may end: it must know
// that they have ended before it acts, or an acquire that is on its way
// through could grant what a cancel has just undone.
type calls[K comparable] struct {
	mu sync.Mutex
	m  map[K]*underway[K] // the first of those with a key: most of the time the only one
}

type underway[K comparable] struct {
	key    K
	cancel func() // nil: it ends soon by itself
	next   *underway[K]
	done   chan struct{} // made by who waits for it
}

// enter registers a call. Its context ends when cancel is called with its key.
func (cs *calls[K]) enter(ctx context.Context, key K) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	u := &underway[K]{key: key, cancel: cancel}
	cs.add(u)
	return ctx, func() {
		cs.leave(u)
		cancel()
	}
}

// add is enter for a call without a context: cancel waits until it leaves.
func (cs *calls[K]) add(u *underway[K]) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.m == nil {
		cs.m = map[K]*underway[K]{}
	}
	u.next = cs.m[u.key]
	cs.m[u.key] = u
}

func (cs *calls[K]) leave(u *underway[K]) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	key := u.key
	switch first := cs.m[key]; {
	case first != u:
		for first.next != u {
			first = first.next
		}
		first.next = u.next
	case u.next == nil:
		delete(cs.m, key)
	default:
		cs.m[key] = u.next
	}
	if u.done != nil {
		close(u.done)
	}
}

// cancel ends the calls with a key and waits until they have left.
func (cs *calls[K]) cancel(ctx context.Context, key K) error {
	cs.mu.Lock()
	var ends []chan struct{}
	var cancels []func()
	for u := cs.m[key]; u != nil; u = u.next {
		if u.done == nil {
			u.done = make(chan struct{})
		}
		ends = append(ends, u.done)
		if u.cancel != nil {
			cancels = append(cancels, u.cancel)
		}
	}
	cs.mu.Unlock()
	for _, cancel := range cancels { // it may leave by that
		cancel()
	}
	for _, done := range ends {
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
