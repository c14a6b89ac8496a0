package queue

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

const (
	// DefaultPrefetch is how many deliveries a consumer leases ahead.
	DefaultPrefetch = 100
	// MaxPrefetch bounds ConsumerOptions.Prefetch.
	MaxPrefetch = 100_000

	// pollWait is how long one driver call waits for messages, and pollGrace
	// how much longer it may take before it counts as failed.
	pollWait  = 20 * time.Second
	pollGrace = 10 * time.Second
	// handBackTimeout bounds handing back on Close. What it cannot hand back
	// comes back when its lease has run out.
	handBackTimeout = 5 * time.Second

	// refill is the part of the prefetch, one over it, for which there is to
	// be room before more is fetched while the buffer is not empty.
	refill = 4
)

// ConsumerOptions of a Consumer; nil and zero values work.
type ConsumerOptions struct {
	Prefetch int           // leased and not settled at most, up to MaxPrefetch; 0: DefaultPrefetch
	Lease    time.Duration // of a delivery; 0: the queue's
	Consumer string        // id, for the operator's eye; "": made
	NoExtend bool          // leases are not extended by themselves
}

// Consumer hands out deliveries. One goroutine keeps a buffer of at most
// Prefetch leased messages filled.
type Consumer struct {
	b        *Broker
	queue    string
	id       string
	prefetch int
	lease    time.Duration
	extend   bool
	values   context.Context // whose values the deliveries' contexts have

	ctx    context.Context // ends the fetching
	cancel context.CancelFunc
	done   chan struct{} // the fetching goroutine is gone
	once   sync.Once
	closed chan struct{} // Close is done
	err    error         // of Close

	room   chan struct{} // a token: the fetcher should look for room
	ready  chan struct{} // a token: a receiver should look into the buffer
	failed chan struct{} // closed when cause is set

	mu     sync.Mutex
	buffer []*Delivery // leased, given to nobody
	open   int         // leased and not settled: in the buffer or given
	cause  error       // why no more will come
}

// Consumer begins to receive from a queue. The deliveries' contexts have the
// values of ctx; its end does not end the consumer, which is to be closed. A
// queue that does not exist is ErrNotFound from Receive.
func (b *Broker) Consumer(ctx context.Context, queue string, o *ConsumerOptions) (*Consumer, error) {
	if o == nil {
		o = &ConsumerOptions{}
	}
	c := &Consumer{
		b:        b,
		queue:    queue,
		id:       o.Consumer,
		prefetch: o.Prefetch,
		lease:    o.Lease,
		extend:   !o.NoExtend && b.caps.Extend,
		values:   context.WithoutCancel(ctx),
		done:     make(chan struct{}),
		closed:   make(chan struct{}),
		room:     make(chan struct{}, 1),
		ready:    make(chan struct{}, 1),
		failed:   make(chan struct{}),
	}
	if c.id == "" {
		c.id = newConsumerID()
	}
	if c.prefetch == 0 {
		c.prefetch = DefaultPrefetch
	}
	if c.prefetch < 1 || c.prefetch > MaxPrefetch {
		return nil, wrap("consume from", queue, lease.Invalidf("prefetch", "must be 1 to %d, is %d", MaxPrefetch, c.prefetch))
	}
	r := c.request(1)
	if err := r.Validate(&b.caps); err != nil {
		return nil, wrap("consume from", queue, err)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if err := b.adopt(c); err != nil {
		c.cancel()
		return nil, wrap("consume from", queue, err)
	}
	go c.fetch()
	return c, nil
}

func (c *Consumer) request(n int) driver.ReceiveRequest {
	return driver.ReceiveRequest{
		Queue: c.queue, Consumer: c.id, Max: min(n, driver.MaxReceive), Wait: pollWait, Lease: c.lease,
		Ahead: c.prefetch,
	}
}

// Receive waits for at least one delivery and returns up to max, in queue
// order, all of them held. Failures that may pass are waited out; one that
// cannot, such as ErrNotFound, is returned, as is ErrClosed after Close.
func (c *Consumer) Receive(ctx context.Context, max int) ([]*Delivery, error) {
	if max < 1 {
		return nil, wrap("receive from", c.queue, lease.Invalidf("max", "must be at least 1, is %d", max))
	}
	return c.receive(ctx, nil, max)
}

// receive is Receive into ds, which is empty, if it has room for max.
func (c *Consumer) receive(ctx context.Context, ds []*Delivery, max int) ([]*Delivery, error) {
	for {
		if ctx.Err() != nil {
			token(c.ready) // it may have been woken for a delivery: others want it
			return nil, wrap("receive from", c.queue, context.Cause(ctx))
		}
		ds, err := c.take(ds, max)
		if len(ds) > 0 || err != nil {
			return ds, wrap("receive from", c.queue, err)
		}
		select {
		case <-c.ready:
		case <-c.failed:
		case <-ctx.Done():
		}
	}
}

// take takes up to max live deliveries out of the buffer. Those whose lease
// ended there are dropped: others have them by now, or will.
func (c *Consumer) take(ds []*Delivery, max int) ([]*Delivery, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var now lease.Instant
	if len(c.buffer) > 0 {
		now = c.b.clock.Now()
		if cap(ds) < max {
			ds = make([]*Delivery, 0, min(max, len(c.buffer)))
		}
	}
	n := 0
	for ; n < len(c.buffer) && len(ds) < max; n++ {
		if d := c.buffer[n]; d.held.CheckAt(now) == nil {
			ds = append(ds, d)
		}
	}
	clear(c.buffer[:n])
	if c.buffer = c.buffer[n:]; len(c.buffer) == 0 {
		c.buffer = nil
		if n > 0 {
			token(c.room) // for less than refill, too
		}
	} else {
		token(c.ready) // the receiver that is woken wakes the next
	}
	if len(ds) > 0 {
		return ds, nil
	}
	return nil, c.cause
}

// token puts a token into a channel of one.
func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// leave makes room for one more.
func (c *Consumer) leave() {
	c.mu.Lock()
	c.open--
	c.mu.Unlock()
	token(c.room)
}

// fail says why no more will come.
func (c *Consumer) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = err
		close(c.failed)
	}
}

