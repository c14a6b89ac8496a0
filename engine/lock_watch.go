package engine

import (
	"context"
	"errors"
	"sync"

	"github.com/lockkeeper/lockkeeper/engine/internal/machine"
	"github.com/lockkeeper/lockkeeper/lease"
	lockdriver "github.com/lockkeeper/lockkeeper/lock/driver"
)

// watches are those of a connection, which end with it.
type watches struct {
	mu  sync.Mutex
	all map[*lockWatcher]struct{}
}

// lockWatcher implements lockdriver.Watcher.
type lockWatcher struct {
	conn  *lockConn
	watch *machine.LockWatch
}

// Watch implements lockdriver.Conn.
func (c *lockConn) Watch(ctx context.Context, r *lockdriver.WatchRequest) (lockdriver.Watcher, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	request := *r
	cmd := &machine.WatchLocks{Request: &request}
	err := c.do(ctx, cmd, func(done machine.Command) {
		if w := done.(*machine.WatchLocks); w.Err == nil { //nolint:forcetypeassert // it is cmd
			c.core.post(&machine.Unwatch{Watch: w.Watch})
		}
	})
	if err == nil {
		err = cmd.Err
	}
	if err != nil {
		return nil, err
	}
	w := &lockWatcher{conn: c, watch: cmd.Watch}
	c.watches.mu.Lock()
	defer c.watches.mu.Unlock()
	if ended(context.Background(), c.gone) != nil {
		c.core.post(&machine.Unwatch{Watch: w.watch})
		return nil, lease.ErrClosed
	}
	if c.watches.all == nil {
		c.watches.all = make(map[*lockWatcher]struct{})
	}
	c.watches.all[w] = struct{}{}
	return w, nil
}

// Next implements lockdriver.Watcher.
func (w *lockWatcher) Next(ctx context.Context) ([]lockdriver.Event, error) {
	for {
		cmd := &machine.NextEvents{Watch: w.watch}
		if err := w.conn.do(ctx, cmd, nil); err != nil {
			if why := ended(ctx, w.conn.gone); why != nil && errors.Is(err, lease.ErrUnknown) {
				w.conn.core.post(&machine.LeaveEvents{Next: cmd})
				err = why
			}
			return nil, err
		}
		if cmd.Err != nil || len(cmd.Events) > 0 {
			return cmd.Events, cmd.Err
		}
	}
}

// Close implements lockdriver.Watcher.
func (w *lockWatcher) Close() error {
	c := w.conn
	c.watches.mu.Lock()
	delete(c.watches.all, w)
	c.watches.mu.Unlock()
	c.core.post(&machine.Unwatch{Watch: w.watch})
	return nil
}

// Close implements lockdriver.Conn. Watches end with the connection.
func (c *lockConn) Close() error {
	c.end()
	c.watches.mu.Lock()
	for w := range c.watches.all {
		c.core.post(&machine.Unwatch{Watch: w.watch})
	}
	c.watches.all = nil
	c.watches.mu.Unlock()
	return c.conn.Close()
}
