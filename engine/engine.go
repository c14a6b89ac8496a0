package engine

import (
	"context"
	"fmt"
	"sync"

	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// Engine is a handle on an open store. Handles that were opened by one URL
// share it. All methods may be called concurrently.
type Engine struct {
	target *target
	core   *core
	opts   Options

	once sync.Once
	err  error

	mu    sync.Mutex
	conns map[*conn]struct{} // nil once it is closed
}

// Open opens the engine that the URL names: mem:// (of its own), mem://NAME
// (shared in this process), or file://DIR (made if it is not there, though
// its parent must be; opened by one process only, shared in it). nil opts
// means the defaults. A URL that is open already must be given the same
// parameters, otherwise lease.ErrConflict. Opening replays what the last
// process left in the log; ctx is looked at before that only.
func Open(ctx context.Context, url string, opts *Options) (*Engine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e := &Engine{conns: make(map[*conn]struct{})}
	if opts != nil {
		e.opts = *opts
	}
	var err error
	if e.target, err = parseURL(url, &e.opts); err != nil {
		return nil, err
	}
	if e.core, err = shared.open(e.target, &e.opts); err != nil {
		return nil, fmt.Errorf("open %s: %w", url, err)
	}
	return e, nil
}

// Locks returns a connection for locks. Closing it leaves the Engine open.
func (e *Engine) Locks() lockdriver.Conn { return newLockConn(e.connect(false)) }

// Err returns why the engine has stopped serving: nil while it serves, an
// error that matches lease.ErrUnavailable after a failed write or sync.
func (e *Engine) Err() error { return e.core.err() }

// Done is closed when the store has failed; Err then says why.
func (e *Engine) Done() <-chan struct{} { return e.core.failed }

// Close ends the calls made through this handle and its connections. The last
// handle closes the store: what was confirmed is durable, what is held stays
// held. Close is idempotent and returns when nothing of it runs any more.
func (e *Engine) Close() error {
	e.once.Do(func() {
		e.mu.Lock()
		conns := e.conns
		e.conns = nil
		e.mu.Unlock()
		for c := range conns {
			c.end()
		}
		e.err = shared.close(e.target, e.core)
	})
	return e.err
}
