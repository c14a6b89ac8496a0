package remote

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/wire"
	"github.com/lockkeeper/lockkeeper/lease"
	queuedriver "github.com/lockkeeper/lockkeeper/queue/driver"
)

// What is done about a receive whose caller has left.
const (
	abandonTimeout = 5 * time.Second        // in all
	abandonRetry   = 100 * time.Millisecond // between cancels, while the poll has not answered
)

// Receive polls until there is a message or r.Wait has passed. A caller that
// leaves is let go at once; what its last poll leased on the way is handed
// back behind its back.
func (c *queueConn) Receive(ctx context.Context, r *queuedriver.ReceiveRequest) ([]queuedriver.Delivery, error) {
	whole := *r // Validate fills in what is left out; zero stays zero here
	if err := whole.Validate(&c.caps); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if x, err := c.over(ctx, max(r.Wait, 1), 0); x != nil || err != nil {
		if err != nil {
			return nil, err
		}
		return c.sessionReceive(ctx, x, &whole)
	}
	began := time.Now()
	for {
		sent := time.Since(began)
		wait := max(0, min(r.Wait-sent, c.c.poll))
		ds, ended, err := c.poll(ctx, r, wait)
		if err != nil {
			return nil, err
		}
		// Waited counts from this call, not from its last poll.
		for i := range ds {
			ds[i].Waited += sent
		}
		if len(ds) > 0 || ended || time.Since(began) >= r.Wait {
			return ds, nil
		}
	}
}

type polled struct {
	ds    []queuedriver.Delivery
	ended bool // by the daemon, before its time
	err   error
}

func (c *queueConn) poll(ctx context.Context, r *queuedriver.ReceiveRequest, wait time.Duration) (ds []queuedriver.Delivery, ended bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	if err := c.enter(ctx); err != nil { // for the goroutine
		return nil, false, err
	}
	in := wire.ReceiveRequest{
		Queue: r.Queue, Consumer: r.Consumer, Max: r.Max, MaxBytes: r.MaxBytes,
		Wait: wire.Ceil(wait), Lease: wire.LeaseMillis(r.Lease), ReceiveID: rand.Text(),
	}
	// The request must not be cut off with ctx: an answer that is on its way
	// then would be lost, with the messages in it leased to nobody.
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	answer := make(chan polled, 1)
	go func() {
		defer c.calls.Done()
		defer cancel()
		ds, ended, err := c.receive(own, in, wait)
		answer <- polled{ds, ended, err}
	}()
	select {
	case a := <-answer:
		return a.ds, a.ended, a.err
	case <-ctx.Done():
		abandon := func(ctx context.Context) { c.abandon(ctx, in.ReceiveID, answer, cancel) }
		if !c.errand(abandonTimeout, abandon) {
			cancel() // the daemon sees the request end, and hands back
		}
		return nil, false, ctx.Err()
	}
}

// abandon ends a poll at the daemon and hands back what it got all the same.
func (c *queueConn) abandon(ctx context.Context, id string, answer chan polled, cancel context.CancelFunc) {
	defer cancel()
	for {
		if err := c.call(ctx, request{method: http.MethodPost, path: "/v1/receive/cancel"}, wire.CancelReceiveRequest{ReceiveID: id}, nil); err != nil {
			return // cancel cuts the poll off: the daemon hands back
		}
		select {
		case a := <-answer:
			c.handBack(ctx, a.ds)
			return
		case <-time.After(abandonRetry): // it overtook the poll
		case <-ctx.Done():
			return
		}
	}
}

// handBack releases deliveries that nobody waits for any more. If it fails
// they come back when their leases end.
func (c *queueConn) handBack(ctx context.Context, ds []queuedriver.Delivery) {
	if len(ds) == 0 {
		return
	}
	ss := make([]queuedriver.Settlement, len(ds))
	for i := range ds {
		ss[i] = queuedriver.Settlement{Ref: ds[i].Ref, Verb: queuedriver.Release}
	}
	_, _ = c.Settle(ctx, ss)
}

// receive is one request.
func (c *queueConn) receive(ctx context.Context, in wire.ReceiveRequest, wait time.Duration) (ds []queuedriver.Delivery, ended bool, err error) {
	var out wire.ReceiveReply
	if err := c.call(ctx, request{method: http.MethodPost, path: "/v1/receive", wait: wait}, in, &out); err != nil {
		return nil, false, err
	}
	ds = make([]queuedriver.Delivery, len(out.Deliveries))
	for i := range out.Deliveries {
		if ds[i], err = out.Deliveries[i].Driver(); err != nil {
			return nil, false, fmt.Errorf("%w: the answer cannot be read: %w", lease.ErrUnknown, err)
		}
	}
	return ds, out.Ended, nil
}