// fetch keeps the buffer filled until the consumer is closed or the backend
// says something final.
func (c *Consumer) fetch() {
	defer close(c.done)
	var p pauses
	for {
		n := c.vacancies()
		if n == 0 {
			return
		}
		err := c.fetchOnce(n)
		switch {
		case c.ctx.Err() != nil:
			return
		case err == nil:
			p = pauses{}
		case permanent(err):
			c.fail(err)
			return
		default:
			d := p.next()
			c.b.log.Warn("receive failed; trying again", "queue", c.queue, "error", err, "in", d)
			sleep(c.ctx, nil, d)
		}
	}
}

// vacancies waits until there is room for some more deliveries and says for
// how many; for none when the consumer closes. While receivers find something
// in the buffer, and have something to settle, it waits for room for a part of
// the prefetch: a call of the driver for each single delivery that was settled
// would be most of the work.
func (c *Consumer) vacancies() int {
	for {
		if c.ctx.Err() != nil {
			return 0
		}
		c.mu.Lock()
		n := c.prefetch - c.open
		given := c.open - len(c.buffer) // whose settlement will make more room
		enough := n >= c.prefetch/refill || len(c.buffer) == 0 || given == 0
		c.mu.Unlock()
		if n > 0 && enough {
			return n
		}
		select {
		case <-c.room:
		case <-c.ctx.Done():
		}
	}
}

func (c *Consumer) fetchOnce(n int) error {
	ctx, cancel := context.WithTimeout(c.ctx, pollWait+pollGrace)
	defer cancel()
	r := c.request(n)
	sent := c.b.clock.Now()
	ds, err := c.b.conn.Receive(ctx, &r)
	if err != nil {
		return err
	}
	if len(ds) == 0 {
		return nil
	}
	received := c.b.clock.Now()
	c.mu.Lock()
	c.open += len(ds) // before any of them can be lost
	c.mu.Unlock()
	fresh := make([]*Delivery, len(ds))
	for i := range ds {
		fresh[i] = c.hold(&ds[i], sent, received)
	}
	c.mu.Lock()
	c.buffer = append(c.buffer, fresh...)
	c.mu.Unlock()
	token(c.ready)
	return nil
}

// hold makes a Delivery whose lease the broker's keeper looks after.
func (c *Consumer) hold(dd *driver.Delivery, sent, received lease.Instant) *Delivery {
	d := &Delivery{
		Message: dd.Message, Route: dd.Route, Queue: dd.Queue, Attempt: dd.Attempt, Age: dd.Age,
		b: c.b, c: c, ref: dd.Ref,
	}
	deadline := lease.Deadline(sent, received, dd.Waited, dd.TTL)
	c.b.keeper.HoldIn(&d.held, (*owned)(d), extractTrace(c.values, dd.Message.Headers), dd.Ref, dd.TTL, deadline, c.extend)
	return d
}

// Close ends the receiving and hands back the deliveries that nobody was
// given; Receive is ErrClosed from then on. Those that were given stay held
// and can be settled until the Broker is closed. An error means that some
// could not be handed back, and come back when their leases run out.
func (c *Consumer) Close() error {
	c.once.Do(func() {
		defer close(c.closed)
		c.cancel()
		<-c.done
		c.fail(ErrClosed)
		c.err = wrap("close consumer of", c.queue, c.handBack())
		c.b.disown(c)
	})
	<-c.closed
	return c.err
}

func (c *Consumer) handBack() error {
	c.mu.Lock()
	left := c.buffer
	c.buffer = nil
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), handBackTimeout)
	defer cancel()
	var errs []error
	for len(left) > 0 {
		batch := left[:min(len(left), settleBatch)]
		left = left[len(batch):]
		if len(errs) == 0 {
			errs = append(errs, c.release(ctx, batch)...)
		}
		for _, d := range batch {
			d.end(ErrReleased)
		}
	}
	// One that is another's by now, after the connection was lost, has forgotten
	// the consumer.
	if err := c.b.conn.Detach(ctx, c.queue, c.id); err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrExclusive) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Consumer) release(ctx context.Context, ds []*Delivery) []error {
	ss := make([]driver.Settlement, len(ds))
	for i, d := range ds {
		ss[i] = driver.Settlement{Ref: d.ref, Verb: driver.Release}
	}
	outcomes, err := c.b.conn.Settle(ctx, ss)
	if err != nil {
		return []error{overdue(ctx, err)}
	}
	for _, o := range outcomes {
		if o.Err != nil && !errors.Is(o.Err, ErrNotHeld) {
			return []error{o.Err}
		}
	}
	return nil
}
