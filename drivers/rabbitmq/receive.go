package rabbitmq

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lockkeeper/lockkeeper/lease"
	"github.com/lockkeeper/lockkeeper/queue/driver"
)

// Receive implements driver.Conn. With Ahead it reads from a subscription that
// stays; without, it takes what is there one by one, and subscribes for as long
// as it waits.
func (c *conn) Receive(ctx context.Context, r *driver.ReceiveRequest) ([]driver.Delivery, error) {
	own := *r
	if err := own.Validate(&c.caps); err != nil {
		return nil, err
	}
	if c.isClosed() {
		return nil, lease.ErrClosed
	}
	s, err := c.source(ctx, own.Queue)
	if err != nil {
		return nil, err
	}
	if own.Ahead > 0 || s.spec.SingleActive {
		ds, err := s.follow(ctx, &own)
		return ds, s.gone(err)
	}
	type result struct {
		ds  []driver.Delivery
		err error
	}
	got := make(chan result) // unbuffered: it is taken, or handed back
	left, over := make(chan struct{}), make(chan struct{})
	before := s.unended()
	started := c.work.Start(func() {
		defer s.end(over)
		out := result{err: lease.ErrClosed}
		if s.follows(before, left) {
			out.ds, out.err = s.receive(&own, left)
		}
		select {
		case got <- out:
		case <-left:
			c.handBack(out.ds)
		case <-c.ctx.Done(): // the broker has them back
		}
	})
	if !started {
		return nil, lease.ErrClosed
	}
	select {
	case out := <-got:
		if out.err != nil && c.isClosed() {
			return nil, lease.ErrClosed
		}
		return out.ds, s.gone(out.err)
	case <-ctx.Done():
		s.leaveBehind(over)
		close(left)
		return nil, context.Cause(ctx)
	case <-c.ctx.Done():
		return nil, lease.ErrClosed
	}
}

// handBack releases what nobody gets.
func (c *conn) handBack(ds []driver.Delivery) {
	if len(ds) == 0 {
		return
	}
	ss := make([]driver.Settlement, len(ds))
	for i := range ds {
		ss[i] = driver.Settlement{Ref: ds[len(ds)-1-i].Ref, Verb: driver.Release}
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.o.Timeout)
	defer cancel()
	_, _ = c.Settle(ctx, ss) // what is lost with its channel has gone back
}

// receive takes what there is, and waits if there is nothing.
func (s *source) receive(r *driver.ReceiveRequest, left <-chan struct{}) ([]driver.Delivery, error) {
	ds, err := s.take(r, left)
	if len(ds) > 0 || err != nil || r.Wait == 0 {
		return ds, err
	}
	w := s.enter(r.Consumer)
	defer s.leave(w)
	over, cancel := context.WithTimeout(s.c.ctx, r.Wait)
	defer cancel()
	for {
		if isClosed(left) { // a subscription would take what others could have
			return nil, nil
		}
		msgs, in, err := s.wait(r, w, over.Done(), left)
		if err != nil {
			return nil, err
		}
		if len(msgs) == 0 {
			return nil, nil
		}
		// Whatever else was delivered meanwhile came with them.
		if ds := s.admitAll(in, msgs, r); len(ds) > 0 {
			return ds, nil
		}
	}
}

// take takes up to r.Max messages that are ready, one after the other.
func (s *source) take(r *driver.ReceiveRequest, left <-chan struct{}) ([]driver.Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, err := s.open(s.c.ctx)
	if err != nil {
		return nil, err
	}
	var ds []driver.Delivery
	size := 0
	for range r.Max { // what is dead-lettered on the way counts too
		if isClosed(left) {
			return ds, nil
		}
		d, ok, err := in.ch.Get(r.Queue, false)
		if err != nil {
			return nil, in.failed(err) // what came before went back with the channel
		}
		if !ok {
			break
		}
		if size += len(d.Body); size > r.MaxBytes && len(ds) > 0 {
			_ = in.back(d.DeliveryTag, false) // a lost channel does the same
			break
		}
		if dd, ok := s.admit(in, &d, r.Lease); ok {
			ds = append(ds, dd)
		}
	}
	return ds, nil
}

// wait subscribes until something comes, and returns all that came.
func (s *source) wait(r *driver.ReceiveRequest, w *waiter, over, left <-chan struct{}) ([]amqp.Delivery, *inbox, error) {
	in, tag, msgs, err := s.subscribe(r.Max)
	if err != nil {
		return nil, nil, err
	}
	var got []amqp.Delivery
	select {
	case d, ok := <-msgs:
		if !ok {
			return nil, nil, in.failed(amqp.ErrClosed)
		}
		got = append(got, d)
	case <-over:
	case <-left:
	case <-w.left:
	}
	if s.c.isClosed() {
		return nil, nil, lease.ErrClosed
	}
	s.mu.Lock()
	err = in.ch.Cancel(tag, false)
	s.mu.Unlock()
	if err != nil {
		return nil, nil, in.failed(err)
	}
	for d := range msgs {
		got = append(got, d)
	}
	return got, in, nil
}

// subscribe begins to consume with room for so many messages.
func (s *source) subscribe(most int) (*inbox, string, <-chan amqp.Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, err := s.open(s.c.ctx)
	if err != nil {
		return nil, "", nil, err
	}
	tag := "lockkeeper-" + rand.Text()[:16]
	if err := in.ch.Qos(most, 0, false); err != nil {
		return nil, "", nil, in.failed(err)
	}
	msgs, err := in.ch.Consume(s.spec.Name, tag, false, false, false, false, nil)
	if err != nil {
		return nil, "", nil, in.failed(err)
	}
	return in, tag, msgs, nil
}

// admitAll turns messages into deliveries, and hands back those that are too
// many bytes.
func (s *source) admitAll(in *inbox, msgs []amqp.Delivery, r *driver.ReceiveRequest) []driver.Delivery {
	ds := make([]driver.Delivery, 0, len(msgs))
	size := 0
	for i := range msgs {
		if size += len(msgs[i].Body); size > r.MaxBytes && len(ds) > 0 {
			for _, d := range slices.Backward(msgs[i:]) {
				_ = in.back(d.DeliveryTag, false) // a lost channel does the same
			}
			break
		}
		if d, ok := s.admit(in, &msgs[i], r.Lease); ok {
			ds = append(ds, d)
		}
	}
	return ds
}

// admit turns what came into a delivery; ok is false for a message that is past
// its limit, or could not be dead-lettered before: it is not for consumers.
func (s *source) admit(in *inbox, d *amqp.Delivery, ttl time.Duration) (dd driver.Delivery, ok bool) {
	h := &held{inbox: in, tag: d.DeliveryTag, spec: s.spec, counted: s.counts}
	s.c.decode(d, &h.message, &h.inner)
	limit := s.spec.DeliveryLimit
	if h.inner.bury == "" && (limit == 0 || h.inner.attempts < limit) {
		return s.c.hold(h, ttl), true
	}
	h.attempt = h.inner.attempts
	in.open.Add(1)
	ctx, cancel := context.WithTimeout(s.c.ctx, s.c.o.PublishFor)
	defer cancel()
	if o := s.c.finish(ctx, []*held{h}, []*driver.Settlement{{Verb: driver.Nack}})[0]; o.Err != nil && !in.dead() {
		_ = in.back(d.DeliveryTag, false) // later, then
		s.c.settled(in, 1)
	}
	return dd, false
}
