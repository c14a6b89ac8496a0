package redis

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lockkeeper/lockkeeper/internal/namewatch"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/lock/driver"
)

// How a watch sees what no message tells.
const (
	rescanPeriod = 5 * time.Second // a look at all names, should messages be lost
	linePeriod   = time.Second     // a look at a name with a line, where waiters may die
)

// watcher is a driver.Watcher. Scripts publish the keys of names whose state
// they change to those who are subscribed at their server. What ends without a
// script, by its time, is looked at then; and all names are now and then.
type watcher struct {
	*namewatch.Watch
	c      *conn
	ctx    context.Context
	cancel context.CancelFunc // by Close

	mu     sync.Mutex
	subs   map[*goredis.Client]*goredis.PubSub
	closed bool
}

// Watch implements driver.Conn.
func (c *conn) Watch(ctx context.Context, r *driver.WatchRequest) (driver.Watcher, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	own := *r // the caller's may change
	w := &watcher{c: c, subs: map[*goredis.Client]*goredis.PubSub{}}
	w.ctx, w.cancel = context.WithCancel(c.ctx)
	w.Watch = namewatch.New(&own, w.ctx.Done(), namewatch.Source{
		Find: func(ctx context.Context) ([]string, error) {
			if err := w.subscribe(ctx); err != nil || own.Name != "" { // a Cluster may have another master
				return nil, err
			}
			return c.scan(ctx, &driver.ListRequest{Prefix: own.Prefix})
		},
		States: c.states, Due: dueOf, Rescan: rescanPeriod, Batch: maxDescribe,
	})
	if err := w.subscribe(ctx); err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

// subscribe subscribes at each server that is not subscribed at yet, and
// returns when they have confirmed it.
func (w *watcher) subscribe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.c.timeout)
	defer cancel()
	var err error
	if w.c.cluster != nil {
		err = w.c.cluster.ForEachMaster(ctx, w.subscribeAt)
	} else {
		err = w.subscribeAt(ctx, w.c.single)
	}
	switch {
	case err == nil:
		return nil
	case w.c.isClosed():
		return lease.ErrClosed
	default:
		return fmt.Errorf("%w: subscribe: %w", lease.ErrUnavailable, err)
	}
}

func (w *watcher) subscribeAt(ctx context.Context, client *goredis.Client) error {
	w.mu.Lock()
	if w.closed || w.subs[client] != nil {
		w.mu.Unlock()
		return nil
	}
	// The subscription ends by Close and not with ctx.
	sub := client.Subscribe(w.c.ctx)
	w.subs[client] = sub
	w.mu.Unlock()
	err := sub.Subscribe(ctx, w.c.watch)
	if err == nil {
		_, err = sub.Receive(ctx)
	}
	if err == nil && !w.c.work.Start(func() { w.receive(sub) }) {
		err = lease.ErrClosed
	}
	if err != nil {
		w.mu.Lock()
		delete(w.subs, client)
		w.mu.Unlock()
		_ = sub.Close()
	}
	return err
}

// receive collects what is published. go-redis subscribes again by itself when
// a connection was lost; then all names are looked at.
func (w *watcher) receive(sub *goredis.PubSub) {
	defer sub.Close() //nolint:errcheck // nothing is lost with a subscription
	messages := sub.ChannelWithSubscriptions(goredis.WithChannelSize(1024))
	for {
		select {
		case <-w.ctx.Done():
			return
		case m, ok := <-messages:
			if !ok {
				return
			}
			if m, ok := m.(*goredis.Message); ok {
				if name, ok := nameOf(w.c.prefix, m.Payload); ok {
					w.Note(name)
				}
			} else {
				w.NoteAll()
			}
		}
	}
}

// Close implements driver.Watcher.
func (w *watcher) Close() error {
	w.cancel()
	w.mu.Lock()
	w.closed = true
	subs := slices.Collect(maps.Values(w.subs))
	w.mu.Unlock()
	for _, sub := range subs {
		_ = sub.Close() // nothing is lost with a subscription
	}
	return nil
}

// dueOf returns when the state of a name may change without a message.
func dueOf(in *driver.Info) time.Time {
	after := time.Duration(1<<63 - 1)
	for i := range in.Grants {
		after = min(after, in.Grants[i].Remaining)
	}
	if in.ClosedFor > 0 {
		after = min(after, in.ClosedFor)
	}
	if in.Waiting > 0 {
		after = min(after, linePeriod)
	}
	return time.Now().Add(min(after, rescanPeriod) + time.Millisecond)
}
