package engine

import (
	"context"
	"sync"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
)

// conn is what the lock and the queue connections have in common: the end of
// the calls that are made on them, by its own Close or by the engine's.
type conn struct {
	engine *Engine
	core   *core
	owner  bool // it was opened by URL: Close closes the engine
	id     uint64

	once sync.Once
	gone chan struct{}

	waits startedWaits
}

// connect makes a connection; on a closed engine it is one whose calls fail.
func (e *Engine) connect(owner bool) *conn {
	c := &conn{engine: e, core: e.core, owner: owner, id: e.core.conns.Add(1), gone: make(chan struct{})}
	e.mu.Lock()
	open := e.conns != nil
	if open {
		e.conns[c] = struct{}{}
	}
	e.mu.Unlock()
	if !open {
		c.end()
	}
	return c
}

func (c *conn) end() {
	c.once.Do(func() {
		close(c.gone)
		c.waits.close() // no other begins any more
	})
}

// Close implements Conn. There is no goroutine to wait for but the engine's.
func (c *conn) Close() error {
	c.end()
	c.engine.mu.Lock()
	delete(c.engine.conns, c)
	c.engine.mu.Unlock()
	if c.owner {
		return c.engine.Close()
	}
	return nil
}

// do is core.do on this connection.
func (c *conn) do(ctx context.Context, cmd machine.Command, orphaned func(machine.Command)) error {
	return c.core.do(ctx, c.gone, cmd, orphaned)
}
