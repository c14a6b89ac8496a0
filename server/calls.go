package server

import (
	"context"
	"sync"
)

// calls are requests under way that another request may end: it must know
// that they have ended before it acts, or an acquire that is on its way
// through could grant what a cancel has just undone.
type calls struct {
	mu sync.Mutex
	m  map[string]*underway // the first of those with a key: most of the time the only one
}

type underway struct {
	cancel context.CancelFunc
	next   *underway
	done   chan struct{} // made by who waits for it
}

// enter registers a call. Its context ends when cancel is called with its key.
func (cs *calls) enter(ctx context.Context, key string) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	u := &underway{cancel: cancel}
	cs.mu.Lock()
	if cs.m == nil {
		cs.m = map[string]*underway{}
	}
	u.next = cs.m[key]
	cs.m[key] = u
	cs.mu.Unlock()
	return ctx, func() {
		cs.leave(key, u)
		cancel()
	}
}

func (cs *calls) leave(key string, u *underway) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
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
func (cs *calls) cancel(ctx context.Context, key string) error {
	cs.mu.Lock()
	var ends []chan struct{}
	for u := cs.m[key]; u != nil; u = u.next {
		if u.done == nil {
			u.done = make(chan struct{})
		}
		ends = append(ends, u.done)
		u.cancel()
	}
	cs.mu.Unlock()
	for _, done := range ends {
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
