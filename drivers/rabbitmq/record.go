package rabbitmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// record is what the clients of one broker know about their topology: AMQP has
// no way to ask for it, nor room for what RabbitMQ does not do by itself. It is
// the one message of the queue "topology"; who reads or writes it holds the
// exclusive queue "lock" meanwhile.
type record struct {
	Version  uint64         `json:"version"`
	Topology *wire.Topology `json:"topology"`
	// Classic names the queues that are of that type.
	Classic []string `json:"classic,omitempty"`

	topology *driver.Topology // the same, sorted by name; not changed
}

const (
	// recordLimbo is for how long the record may be in nobody's hands: between
	// the death of who had it, and its return to the queue.
	recordLimbo = 5 * time.Second
	// recordReads is after how many reads the record is written anew. A quorum
	// queue counts them, and drops a message at the limit.
	recordReads = 1000

	lockPause = 20 * time.Millisecond // between attempts to get the lock
)

func (c *conn) recordName() string { return c.o.Prefix + "topology" }
func (c *conn) lockName() string   { return c.o.Prefix + "lock" }

// recordUse returns the record as it is to be from now on, or nil. r is not to
// be changed.
type recordUse func(l *link, r *record) (next *record, err error)

// recorded calls f with the topology as it is, and stores what f returns unless
// that is nil. Nobody else is at the record meanwhile.
func (c *conn) recorded(ctx context.Context, f recordUse) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	select {
	case <-c.recording: // the lock tells connections apart, and not who uses them
	case <-ctx.Done():
		return ended(ctx)
	case <-c.ctx.Done():
		return lease.ErrClosed
	}
	l, err := c.out.get(ctx)
	if err != nil {
		c.recording <- struct{}{}
		return err
	}
	done := make(chan error, 1)
	started := c.work.Start(func() {
		err := c.withRecord(ctx, l, f)
		c.recording <- struct{}{}
		done <- err
	})
	if !started {
		c.recording <- struct{}{}
		return lease.ErrClosed
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		return classify(context.Cause(ctx), lease.ErrUnknown)
	}
	if err != nil && c.isClosed() {
		return lease.ErrClosed
	}
	return classify(err, lease.ErrUnknown)
}

func (c *conn) withRecord(ctx context.Context, l *link, f recordUse) error {
	if err := c.lockRecord(ctx, l); err != nil {
		return err
	}
	defer func() {
		_ = l.with(func(ch *amqp.Channel) error { // a lost connection has let go of it
			_, err := ch.QueueDelete(c.lockName(), false, false, false)
			return err
		})
	}()
	var refused error // by f
	err := l.with(func(ch *amqp.Channel) error {
		if err := c.makeRecord(ctx, l, ch); err != nil {
			return err
		}
		r, tag, worn, err := c.takeRecord(ctx, ch)
		if err != nil {
			return err
		}
		var next *record
		next, refused = f(l, r)
		if next == nil && worn {
			next = r
		}
		if next == nil || refused != nil {
			c.remember(r)
			return ch.Nack(tag, true, true)
		}
		r = newRecord(r.Version+1, next.topology, next.Classic)
		if err := c.putRecord(ctx, ch, r); err != nil {
			return err
		}
		c.remember(r)
		return ch.Ack(tag, true)
	})
	if refused != nil {
		return refused
	}
	return err
}

// lockRecord waits for the lock. It is gone with the connection that has it.
func (c *conn) lockRecord(ctx context.Context, l *link) error {
	for {
		err := l.with(func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(c.lockName(), false, false, true, false, nil)
			return err
		})
		if !has(err, amqp.ResourceLocked) {
			return err
		}
		if err := c.pause(ctx, lockPause/2+rand.N(lockPause)); err != nil {
			return err
		}
	}
}

func (c *conn) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	case <-c.ctx.Done():
		return lease.ErrClosed
	}
}

// makeRecord makes the queue of the record, with an empty one in it, if it is
// not there.
func (c *conn) makeRecord(ctx context.Context, l *link, ch *amqp.Channel) error {
	c.mu.Lock()
	known := c.state != nil
	c.mu.Unlock()
	if known {
		return nil
	}
	err := l.probe(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclarePassive(c.recordName(), true, false, false, false, nil)
		return err
	})
	if !has(err, amqp.NotFound) {
		return err
	}
	if _, err := ch.QueueDeclare(c.recordName(), true, false, false, false, c.ownArgs()); err != nil {
		return err
	}
	return c.putRecord(ctx, ch, newRecord(1, &driver.Topology{}, nil))
}

