// Package closegroup counts the goroutines of something that can be closed, so that
// closing it can wait for all of them.
package closegroup

import "sync"

// Group is the goroutines of one owner. The zero value is open. Its methods may
// be called concurrently; a Group must not be copied.
type Group struct {
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// Start runs f in a goroutine of the group, and reports false, without running
// it, if the group is closed.
func (g *Group) Start(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.wg.Go(f)
	return true
}

// Close lets nothing start any more. It does not wait, and does not end what
// runs: that is the owner's to tell.
func (g *Group) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// Wait returns when all that has started has ended. It is to be called behind
// Close: before, something may start behind it.
func (g *Group) Wait() { g.wg.Wait() }
