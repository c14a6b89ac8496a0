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
	m  map[string]map[*underway]struct{}
}

type underway struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// enter registers a call. Its context ends when cancel is called with its key.
func (cs *calls) enter(ctx context.Context, key string) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	u := &underway{cancel: cancel, done: make(chan struct{})}
	cs.mu.Lock()
	if cs.m == nil {
		cs.m = map[string]map[*underway]struct{}{}
	}
	if cs.m[key] == nil {
		cs.m[key] = map[*underway]struct{}{}
	}
	cs.m[key][u] = struct{}{}
	cs.mu.Unlock()
	return ctx, func() {
		cs.mu.Lock()
		delete(cs.m[key], u)
		if len(cs.m[key]) == 0 {
			delete(cs.m, key)
		}
		cs.mu.Unlock()
		cancel()
		close(u.done)
	}
}

// cancel ends the calls with a key and waits until they have left.
func (cs *calls) cancel(ctx context.Context, key string) error {
	cs.mu.Lock()
	var us []*underway
	for u := range cs.m[key] {
		us = append(us, u)
	}
	cs.mu.Unlock()
	for _, u := range us {
		u.cancel()
	}
	for _, u := range us {
		select {
		case <-u.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