// probe calls f with a channel of its own.
func (l *link) probe(f func(*amqp.Channel) error) error {
	ch, err := l.conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close() //nolint:errcheck // a refusal has closed it
	return f(ch)
}

// takeRecord gets the newest record, and the tag up to which all that was in
// the queue is settled. Where a client died between its steps there are two.
func (c *conn) takeRecord(ctx context.Context, ch *amqp.Channel) (r *record, tag uint64, worn bool, err error) {
	wait, limit := 2*time.Millisecond, time.Now().Add(recordLimbo)
	for {
		for {
			d, ok, err := ch.Get(c.recordName(), false)
			if err != nil {
				return nil, 0, false, err
			}
			if !ok {
				break
			}
			var got record
			if err := json.Unmarshal(d.Body, &got); err != nil || got.Topology == nil {
				return nil, 0, false, fmt.Errorf("the record of the topology in queue %q cannot be read: %w: %w",
					c.recordName(), lease.ErrUnavailable, err)
			}
			tag = d.DeliveryTag
			worn = worn || r != nil || number(d.Headers[headerDeliveryCount]) > recordReads
			if r == nil || got.Version > r.Version {
				got.topology = got.Topology.Driver()
				r = &got
			}
		}
		if r != nil {
			return r, tag, worn, nil
		}
		if time.Now().After(limit) {
			return nil, 0, false, fmt.Errorf("the record of the topology is not in queue %q: delete the queue, and declare all anew: %w",
				c.recordName(), lease.ErrUnavailable)
		}
		if err := c.pause(ctx, wait); err != nil {
			return nil, 0, false, err
		}
		wait = min(2*wait, lockPause)
	}
}

func (c *conn) putRecord(ctx context.Context, ch *amqp.Channel, r *record) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	confirm, err := ch.PublishWithDeferredConfirm("", c.recordName(), true, false, amqp.Publishing{
		ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: body,
	})
	if err != nil {
		return err
	}
	if ok, err := confirm.WaitContext(ctx); err != nil || !ok {
		return fmt.Errorf("the record of the topology was not confirmed: %w: %w", lease.ErrUnknown, err)
	}
	return nil
}

func newRecord(version uint64, t *driver.Topology, classic []string) *record {
	slices.SortFunc(t.Exchanges, func(a, b driver.Exchange) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Queues, func(a, b driver.Queue) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(t.Bindings, func(a, b driver.Binding) int { return strings.Compare(bindingOrder(&a), bindingOrder(&b)) })
	r := &record{Version: version, Topology: wire.NewTopology(t), Classic: classic}
	r.topology = r.Topology.Driver()
	return r
}

func bindingOrder(b *driver.Binding) string {
	return b.Exchange + "\x00" + b.Queue + "\x00" + b.ToExchange + "\x00" + b.Key
}

func (c *conn) remember(r *record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = r
	for i := range r.topology.Exchanges {
		c.exchanges[r.topology.Exchanges[i].Name] = true
	}
}

// Topology implements driver.Conn.
func (c *conn) Topology(ctx context.Context) (*driver.Topology, error) {
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	var own driver.Topology
	err := c.recorded(ctx, func(_ *link, r *record) (*record, error) {
		t := r.topology
		own = driver.Topology{Exchanges: slices.Clone(t.Exchanges), Queues: slices.Clone(t.Queues), Bindings: slices.Clone(t.Bindings)}
		return nil, nil //nolint:nilnil // nothing changes
	})
	if err != nil {
		if errors.Is(err, lease.ErrUnknown) {
			err = fmt.Errorf("%w: %s", lease.ErrUnavailable, err.Error()) // it was only read
		}
		return nil, err
	}
	return &own, nil
}

// find returns what is declared about a queue, or nil, and whether the broker
// counts its deliveries.
func (r *record) find(queue string) (*driver.Queue, bool) {
	if r == nil {
		return nil, false
	}
	for i := range r.topology.Queues {
		if q := &r.topology.Queues[i]; q.Name == queue {
			return q, !slices.Contains(r.Classic, queue)
		}
	}
	return nil, false
}

func (r *record) exchange(name string) *driver.Exchange {
	for i := range r.topology.Exchanges {
		if e := &r.topology.Exchanges[i]; e.Name == name {
			return e
		}
	}
	return nil
}
