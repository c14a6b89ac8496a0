package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// handBackTimeout bounds the release of what a vanished client had leased.
// Past it the deliveries come back when their leases end.
const handBackTimeout = 5 * time.Second

// pollBytes bounds what a receive gets that had to wait: room for the answers
// of all who wait is not reserved, so that they do not shut others out.
const pollBytes = 256 << 10

// serveReceive leases messages. If the client has gone, or goes while it is
// being answered, they are handed back.
func serveReceive(c *call) error {
	var in wire.ReceiveRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	req := in.Driver()
	caps := c.queues().Caps()
	if err := req.Validate(&caps); err != nil {
		return err
	}
	ctx := c.r.Context()
	if in.ReceiveID != "" {
		if err := queuedriver.ValidateConsumer("receive_id", in.ReceiveID); err != nil {
			return err
		}
		var leave func()
		ctx, leave = c.s.receives.enter(ctx, in.ReceiveID)
		defer leave()
	}
	ctx, leave := c.s.consumers.enter(ctx, consumerKey(req.Queue, req.Consumer))
	defer leave()
	ds, err := c.receive(ctx, req)
	if err != nil {
		return err
	}
	ended := ctx.Err() != nil
	if ended {
		c.handBack(ds)
		ds = nil
	}
	if c.gone() {
		return goneError{c.r.Context().Err()}
	}
	out := wire.ReceiveReply{Deliveries: make([]wire.Delivery, len(ds)), Ended: ended}
	for i := range ds {
		out.Deliveries[i] = wire.NewDelivery(&ds[i])
	}
	if err := c.reply(&out); err != nil {
		c.handBack(ds)
		return err
	}
	c.s.metrics.received.Add(float64(len(ds)))
	return nil
}

// consumerKey is what a Detach knows of the receives that it ends. The driver
// alone could miss one that has just looked and is about to wait.
func consumerKey(queue, consumer string) string { return queue + "\x00" + consumer }

// receive takes what is there, and waits if that is nothing. Waited counts
// from the receipt of the request.
func (c *call) receive(ctx context.Context, req *queuedriver.ReceiveRequest) ([]queuedriver.Delivery, error) {
	began := time.Now()
	if err := c.reserve(c.r.Context(), int64(max(req.MaxBytes, queuedriver.MaxBody))); err != nil {
		return nil, err
	}
	first := *req
	first.Wait = 0
	ds, err := c.take(ctx, &first)
	c.keep(bodies(ds))
	left := req.Wait - time.Since(began)
	if err != nil || len(ds) > 0 || left <= 0 {
		return ds, err
	}
	later := *req
	later.Wait, later.MaxBytes = left, min(req.MaxBytes, pollBytes)
	ds, err = c.poll(ctx, &later)
	if err != nil || len(ds) == 0 || ctx.Err() != nil {
		return ds, err
	}
	if err := c.reserve(ctx, bodies(ds)); err != nil {
		c.handBack(ds)
		return nil, err
	}
	return ds, nil
}

// poll waits for messages.
func (c *call) poll(ctx context.Context, req *queuedriver.ReceiveRequest) ([]queuedriver.Delivery, error) {
	// The driver ends the wait by itself: this is the rear guard.
	waiting, done, err := c.wait(req.Wait + time.Second)
	if err != nil {
		return nil, err
	}
	defer done()
	waiting, cancel := context.WithCancel(waiting)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	c.s.metrics.receiveWaiters.Inc()
	defer c.s.metrics.receiveWaiters.Dec()
	return c.take(waiting, req)
}

// take calls the driver. A wait that ended because the client went or the
// server drains gave nothing; that is no error.
func (c *call) take(ctx context.Context, req *queuedriver.ReceiveRequest) ([]queuedriver.Delivery, error) {
	began := time.Now()
	ds, err := c.queues().Receive(ctx, req)
	if err != nil {
		if ctx.Err() != nil && isEnded(err) {
			return nil, nil
		}
		return nil, err
	}
	for i := range ds {
		ds[i].Waited = max(0, ds[i].Waited) + began.Sub(c.received)
	}
	return ds, nil
}

func bodies(ds []queuedriver.Delivery) int64 {
	n := 0
	for i := range ds {
		n += len(ds[i].Message.Body)
	}
	return int64(n)
}

func isEnded(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// handBack releases deliveries that their client has not got.
func (c *call) handBack(ds []queuedriver.Delivery) {
	if len(ds) == 0 {
		return
	}
	ss := make([]queuedriver.Settlement, len(ds))
	for i := range ds {
		ss[i] = queuedriver.Settlement{Ref: ds[i].Ref, Verb: queuedriver.Release}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), handBackTimeout)
	defer cancel()
	if _, err := c.queues().Settle(ctx, ss); err != nil {
		c.s.cfg.Logger.Warn("deliveries of a client that went away come back only when their leases end", "request", c.id, "deliveries", len(ds), "error", err)
		return
	}
	c.s.metrics.handedBack.Add(float64(len(ds)))
}

// serveCancelReceive ends a waiting receive. Once it has answered, the
// receive has ended: what it leased was handed back, or is on its way to the
// client.
func serveCancelReceive(c *call) error {
	var in wire.CancelReceiveRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	if err := queuedriver.ValidateConsumer("receive_id", in.ReceiveID); err != nil {
		return err
	}
	if err := c.s.receives.cancel(c.r.Context(), in.ReceiveID); err != nil {
		return err
	}
	return c.reply(nil)
}

// serveSettle settles deliveries, after all of the request has been checked.
func serveSettle(c *call) error {
	var in wire.SettleRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	if n := len(in.Ack) + len(in.Nack) + len(in.Release) + len(in.Reject) + len(in.Extend); n == 0 || n > queuedriver.MaxBatch {
		return lease.Invalidf("settlements", "must be 1 to %d, are %d", queuedriver.MaxBatch, n)
	}
	ss, err := in.Driver()
	if err != nil {
		return err
	}
	caps := c.queues().Caps()
	first := 0 // of the verb
	for i := range ss {
		if i > 0 && ss[i].Verb != ss[i-1].Verb {
			first = i
		}
		if err := ss[i].Validate(&caps); err != nil {
			return settleField(wire.Verbs[ss[i].Verb-1], i-first, err)
		}
	}
	outcomes, err := c.queues().Settle(c.r.Context(), ss)
	if err != nil {
		return err
	}
	if len(outcomes) != len(ss) {
		return fmt.Errorf("the driver returned %d outcomes for %d settlements: %w", len(outcomes), len(ss), lease.ErrUnknown)
	}
	out := wire.SettleReply{Outcomes: make([]wire.SettleOutcome, len(ss))}
	for i, o := range outcomes {
		verb := wire.Verbs[ss[i].Verb-1]
		out.Outcomes[i] = wire.SettleOutcome{
			Delivery: wire.EncodeHandle(ss[i].Ref), Verb: verb, Lease: wire.LeaseMillis(o.TTL),
			DeadLettered: o.DeadLettered, Error: wire.OutcomeOf(o.Err),
		}
		if o.Err != nil {
			out.Failed++
		}
		c.s.metrics.settled(verb, o.Err)
	}
	return c.reply(&out)
}

// settleField names the field of a settlement as it is on the wire.
func settleField(verb string, i int, err error) error {
	var f *lease.FieldError
	if !errors.As(err, &f) {
		return err
	}
	name := f.Field
	if name == "ttl" {
		name = "lease"
	}
	return &lease.FieldError{Field: wire.Indexed(verb, i) + "." + name, Reason: f.Reason}
}
