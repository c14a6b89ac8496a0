package queue

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// fakeConn is a driver whose one queue is a slice. Its hooks, which may be
// nil, stand before each call: an error is returned instead.
type fakeConn struct {
	driver.Conn // what no test calls

	onPublish func(ctx context.Context, ps []driver.Publishing) error
	onReceive func(ctx context.Context) error
	onSettle  func(ctx context.Context, ss []driver.Settlement) error

	mu        sync.Mutex
	published []driver.Publishing
	batches   []int // sizes of the publishes
	ready     []driver.Delivery
	flying    map[uint64]driver.Delivery
	settled   []driver.Settlement // but for extensions
	settles   int                 // calls, but for extensions
	detached  int
	back      bool // what is nacked or released comes back
	noExtend  bool // Caps say so
	token     lease.Token
	changed   chan struct{}
}

func newFake() *fakeConn {
	return &fakeConn{flying: map[uint64]driver.Delivery{}, changed: make(chan struct{})}
}

const fakeLease = 10 * time.Second

// set changes hooks while calls may be under way.
func (c *fakeConn) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// newBroker is closed at the end of the test. In a bubble of testing/synctest
// a goroutine that it leaves behind fails the test.
func newBroker(t *testing.T, c *fakeConn) *Broker {
	t.Helper()
	b := New(c, &Config{Clock: lease.GoClock(), Logger: slog.New(slog.DiscardHandler), RetryFor: 30 * time.Second})
	t.Cleanup(func() { b.Close() })
	return b
}

func (c *fakeConn) Caps() driver.Caps {
	return driver.Caps{
		Extend: !c.noExtend, DeliveryFence: true, DelayedNack: true, Mandatory: true, OrderKey: true,
		MinLease: time.Second, MaxLease: time.Hour, MaxBody: driver.MaxBody,
	}
}

func (c *fakeConn) Publish(ctx context.Context, ps []driver.Publishing) ([]driver.Receipt, error) {
	c.mu.Lock()
	hook := c.onPublish
	c.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, ps); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batches = append(c.batches, len(ps))
	rs := make([]driver.Receipt, len(ps))
	for i, p := range ps {
		rs[i] = driver.Receipt{Durability: driver.Memory, Queues: 1}
		if p.Route.Key == "nowhere" && p.Mandatory {
			rs[i] = driver.Receipt{Err: driver.ErrUnroutable}
			continue
		}
		c.published = append(c.published, p)
	}
	return rs, nil
}

// put makes messages ready.
func (c *fakeConn) put(ms ...*driver.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range ms {
		c.token++
		c.ready = append(c.ready, driver.Delivery{
			Ref: driver.Ref{Queue: "q", Seq: uint64(c.token)}, Message: m, Attempt: 1, TTL: fakeLease,
		})
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeConn) Receive(ctx context.Context, r *driver.ReceiveRequest) ([]driver.Delivery, error) {
	c.mu.Lock()
	hook := c.onReceive
	c.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	timer := time.NewTimer(r.Wait)
	defer timer.Stop()
	for {
		c.mu.Lock()
		ds := c.take(r.Max, time.Since(began))
		changed := c.changed
		c.mu.Unlock()
		if len(ds) > 0 {
			return ds, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take leases what is ready, one message of a key at a time. c.mu is held.
func (c *fakeConn) take(most int, waited time.Duration) (ds []driver.Delivery) {
	busy := map[string]bool{}
	for _, d := range c.flying {
		busy[d.Message.OrderKey] = true
	}
	busy[""] = false
	var left []driver.Delivery
	for _, d := range c.ready {
		key := d.Message.OrderKey
		if busy[key] || len(ds) == most {
			busy[key] = key != ""
			left = append(left, d)
			continue
		}
		busy[key] = key != ""
		c.token++
		d.Token, d.Waited = c.token, waited
		c.flying[d.Seq] = d
		ds = append(ds, d)
	}
	c.ready = left
	return ds
}

// lose makes the backend forget that anything is in flight.
func (c *fakeConn) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.flying)
}

func (c *fakeConn) Settle(ctx context.Context, ss []driver.Settlement) ([]driver.Outcome, error) {
	c.mu.Lock()
	hook := c.onSettle
	c.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, ss); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]driver.Outcome, len(ss))
	for i, s := range ss {
		d, ok := c.flying[s.Ref.Seq]
		switch {
		case !ok || d.Token != s.Ref.Token:
			out[i].Err = lease.ErrNotHeld
		case s.Verb == driver.Extend:
			out[i].TTL = fakeLease
			if s.TTL > 0 {
				out[i].TTL = s.TTL
			}
			continue
		default:
			delete(c.flying, s.Ref.Seq)
			c.settled = append(c.settled, s)
			if c.back && s.Verb != driver.Ack {
				if s.Verb == driver.Nack {
					d.Attempt++
				}
				c.ready = append(c.ready, d)
				slices.SortFunc(c.ready, func(a, b driver.Delivery) int { return cmp.Compare(a.Seq, b.Seq) })
			}
			close(c.changed)
			c.changed = make(chan struct{})
		}
		if i == 0 && s.Verb != driver.Extend {
			c.settles++
		}
	}
	return out, nil
}

func (c *fakeConn) Detach(context.Context, string, string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.detached++
	return nil
}

func (c *fakeConn) Close() error { return nil }

// verbs returns how what was settled was settled, in order.
func (c *fakeConn) verbs() []driver.Verb {
	c.mu.Lock()
	defer c.mu.Unlock()
	var vs []driver.Verb
	for _, s := range c.settled {
		vs = append(vs, s.Verb)
	}
	return vs
}

// pass lets time pass in a bubble of testing/synctest.
func pass(d time.Duration) { <-time.After(d) }

func wantIs(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func msg(b string) *Message { return &Message{Body: []byte(b)} }
